"""`python -m benchmarks.backends CHECKPOINT...`: time to open a session and to click, torch against onnxruntime.

The name of a network stands for a checkpoint with weights derived from the names of its tensors. Sessions of the two
backends alternate on one image of random pixels, with the refinement `standard`. The table shows medians of CPU time,
which other load on the machine changes little, and the median of the ratios of neighbouring sessions.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro

from benchmarks.networks import seeded
from models import checkpoint
from models.backend import Backend
from models.networks import NETWORKS, create
from models.predictor import Predictor

BACKENDS: tuple[Backend, ...] = ("torch", "onnx")
STEPS = ("opening", "first click", "click")


@dataclass(frozen=True, kw_only=True)
class Options:
    """Compare the backends torch and onnxruntime."""

    sources: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Folders of checkpoints, or names of networks."""
    repeats: int = 7
    """Sessions per backend, after one to warm up."""
    threads: int = 1
    """Threads of torch."""
    hw: tuple[int, int] = (480, 640)
    """Height and width of the image in pixels."""


def milliseconds(run: Callable[[], Any]) -> float:
    """Return the CPU time of a call."""
    began = time.process_time()
    run()
    return 1e3 * (time.process_time() - began)


def session(predictor: Predictor, image: np.ndarray) -> list[float]:
    """Return the times of STEPS in one session; the last one is the mean of two later clicks."""
    height, width = image.shape[:2]
    opened = predictor.open(image)
    opening = milliseconds(opened.look_ahead)
    clicks = [
        milliseconds(lambda place=place, sign=sign: opened.click(height * place, width * place, sign))
        for place, sign in ((0.5, True), (0.2, False), (0.7, True))
    ]
    return [opening, clicks[0], statistics.mean(clicks[1:])]


def row(source: str, image: np.ndarray, repeats: int) -> str:
    """Measure one network and return its line of the table."""
    with tempfile.TemporaryDirectory() as home:
        folder = Path(source)
        if source in NETWORKS:
            folder = checkpoint.save(seeded(create(source)), Path(home) / "checkpoint")
        predictors = {backend: Predictor(folder, "standard", backend=backend) for backend in BACKENDS}
        times: dict[Backend, list[list[float]]] = {backend: [] for backend in BACKENDS}
        for number in range(repeats + 1):  # the first one warms up
            for backend in BACKENDS if number % 2 else reversed(BACKENDS):
                times[backend].append(session(predictors[backend], image))
    cells = [predictors["torch"].network_name]
    for step in range(len(STEPS)):
        by_torch, by_onnx = ([run[step] for run in times[backend][1:]] for backend in BACKENDS)
        medians = [statistics.median(runs) for runs in (by_torch, by_onnx)]
        if max(medians) < 1:  # the network has nothing to do in this step
            cells.append("0")
            continue
        ratio = statistics.median(b / a for a, b in zip(by_torch, by_onnx, strict=True) if a > 0)
        shown = f", x {ratio:.2f}" if min(medians) >= 1 else ""
        cells.append(f"{medians[0]:.0f} / {medians[1]:.0f}{shown}")
    return f"| {' | '.join(cells)} |"


def main(options: Options) -> None:
    """Measure and print the table."""
    torch.set_num_threads(options.threads)
    image = np.random.default_rng(0).integers(0, 256, (*options.hw, 3), np.uint8)
    print(f"| network | {' | '.join(f'{step}, torch / onnx ms' for step in STEPS)} |")
    print(f"|{'---|' * (len(STEPS) + 1)}", flush=True)
    for source in options.sources:
        print(row(source, image, options.repeats), flush=True)


if __name__ == "__main__":
    main(tyro.cli(Options))
