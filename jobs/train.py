"""`python -m jobs.train PRESET [--flags]`: fine-tune a network; here, or on a cluster by `ray job submit`."""

import dataclasses
import json
import shutil
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from jobs import tracking
from jobs.cli import absolute_path, as_dict, parse, run_job, take_preset
from jobs.config import TrainConfig
from jobs.presets import PRESETS
from jobs.progress import followed
from models import checkpoint as checkpoints
from models.errors import InputError
from models.refinement import named
from pipeline.data.readers import open_reader


def main(argv: Sequence[str]) -> int:
    """Parse, train, print where everything is."""
    preset, config, rest = take_preset(argv, PRESETS, "train")
    config = parse(TrainConfig, rest, prog=f"train {preset}", default=config)
    config = dataclasses.replace(config, out=config.out or f"runs/{preset}-{datetime.now():%Y%m%d-%H%M%S}")
    from jobs.ray_env import connected

    uri = tracking.default_uri()
    out = absolute_path("--out", config.out)
    checked = check(config)
    with connected(num_cpus=config.num_cpus):
        train(checked, out, uri, name=preset)
    return 0


def check(config: TrainConfig) -> TrainConfig:
    """Refuse what cannot work before anything is started, and make paths absolute: workers run elsewhere."""
    named(config.refine)
    data, network = config.data, config.network
    if data.root is not None:
        data = dataclasses.replace(data, root=str(absolute_path("--data.root", data.root)))
    if network.start_from is not None:
        start = absolute_path("--network.start-from", network.start_from)
        description = checkpoints.describe(start)
        if description["network"] != network.name:
            raise InputError(
                f"--network.start-from {network.start_from} is a checkpoint of {description['network']}: expected "
                f"{network.name}, or say --network.name {description['network']}"
            )
        network = dataclasses.replace(network, start_from=str(start))
    if not open_reader(data.reader, data.root, data.split, data.options).items():
        raise InputError(f"the data set at {data.root} lists no images")
    return dataclasses.replace(config, data=data, network=network)


def train(config: TrainConfig, out: Path, uri: str, *, name: str) -> Path:
    """Train inside a connection to Ray; returns the folder of the final checkpoint, OUT/checkpoint."""
    from jobs.ray_env import cluster_cpus
    from pipeline.training.ray_train import HISTORY, Job, read_progress, with_small_cluster
    from pipeline.training.ray_train import train as train_on_ray

    out.mkdir(parents=True, exist_ok=True)
    plain = as_dict(config)
    run_id = _resume_or_start(out, uri, name, plain)
    reader = open_reader(config.data.reader, config.data.root, config.data.split, config.data.options)
    items = list(reader.items())
    num_objects = sum(len(item.object_ids) for item in items)
    print(f"{config.network.name} on {len(items)} images, {num_objects} objects ({config.data.reader}) -> {out}")
    job = Job(
        network=config.network.name,
        network_options=config.network.options(config.data.crop_hw),
        start_from=config.network.start_from,
        data=config.data,
        training=config.training,
        scaling=with_small_cluster(config.scaling, cluster_cpus()),
        storage=str(out / "ray"),
        info={"refinement": config.refine, "preset": name, "run_id": run_id},
        log=tracking.training_logger(uri, run_id),
    )
    (out / "ray").mkdir(exist_ok=True)
    try:
        with followed(out / "ray" / HISTORY, config.training.steps):
            last = train_on_ray(job, reader, items)
    except BaseException:
        tracking.end_run(uri, run_id, "FAILED")
        raise
    final = out / "checkpoint"
    final.mkdir(exist_ok=True)
    for file in (checkpoints.WEIGHTS, checkpoints.DESCRIPTION):
        shutil.copyfile(last / file, final / file)
    refused = read_progress(last)["refused"]
    (out / "refused.json").write_text(json.dumps(refused, indent=2) + "\n")
    tracking.log_files(uri, run_id, out / "refused.json", "data")
    if config.register:
        print(f"registered as {tracking.register(uri, run_id, final, name=config.register)}")
    tracking.end_run(uri, run_id)
    if refused:
        print(f"refused {len(refused)} items or objects, by name in {out / 'refused.json'}")
    print(f"checkpoint  {final}\nMLflow      run {run_id} at {uri}")
    return final


def _resume_or_start(out: Path, uri: str, name: str, plain: dict[str, object]) -> str:
    """MLflow run of this folder: the one it has, if the folder holds a run of the same config, else a new one."""
    path = out / "config.json"
    if path.is_file():
        saved = json.loads(path.read_text())
        ignored = ("out", "scaling", "num_cpus")
        given = {key: value for key, value in plain.items() if key not in ignored}
        if {key: value for key, value in saved["config"].items() if key not in ignored} != given:
            raise InputError(
                f"--out {out} holds a run with another config (see {path}): repeat that run's flags to continue it, or "
                "name another folder"
            )
        print(f"continuing the run in {out}")
        return saved["run_id"]
    run_id = tracking.start_run(uri, name, plain)
    path.write_text(json.dumps({"run_id": run_id, "config": plain}, indent=2) + "\n")
    return run_id


if __name__ == "__main__":
    run_job(main)
