"""`python -m benchmarks.evaluator`: objects per second of the evaluator against a plain loop over the objects.

The loop works as the public code does: the network eager, contiguous and in float32, in its published form; one object
after another, with robot user and network taking turns. The evaluator prepares the network, keeps several objects in
flight and runs on Ray workers. Both play the same objects for the same number of clicks, and times run from the first
to the last finished piece, without the start. Click lists are compared, because rounding can change a pixel at the
threshold, and with it a click.
"""

import copy
import json
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import tyro

from benchmarks.networks import seeded
from models import checkpoint as checkpoints
from models.networks import create
from models.predictor import answer_with
from models.refinement import build, named
from pipeline.data.readers import open_reader
from pipeline.data.sample import Reader
from pipeline.evaluation.config import EvaluationConfig, EvaluationScaling
from pipeline.evaluation.evaluator import choose_objects
from pipeline.evaluation.method import Method
from pipeline.evaluation.object_row import ObjectRow
from pipeline.evaluation.tasks import TASKS, Game


@dataclass(frozen=True, kw_only=True)
class Options:
    """Measure the evaluator."""

    network: str = "emc_segformer_b0"
    """Network, one of NETWORKS, if no checkpoint is given."""
    checkpoint: Path | None = None
    """Folder of a checkpoint; default: seeded weights, whose masks are meaningless but take the same time."""
    refine: str = "standard"
    """Refinement to evaluate."""
    objects: int = 24
    """Number of objects."""
    clicks: int = 10
    """Clicks per object."""
    workers: tuple[int, ...] = (1, 2)
    """Numbers of Ray workers."""
    gpu: bool = False
    """Run on a GPU."""
    batch: int = 64
    """Views per forward on a GPU."""
    reader: str = "scenes"
    """Format of the data set, one of READERS."""
    root: str | None = None
    """Folder of the data set."""
    options: dict[str, str] = field(default_factory=lambda: {"num_images": "12", "height": "384", "width": "512"})
    """Further settings of the reader."""
    json: Path | None = None
    """File to write the results to."""


def plain_loop(
    network: Any, reader: Reader, config: EvaluationConfig, refine: str, device: torch.device
) -> tuple[float, dict[str, Any]]:
    """Return the objects per second and the click lists of the plain loop."""
    from models import steps

    network = copy.deepcopy(network).to(device)
    method = Method(name=refine, step=build(named(refine), network.traits), answer=answer_with(network), device=device)
    clicks: dict[str, Any] = {}
    ends: list[float] = []
    with torch.inference_mode():
        for item, object_ids in choose_objects(reader.items(), config):
            sample = reader.load(item)
            for game in TASKS["single"](sample, object_ids, method, config):
                assert isinstance(game, Game), game
                clicks[f"{item.id} {game.object}"] = steps.run(game.steps, method.answer).clicks.rows()
                ends.append(time.monotonic())
    return (len(ends) - 1) / (ends[-1] - ends[0]), clicks


def ours(
    checkpoint: Path, reader: Reader, config: EvaluationConfig, refine: str, scaling: EvaluationScaling
) -> tuple[float, dict[str, Any]]:
    """Return the objects per second and the click lists of the evaluator."""
    from pipeline.evaluation.ray_evaluate import Part, evaluate_on_ray

    ends: list[tuple[float, int]] = []
    (result,) = evaluate_on_ray(
        checkpoint=str(checkpoint),
        refinements={refine: named(refine)},
        parts=[Part(dataset="bench", reader=reader, config=config)],
        scaling=scaling,
        progress=lambda part, done, total: ends.append((time.monotonic(), done)),
    )
    # The first piece of each worker includes the worker's start.
    first = ends[min(2 * (scaling.actors or 1), len(ends)) - 1]
    rows: list[ObjectRow] = result.rows[refine]
    clicks = {f"{row.item} {row.object}": row.clicks for row in rows}
    return (ends[-1][1] - first[1]) / (ends[-1][0] - first[0]), clicks


def main(options: Options) -> None:
    """Measure, print a table, write JSON."""
    import cv2

    from jobs.ray_env import connected

    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    device = torch.device("cuda" if options.gpu else "cpu")
    reader = open_reader(options.reader, options.root, "", options.options)
    config = EvaluationConfig(
        max_clicks=options.clicks, target_iou=1.01, max_objects=options.objects, boundaries=False, min_area=1
    )
    if options.checkpoint is None:
        network, folder = seeded(create(options.network)), tempfile.mkdtemp()
        checkpoint = checkpoints.save(network, Path(folder) / "checkpoint")
    else:
        checkpoint, (network, _) = options.checkpoint, checkpoints.load(options.checkpoint)
    rate, expected = plain_loop(network, reader, config, options.refine, device)
    out = {"plain loop": {"value": rate, "unit": "objects/s", "baseline": rate, "ratio": 1.0}}
    print(f"{options.network}, {options.refine}, {len(expected)} objects x {options.clicks} clicks")
    print(f"{'plain loop':<12} {rate:7.3f} objects/s", flush=True)
    with connected():
        for workers in options.workers:
            scaling = EvaluationScaling(actors=workers, gpu=options.gpu, max_batch=options.batch)
            found, clicks = ours(checkpoint, reader, config, options.refine, scaling)
            same = sum(clicks[name] == expected[name] for name in expected)
            name = f"{workers} worker" + ("s" if workers > 1 else "")
            print(f"{name:<12} {found:7.3f} objects/s  x {found / rate:.2f}  "
                  f"({same} of {len(expected)} click lists the same)", flush=True)  # fmt: skip
            out[name] = {"value": found, "unit": "objects/s", "baseline": rate, "ratio": found / rate}
    if options.json is not None:
        options.json.write_text(json.dumps(out, indent=2) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Options))
