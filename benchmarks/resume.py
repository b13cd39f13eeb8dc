"""Seconds that a user of jobs.train waits for a run to start, to write a checkpoint and to resume.

    python -m benchmarks.resume [--json OUT]

First step: from the command to the first line of the run's history. Resumed: the same with `--resume`, after a kill;
the difference to the first is the cost of resuming. A checkpoint with Adam's moments is timed in this process; with
sharded checkpoints (FSDP), training continues while they are written.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from models import checkpoint
from models.networks import create
from pipeline.training.checkpointing import load_state, save_state, save_weights
from pipeline.training.config import OptimizerConfig, TrainingConfig
from pipeline.training.loop import Trainer

FLAGS = [
    "--data.reader",
    "scenes",
    "--data.options",
    "num_images",
    "16",
    "--training.batch-size",
    "4",
    "--training.log-every",
    "1",
    "--training.pictures-every",
    "0",
    "--training.checkpoint-every",
    "4",
    "--network.fresh",
]


AFTERWARDS_S = 10.0
"""Seconds to wait after a kill: workers run in separate sessions and make another step before they notice."""


def first_step(command: list[str], history: Path, *, kill_after: int = 0) -> float:
    """Run a training job and return the seconds from its start to the next line of its history.

    With `kill_after`, the job is killed after that many lines, so that an interrupted run is left to resume.
    """
    lines = num_lines(history)
    began, found = time.monotonic(), 0.0
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)
    while process.poll() is None:
        if not found and num_lines(history) > lines:
            found = time.monotonic() - began
        if kill_after and num_lines(history) >= kill_after:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            time.sleep(AFTERWARDS_S)
            return found
        time.sleep(0.05)
    if process.returncode or not found:
        assert process.stderr is not None
        raise RuntimeError(f"{' '.join(command)} failed: {process.stderr.read().decode()[-2000:]}")
    return found


def num_lines(history: Path) -> int:
    """Count the steps that a run has logged."""
    return len(history.read_text().splitlines()) if history.is_file() else 0


def checkpoint_seconds(name: str, folder: Path) -> dict[str, float]:
    """Return the seconds to write a network's checkpoint with the optimiser's moments, and to read it back."""
    network = create(name)
    config = TrainingConfig(optimizer=OptimizerConfig(lr=1e-5))
    trainer = Trainer(network=network, module=network, config=config)
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    trainer.optimizer.step()
    began = time.monotonic()
    save_weights(trainer, folder, {})
    save_state(trainer, folder)
    written = time.monotonic() - began
    began = time.monotonic()
    again, _ = checkpoint.load(folder)
    load_state(Trainer(network=again, module=again, config=config), folder, 1)
    size = sum(file.stat().st_size for file in folder.iterdir()) / 2**30
    return {"write s": written, "read s": time.monotonic() - began, "GiB": size}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="cpu_xtiny")
    parser.add_argument("--network", default="simpleclick_vit_base", help="network whose checkpoint is timed")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    found: dict[str, list[float]] = {"first step": [], "first step, resumed": []}
    with tempfile.TemporaryDirectory() as temporary:
        for number in range(args.repeats):
            run = Path(temporary) / f"run-{number}"
            history = run / "ray" / "history.jsonl"
            jobs = [sys.executable, "-m", "jobs.train"]
            started = [*jobs, args.preset, *FLAGS, "--training.steps", "12", "--out", str(run)]
            found["first step"].append(first_step(started, history, kill_after=6))
            resumed = [*jobs, "--resume", str(run)]
            found["first step, resumed"].append(first_step(resumed, history))
        written = checkpoint_seconds(args.network, Path(temporary) / "checkpoint")
    start, resumed_start = (statistics.median(seconds) for seconds in found.values())
    print(f"| {args.preset} | s (median of {args.repeats}) |\n|---|---|")
    print(f"| from the command to the first step | {start:.1f} |\n| the same, resumed | {resumed_start:.1f} |")
    print(f"{args.network}: " + ", ".join(f"{name} {value:.2f}" for name, value in written.items()))
    if args.json:
        result = {"first_step": {"value": start, "unit": "s"}, "resumed": {"value": resumed_start, "unit": "s"}}
        args.json.write_text(json.dumps({**result, args.network: written}, indent=2) + "\n")


if __name__ == "__main__":
    main()
