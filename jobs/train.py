"""`python -m jobs.train PRESET [--flags]`: fine-tune a network, on this machine or on a cluster (`ray job submit`).

`python -m jobs.train --resume RUN` resumes a run that was stopped, with the config in its folder.
"""

import contextlib
import dataclasses
import uuid
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import torch

from jobs import before_after, tracking
from jobs.cli import (
    as_dict,
    data_root,
    from_dict,
    location,
    out_place,
    parse,
    run_job,
    take_preset,
    writing,
)
from jobs.config import TrainConfig, for_reader_of
from jobs.datasets import absolute, dataset_name, settle_floor
from jobs.presets import PRESETS
from jobs.progress import EmptySamples, followed
from jobs.start import of_checkpoint, refinement_of, start_of
from models import checkpoint as checkpoints
from models.errors import InputError
from models.files import make_folder, write_json
from models.networks import create
from models.networks.base import Network
from models.networks.pooled import pools_views
from models.refinement import build, named, to_dict
from models.storage import Storage, is_address, joined, split, without_key
from models.working import place_of, put, shown
from pipeline.data.config import DataConfig
from pipeline.data.hold_out import HoldOut
from pipeline.data.leave_out import training_reader
from pipeline.data.readers import open_reader
from pipeline.data.sample import Item, Reader
from pipeline.data.targets import check_targets
from pipeline.saved import Settings, differences
from pipeline.training.config import ScalingConfig
from pipeline.training.job import origin
from pipeline.training.objectives import frozen_parts
from pipeline.training.record import read_photos, read_progress
from pipeline.training.runner import rest
from pipeline.training.validation import BEST, Validator

CONFIG, SAMPLES = "config.json", "samples.json"
"""Files in a run's folder. SAMPLES: the number of samples, those without an object, and fingerprints of the photos."""


def main(argv: Sequence[str]) -> int:
    """Parse the flags, train, and print the locations of the results."""
    if argv and argv[0].split("=")[0] == "--resume":
        preset, config = resumed(argv)
    else:
        preset, config = read_flags(argv, "train")
    from jobs.ray_env import connected

    checked = check(dataclasses.replace(config, out=out_place("--out", config.out)))
    with writing("--out", config.out) as out, connected(config.ray, num_cpus=config.num_cpus):
        train(checked, out, tracking.answering_uri(out), name=preset)
    return 0


def read_flags(argv: Sequence[str], job: str) -> tuple[str, TrainConfig]:
    """Parse `PRESET --flags` into the preset's name and its config with the values of the flags."""
    preset, config, rest = take_preset(argv, PRESETS, job)
    config = dataclasses.replace(config, data=for_reader_of(rest, config.data))
    config = parse(TrainConfig, rest, prog=f"{job} {preset}", default=config)
    return preset, dataclasses.replace(config, out=config.out or f"runs/{preset}-{datetime.now():%Y%m%d-%H%M%S}")


def resumed(argv: Sequence[str]) -> tuple[str, TrainConfig]:
    """Parse `--resume RUN` into the preset's name and the config in the run's folder, with the values of further flags.

    A run can resume with another number of workers and on another cluster. Raises InputError if RUN is not a run.
    """
    given, rest = (argv[0].split("=", 1)[1], argv[1:]) if "=" in argv[0] else (argv[1] if argv[1:] else "", argv[2:])
    place = location("--resume", given) if given else ""
    saved = saved_config(place)
    if saved is None:
        raise InputError(f"--resume {without_key(given)}: expected the folder of a run, the --out of jobs.train")
    try:
        config = dataclasses.replace(from_dict(TrainConfig, saved["config"]), out=place)
    except (KeyError, TypeError, ValueError) as error:
        path = Storage(place).path(CONFIG)
        raise InputError(f"{path} is not a config that this version can read: {error}") from error
    return saved.get("preset", split(place)[1]), parse(TrainConfig, rest, prog="train --resume RUN", default=config)


def check(config: TrainConfig) -> TrainConfig:
    """Check the config before anything is started, and make paths absolute for workers; raises InputError."""
    config = of_checkpoint(config)
    data, network, start = config.data, config.network, config.network.start_from
    if start is None and not (network.fresh or network.pretrained):
        raise InputError(
            "this preset fine-tunes a checkpoint: give --network.start-from DIR, or --network.fresh to train fresh "
            "weights"
        )
    options = network.options(data.crop_hw)
    with torch.device("meta"):  # shapes only: refuses a size or a refinement that the network does not take
        shape = (
            create(network.name, **options)
            if start is None
            else checkpoints.network_of(checkpoints.describe(start), **options)
        )
    going_on = (saved_config(config.out) or {}).get("config")
    refine = config.refine or (going_on or {}).get("refine") or refinement_of(start, shape)
    build(named(refine), shape.traits)
    if data.root is not None:
        data = dataclasses.replace(data, root=data_root("--data.root", data.root))
    config.scaling.check_batch(config.training)
    check_objective(config, shape)
    check_forwards(config, shape)
    data = dataclasses.replace(data, leave_out=tuple(absolute("--data.leave-out", text) for text in data.leave_out))
    reader = training_reader(data)
    items = reader.items()
    if not items:
        raise InputError(f"--data.root {data.root}: the data set has no images")
    check_coarse(data, items)
    if config.validation.hold_out:
        HoldOut(reader=reader, fraction=config.validation.hold_out, side="held_out").of(items)
        items = HoldOut(reader=reader, fraction=config.validation.hold_out, side="training").of(items)
    return dataclasses.replace(
        config,
        data=settle_floor(data, reader, items, going_on),
        refine=refine,
        before_after=before_after.settle(config.before_after, data, reader, items, going_on),
    )


def check_coarse(data: DataConfig, items: Sequence[Item]) -> None:
    """Raise InputError if no image's id begins as --data.coarse says: all borders would be scored."""
    for start in data.coarse:
        if not any(item.id.startswith(start) for item in items):
            raise InputError(
                f"--data.coarse {start}: no image's id begins with it (an id is {items[0].id!r}); give --data.coarse "
                "without a value to treat all masks as coarse"
            )


def check_objective(config: TrainConfig, network: Network) -> None:
    """Raise InputError for an objective that the network or the data settings do not support."""
    data, objective = config.data, config.training.objective
    frozen_parts(network, config.training)
    for name, enabled in (("focus", data.focus.enabled), ("exemplar", data.exemplar.enabled)):
        if objective == name and not enabled:
            raise InputError(f"--training.objective {name} needs more data columns: give --data.{name}.enabled as well")
    sides = getattr(network.config, "input_hw", None)
    if objective == "focus" and sides is not None and tuple(sides) != (data.focus.size, data.focus.size):
        raise InputError(
            f"--data.focus.size {data.focus.size}: close-ups must have the size of the views of "
            f"{config.network.name}, {tuple(sides)}"
        )


def check_forwards(config: TrainConfig, network: Network) -> None:
    """Raise InputError for forwards of one sample if the network normalises pooled values over the batch."""
    training = config.training
    network.train()
    rest(frozen_parts(network, training))
    alone = config.scaling.forwards_of_one(training)
    if alone and pools_views(network):
        raise InputError(
            f"--training.batch-size {training.batch_size} with {alone[0]} workers and --training.accumulate "
            f"{training.accumulate} leaves a forward one sample: {config.network.name} pools samples to one value per "
            "channel and normalises these over the batch, so a forward in training needs at least 2. Raise "
            "--training.batch-size, or lower --training.accumulate or --scaling.workers"
        )


def train(config: TrainConfig, out: Path, uri: str, *, name: str) -> Path:
    """Train inside a connection to Ray; return the folder of the final checkpoint, OUT/checkpoint."""
    from pipeline.training.ray_train import HISTORY, Job
    from pipeline.training.ray_train import train as train_on_ray

    reader = training_side(config)
    items = reader.items()
    check_targets(reader, items, config.data)
    make_folder(out)
    weights = start_of(config, out)
    run_id = _resume_or_start(out, uri, name, config)
    data = config.data
    tracking.log_dataset(uri, run_id, dataset_name(data.reader, data.split, data.root), reader, "training")
    storage, mailbox = place_of(out / "ray"), f"training-{uuid.uuid4().hex[:12]}"
    validator = validator_of(config, storage, tracking.TrainingLogger(uri, run_id), mailbox)
    objects = f"{count_objects(items)} objects ({config.data.reader})"
    print(f"{config.network.name} on {len(items)} images, {objects} -> {shown(out)}")
    job = Job(
        network=config.network.name,
        network_options=config.network.options(config.data.crop_hw),
        start_from=weights,
        data=config.data,
        training=config.training,
        scaling=fit_scaling(config.scaling),
        storage=storage,
        info={
            "refinement": to_dict(named(config.refine)),
            "preset": name,
            "run_id": run_id,
            **origin(weights),
        },
        log=tracking.TrainingLogger(uri, run_id),
        log_file=tracking.file_logger(uri, run_id, "training"),
        watch=tracking.system_metrics(uri, run_id, config.system_metrics),
    )
    make_folder(out / "ray")
    empty = EmptySamples(config.data)
    start = config.network.start_from
    if config.before_after.objects and start is not None:
        before_after.play(config, start, out / "before", "Before training")
    try:
        beside = validator.beside() if validator is not None else contextlib.nullcontext()
        with followed(joined(storage, HISTORY), config.training.steps, empty), beside:
            last = train_on_ray(job, reader, items, mailbox=mailbox)
    except BaseException:
        tracking.end_run(uri, run_id, "FAILED")
        raise
    final = checkpoints.copy(last, out / "checkpoint")
    progress = read_progress(last)
    refused = progress["refused"]
    write_json(out / "refused.json", refused)
    tracking.log_files(uri, run_id, out / "refused.json", "data")
    used = {name: progress[name] for name in ("samples", "without_object")}
    write_json(out / SAMPLES, {**used, "photos": read_photos(last)})
    tracking.log_files(uri, run_id, out / SAMPLES, "data")
    print(f"samples     {used['samples']}, {used['without_object']} of them without an object")
    if advice := empty.advice(used["samples"], used["without_object"]):
        print(f"warning: {advice}")
    put(out)
    print(f"checkpoint  {shown(final)}", flush=True)
    if Storage(storage).exists(f"{BEST}/{checkpoints.DESCRIPTION}"):
        checkpoints.copy(joined(storage, BEST), out / BEST)
        print(f"best by NoC {shown(out / BEST)}", flush=True)
    if config.before_after.objects:
        best = out / BEST if (out / BEST).is_dir() else final
        played = before_after.play(config, best, out / "after", "After training")
        if start is not None and played[0]["objects"] < 2:
            print("before and after are not compared: that needs at least two held-out objects")
        elif start is not None:
            page = before_after.report(config, out / "before", out / "after", out)
            tracking.log_files(uri, run_id, page, "report")
    if config.register:
        print(f"registered  {tracking.register(uri, run_id, final, name=config.register)}")
    tracking.end_run(uri, run_id)
    if refused:
        print(f"refused {len(refused)} items or objects; they are listed in {shown(out / 'refused.json')}")
    print(f"MLflow      run {run_id} at {uri}")
    return final


def training_side(config: TrainConfig) -> Reader:
    """Open the training data without the held-out images."""
    data, hold_out = config.data, config.validation.hold_out
    reader = training_reader(data)
    return HoldOut(reader=reader, fraction=hold_out, side="training") if hold_out else reader


def validator_of(
    config: TrainConfig, storage: str, log: Callable[[int, dict[str, float]], None], mailbox: str
) -> Validator | None:
    """Return the validator on the held-out images; None if there are none."""
    from pipeline.ray_refusals import Refusals
    from pipeline.training.ray_train import newest_checkpoint

    data, hold_out = config.data, config.validation.hold_out
    if not hold_out:
        return None
    whole = open_reader(data.reader, data.root, data.split, data.options, data)
    held = HoldOut(reader=whole, fraction=hold_out, side="held_out")
    held.items()
    newest, say = partial(newest_checkpoint, storage), partial(print, flush=True)
    return Validator(
        config=config.validation,
        reader=held,
        storage=storage,
        newest=newest,
        log=log,
        say=say,
        end=Refusals(mailbox).ask_to_end,
    )


def count_objects(items: Sequence[Item]) -> int:
    """Count the objects of a data set; prepared data stores the number, so it is not read."""
    known = getattr(items, "num_objects", None)
    return sum(len(item.object_ids) for item in items) if known is None else known


def fit_scaling(scaling: ScalingConfig) -> ScalingConfig:
    """Fit a run into a separate Ray; on a joined cluster, which may grow, keep the flags. Raises InputError."""
    from jobs.ray_env import is_own, refuse_nodes, resources
    from pipeline.training.ray_train import with_small_cluster

    if not is_own():
        return scaling
    refuse_nodes("--scaling.nodes", scaling.nodes)
    refuse_nodes("--scaling.data-nodes", scaling.data_nodes)
    have = resources()
    if scaling.gpu and have.get("GPU", 0) < scaling.workers:
        raise InputError(
            f"--scaling.gpu with {scaling.workers} workers needs {scaling.workers} GPUs, but Ray finds "
            f"{have.get('GPU', 0):.0f}: lower --scaling.workers or give --scaling.no-gpu"
        )
    return with_small_cluster(scaling, have.get("CPU", 1))


def settings_of(config: TrainConfig) -> Settings:
    """Return every setting that determines the weights of a run, which excludes where it runs."""
    return Settings(config, without=("out", "scaling", "num_cpus", "experiment", "system_metrics", "ray"))


def _resume_or_start(out: Path, uri: str, name: str, config: TrainConfig) -> str:
    """Return the MLflow run of this folder, or start one; raises InputError if the folder has another config."""
    saved, named = saved_config(place_of(out)), shown(out)
    if saved is not None:
        if "run_id" not in saved:
            raise InputError(
                f"{named} holds a run of jobs.train_alone: resume it with python -m jobs.train_alone {named}"
            )
        if other := differences(saved["config"], settings_of(config)):
            raise InputError(
                f"--out {named} holds a run with another config ({other}; see {shown(out / CONFIG)}): give the same "
                f"flags or --resume {named} to resume that run, or name another folder"
            )
        print(f"resuming the run in {named}")
        return saved["run_id"]
    plain = as_dict(config)
    run_id = tracking.start_run(uri, name, plain, experiment=config.experiment)
    write_json(out / CONFIG, {"run_id": run_id, "preset": name, "config": plain})
    put(out / CONFIG)
    return run_id


def saved_config(place: str) -> dict[str, Any] | None:
    """Return the stored config of the run at a path or an address; None if there is none."""
    if not place or (not is_address(place) and not Path(place).expanduser().is_dir()):
        return None
    storage = Storage(place)
    return storage.read_json(CONFIG) if storage.exists(CONFIG) else None


if __name__ == "__main__":
    run_job(main)
