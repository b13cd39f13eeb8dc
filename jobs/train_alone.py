"""`python -m jobs.train_alone PRESET --out RUN [--flags]`: fine-tune in one process, without Ray.

`python -m jobs.train_alone RUN` goes on with it, here or on another machine: RUN/config.json says all that is needed,
and neither Ray nor MLflow, albumentations, pycocotools or tyro has to be installed there. `--root` and `--start-from`
say where data (as jobs.prepare stored it) and checkpoint lie on that machine.
"""

import argparse
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import torch

from jobs.cli import as_dict, from_dict, run_job
from models import checkpoint as checkpoints
from models.errors import InputError
from models.files import make_folder, write_json
from models.refinement import named
from pipeline.data.config import DataConfig
from pipeline.data.leave_out import training_reader
from pipeline.training import alone
from pipeline.training.config import ScalingConfig, TrainingConfig
from pipeline.training.job import Job

CONFIG = "config.json"


def main(argv: Sequence[str]) -> int:
    """Begin a run by a preset, or go on with one by its folder; prints where the checkpoint is."""
    run = Path(argv[0]) if argv else Path()
    if argv and (run / CONFIG).is_file():
        flags, run = argv[1:], run
    else:
        flags, run = (), begin(argv)
    parser = argparse.ArgumentParser(prog="python -m jobs.train_alone RUN", description=__doc__)
    parser.add_argument("--root", help="where the training data lies, prepared without what leave_out names")
    parser.add_argument("--start-from", help="where the checkpoint to start from lies")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--loaders", type=int, default=1, help="processes that make samples")
    parser.add_argument("--threads", type=int, default=0, help="torch threads on a CPU; 0: as many as torch likes")
    args = parser.parse_args(flags)
    if args.threads:
        torch.set_num_threads(args.threads)
    job = job_of(run, args.root, args.start_from)
    reader = training_reader(job.data)
    last = alone.train(job, reader, reader.items(), device=args.device, loaders=args.loaders)
    print(f"checkpoint  {checkpoints.copy(last, run / 'checkpoint')}")
    return 0


def begin(argv: Sequence[str]) -> Path:
    """Write the config that a preset and flags make; returns the run's folder."""
    from jobs.train import check, read_flags

    preset, config = read_flags(argv, "train_alone")
    config = check(config)
    if config.validation.hold_out:
        raise InputError("--validation.hold-out: this job plays no images beside training; say --validation.hold-out 0")
    run = make_folder(Path(config.out))
    write_json(run / CONFIG, {"preset": preset, "config": as_dict(config)})
    return run


def job_of(run: Path, root: str | None, start_from: str | None) -> Job:
    """Read the job that a run's folder describes; `root` and `start_from` replace its paths."""
    saved = json.loads((run / CONFIG).read_text())
    config = saved["config"]
    data, network = from_dict(DataConfig, config["data"]), config["network"]
    if root is not None:
        data = dataclasses.replace(data, reader="prepared", root=root, split="", options={}, leave_out=())
    make_folder(run / "alone")
    return Job(
        network=network["name"],
        network_options={},
        start_from=start_from or network["start_from"],
        data=data,
        training=from_dict(TrainingConfig, config["training"]),
        scaling=ScalingConfig(),
        storage=str(run / "alone"),
        info={"refinement": dataclasses.asdict(named(config["refine"])), "preset": saved.get("preset", run.name)},
        log=show,
    )


def show(step: int, metrics: dict[str, float]) -> None:
    """Print a line."""
    shown = {name: metrics[name] for name in ("loss", "iou", "images_per_second", "data_wait")}
    print(f"step {step:6}  " + "  ".join(f"{name} {value:.3f}" for name, value in shown.items()), flush=True)


if __name__ == "__main__":
    run_job(main)
