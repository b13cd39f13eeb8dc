"""`python -m jobs.train_alone PRESET --out RUN [--flags]`: fine-tune in one process, without Ray.

`python -m jobs.train_alone RUN` resumes a run, on this machine or another one. It needs RUN/config.json only, and no
Ray, MLflow, albumentations, pycocotools or tyro. `--root` and `--start-from` give the locations of the data (as
written by jobs.prepare) and of the checkpoint on that machine.
"""

import argparse
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from jobs.cli import as_dict, from_dict, run_job
from models import checkpoint as checkpoints
from models.errors import InputError
from models.files import make_folder, write_json
from models.refinement import named, to_dict
from pipeline.data.config import DataConfig
from pipeline.data.leave_out import training_reader
from pipeline.saved import differences
from pipeline.training import alone
from pipeline.training.config import ScalingConfig, TrainingConfig
from pipeline.training.job import START, Job, origin
from pipeline.training.record import read_photos, read_progress

CONFIG = "config.json"
KIND = "alone"
"""Value in config.json that marks runs of this job."""


def main(argv: Sequence[str]) -> int:
    """Start a run from a preset, or resume one in its folder; print the location of the checkpoint."""
    first = argv[0] if argv else ""
    if "/" in first or (first and (Path(first) / CONFIG).is_file()):
        run, flags = Path(first), argv[1:]
    else:
        run, flags = begin(argv), ()
    args = machine(flags)
    job = job_of(run, args.root, args.start_from)
    reader = training_reader(job.data)
    last = alone.train(job, reader, reader.items(), device=args.device, loaders=args.loaders)
    progress = read_progress(last)
    write_json(run / "refused.json", progress["refused"])
    used = {name: progress[name] for name in ("samples", "without_object")}
    write_json(run / "samples.json", {**used, "photos": read_photos(last)})
    print(f"samples     {used['samples']}, {used['without_object']} of them without an object")
    if progress["refused"]:
        print(f"refused     {len(progress['refused'])} items or objects; they are listed in {run / 'refused.json'}")
    print(f"checkpoint  {checkpoints.copy(last, run / 'checkpoint')}")
    return 0


def machine(flags: Sequence[str]) -> argparse.Namespace:
    """Parse the flags about the machine and set torch's threads; raises InputError."""
    parser = argparse.ArgumentParser(prog="python -m jobs.train_alone RUN", description=__doc__)
    parser.add_argument("--root", help="training data on this machine, prepared without the photos to leave out")
    parser.add_argument("--start-from", help="checkpoint to start from, on this machine")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", default=device, help="cuda or cpu; default: cuda if torch finds a GPU")
    parser.add_argument("--loaders", type=int, default=1, help="processes that make samples; default: 1")
    parser.add_argument("--threads", type=int, default=0, help="torch threads on a CPU; default: torch's own choice")
    args = parser.parse_args(flags)
    if args.loaders < 0 or args.threads < 0:
        raise InputError(f"--loaders {args.loaders}, --threads {args.threads}: expected numbers >= 0")
    if args.device.startswith("cuda") and not torch.cuda.is_available():
        raise InputError(f"--device {args.device}: torch finds no GPU on this machine; leave the flag out")
    if args.threads:
        torch.set_num_threads(args.threads)
    return args


def begin(argv: Sequence[str]) -> Path:
    """Write the config of a preset with the values of flags, and return the run's folder.

    Raises InputError for flags that this job does not support, and for the folder of a run with another config.
    """
    from jobs.start import start_of
    from jobs.train import check, read_flags, settings_of
    from pipeline.data.targets import check_targets

    preset, config = read_flags(argv, "train_alone")
    scaling = config.scaling
    for flag, given in (
        ("--validation.hold-out", config.validation.hold_out),
        ("--before-after.objects", config.before_after.objects),
        ("--scaling.gpu (resume with --device cuda instead)", scaling.gpu),
        ("--scaling.workers", scaling.workers > 1),
        ("--register", config.register),
    ):
        if given:
            raise InputError(f"{flag}: this job is one process without validation; leave it out, or use jobs.train")
    config = check(config)
    run = make_folder(Path(config.out))
    if (run / CONFIG).is_file() and (other := differences(read(run)["config"], settings_of(config))):
        raise InputError(
            f"--out {run} holds a run with another config ({other}): give the same flags or use "
            f"python -m jobs.train_alone {run} to resume that run, or name another folder"
        )
    reader = training_reader(config.data)
    check_targets(reader, reader.items(), config.data)
    options = config.network.options(config.data.crop_hw)
    start_of(config, run)
    write_json(run / CONFIG, {"kind": KIND, "preset": preset, "network_options": options, "config": as_dict(config)})
    return run


def read(run: Path) -> dict[str, Any]:
    """Read a run's config.json; raises InputError if the run is not one of this job."""
    path = run / CONFIG
    if not path.is_file():
        raise InputError(f"{run} holds no {CONFIG}: expected the folder of a run of jobs.train_alone")
    try:
        saved = json.loads(path.read_text())
        kind = saved.get("kind")
    except (ValueError, AttributeError) as error:
        raise InputError(f"{path} is damaged: {error}") from error
    if kind != KIND:
        raise InputError(f"{run} holds a run of jobs.train: resume it with python -m jobs.train --resume {run}")
    return saved


def job_of(run: Path, root: str | None, start_from: str | None) -> Job:
    """Build the job that a run's folder describes; `root` and `start_from` replace its paths. Raises InputError."""
    saved = read(run)
    try:
        config = saved["config"]
        data, training = from_dict(DataConfig, config["data"]), from_dict(TrainingConfig, config["training"])
        network, refine = config["network"], named(config["refine"])
        start = start_from or (str(run / START) if network.get("pretrained") else network["start_from"])
        name, options, preset = network["name"], saved["network_options"], saved["preset"]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{run / CONFIG} is not a config that this version can read: {error}") from error
    if root is not None:
        data = dataclasses.replace(data, reader="prepared", root=root, split="", options={}, leave_out=())
    make_folder(run / "alone")
    return Job(
        network=name,
        network_options=options,
        start_from=start,
        data=data,
        training=training,
        scaling=ScalingConfig(),
        storage=str(run / "alone"),
        info={"refinement": to_dict(refine), "preset": preset, **origin(start)},
        log=show,
    )


def show(step: int, metrics: dict[str, float]) -> None:
    """Print the metrics of a step."""
    shown = {name: metrics[name] for name in ("loss", "iou", "images_per_second", "data_wait")}
    print(f"step {step:6}  " + "  ".join(f"{name} {value:.3f}" for name, value in shown.items()), flush=True)


if __name__ == "__main__":
    run_job(main)
