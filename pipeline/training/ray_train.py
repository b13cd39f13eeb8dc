"""Training under Ray Train: `train` runs in the driver, `_worker` in each worker, `_stream` in Train's controller.

A worker that dies brings all workers back to the last *persisted* checkpoint; the stream goes on after the samples
that checkpoint has used. Steps since then are made again, with the same random numbers.
"""

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import ray.train
import ray.train.torch
import torch
import torch.distributed as dist

from models.errors import InputError, find_input_error
from models.files import append_line, refusing, write_image
from pipeline.data.position import StreamPosition, rebatch
from pipeline.data.ray_data import dataset, ordered_options
from pipeline.data.sample import Item, Reader
from pipeline.data.sampling import Order
from pipeline.nodes import placed
from pipeline.ray_refusals import Refusals, collecting
from pipeline.training.batch import TrainingBatch, to_device
from pipeline.training.checkpointing import load_state, save_state, save_weights
from pipeline.training.config import ScalingConfig
from pipeline.training.job import HISTORY, PICTURES, Job, restore
from pipeline.training.loop import Trainer, fit, prepare
from pipeline.training.parallel import share, synchronise_norms
from pipeline.training.record import Record, Used, read_progress

RUN = "train"
STOP = "stop"  # a file that asks the workers to end at their next checkpoint


def train(job: Job, reader: Reader, items: Sequence[Item]) -> Path:
    """Train and return the folder of the final checkpoint; continues a run that `job.storage` holds already."""
    scaling = job.scaling
    scaling.check_batch(job.training)
    (Path(job.storage) / STOP).unlink(missing_ok=True)
    with collecting() as refusals:
        result = _trainer(job, reader, items, refusals).fit()
    if result.checkpoint is None:
        raise RuntimeError(f"training ended without a checkpoint: see the logs under {job.storage}")
    return Path(result.checkpoint.path)


def _trainer(job: Job, reader: Reader, items: Sequence[Item], refusals: Refusals) -> "ray.train.torch.TorchTrainer":
    scaling = job.scaling
    place = placed(scaling.nodes)
    resources = {"CPU": scaling.cpus_per_worker} | ({"GPU": 1} if scaling.gpu else {}) | place.get("resources", {})
    return ray.train.torch.TorchTrainer(
        _worker,
        train_loop_config={"job": job, "refusals": refusals},
        datasets={"train": lambda: _stream(job, reader, items, refusals)},
        dataset_config=ray.train.DataConfig(execution_options=ordered_options(scaling.data_memory_bytes)),
        scaling_config=ray.train.ScalingConfig(
            num_workers=(scaling.workers, scaling.max_workers) if scaling.max_workers else scaling.workers,
            elastic_resize_monitor_interval_s=scaling.grow_every_s,
            use_gpu=scaling.gpu,
            resources_per_worker=resources,
            label_selector=place.get("label_selector"),
        ),
        torch_config=ray.train.torch.TorchConfig(backend=_backend(scaling)),
        run_config=ray.train.RunConfig(
            name=RUN,
            storage_path=job.storage,
            failure_config=ray.train.FailureConfig(max_failures=scaling.max_failures),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=2),
        ),
    )


def _backend(scaling: ScalingConfig) -> str | None:
    """Name the process group; shards are written from the CPU's side, so that FSDP on GPUs needs both."""
    return "cpu:gloo,cuda:nccl" if scaling.gpu and scaling.parallel == "fsdp" else None


def _stream(job: Job, reader: Reader, items: Sequence[Item], refusals: Refusals) -> "ray.data.Dataset":
    """Build what is left of the stream, from the last persisted checkpoint's position on."""
    with refusals.refusing(final=True):
        return dataset(
            reader,
            job.data,
            _windows_left(job, items),
            num_cpus=job.scaling.cpus_per_data_actor,
            actors=job.scaling.data_pool,
            items=items,
            memory_bytes=job.scaling.data_memory_bytes,
            refusals=refusals,
            options=placed(job.scaling.data_nodes),
        )


def _windows_left(job: Job, items: Sequence[Item]) -> range:
    position, done = _persisted_position(Path(job.storage) / RUN)
    order = Order.of(items, job.data.window_size, job.data.seed)
    first = order.window_number(position.below)
    num_samples = (job.training.steps - done) * job.training.batch_size + len(position.beyond)
    # Whole windows, and a few to spare: splits among workers may be uneven by a window.
    last = order.window_number(position.below + num_samples) + 1 + job.scaling.worker_counts[-1]
    return range(first, last + 1)


def _persisted_position(run: Path) -> tuple[StreamPosition, int]:
    """Where the checkpoint stands that Ray Train will resume from: its position in the stream and its step.

    If Train's list of them cannot be read the stream starts at the beginning and the workers skip what was used:
    slower, never wrong.
    """
    found = _newest(run)
    if found is None:
        return StreamPosition(), 0
    return StreamPosition.from_json(found[1]["position"]), int(found[1]["step"])


def newest_checkpoint(storage: Path) -> tuple[Path, int] | None:
    """Find the newest persisted checkpoint of a run and its step; it may be gone a moment later."""
    found = _newest(storage / RUN)
    return None if found is None else (found[0], int(found[1]["step"]))


def _newest(run: Path) -> tuple[Path, dict[str, Any]] | None:
    """Read the newest entry of Train's own list of persisted checkpoints, and its progress."""
    try:
        snapshot = json.loads((run / "checkpoint_manager_snapshot.json").read_text())
        folder = run / snapshot["latest_checkpoint_result"]["checkpoint_dir_name"]
        return folder, read_progress(folder)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _worker(params: dict[str, Any]) -> None:
    """Train in one worker; where a retry would only fail again, leave the reason for the driver."""
    job: Job = params["job"]
    refusals: Refusals = params["refusals"]
    if refusals.newest(final=True) is not None:
        return
    try:
        _train(job)
    except Exception as error:
        # What a data actor raised comes as a kind of InputError that Ray makes, with a traceback for a message.
        own = type(error) in (FloatingPointError, InputError)
        reason = error if own else refusals.newest() or find_input_error(error)
        if reason is not None:
            refusals.leave(reason, final=True)
        # Raised all the same: the other workers may be waiting for this one.
        raise


def _train(job: Job) -> None:
    """Train from the last checkpoint if there is one."""
    context = ray.train.get_context()
    device = ray.train.torch.get_device()
    if device.type == "cpu":
        torch.set_num_threads(
            job.scaling.threads_per_worker or max(1, (os.cpu_count() or 1) // context.get_local_world_size())
        )
    persisted = ray.train.get_checkpoint()
    with contextlib.nullcontext() if persisted is None else persisted.as_directory() as folder:
        _train_from(job, None if folder is None else Path(folder), device)


def _train_from(job: Job, folder: Path | None, device: torch.device) -> None:
    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    network, record = restore(job, folder)
    network.to(device)
    if job.scaling.sync_batch_norm:
        network = synchronise_norms(network)
    prepare(network, job.training)
    module = share(network, job.scaling.parallel, job.training.precision)
    trainer = Trainer(network=network, module=module, config=job.training, rank=rank)
    if folder is not None:
        load_state(trainer, folder, record.step)
    state = _Progress(job, trainer, rank, world, record)
    shard: Any = ray.train.get_dataset_shard("train")
    blocks = shard.iter_batches(batch_size=None, batch_format="numpy")
    batches = state.watch(rebatch(blocks, record.position, job.training.batch_size // world), device)
    fit(trainer, batches, state.on_step, state.on_checkpoint, None if rank else state.on_picture)
    state.settle()


class _Progress:
    """What the workers have used so far; rank 0 logs and writes checkpoints."""

    def __init__(self, job: Job, trainer: Trainer, rank: int, world: int, record: Record) -> None:
        self.job, self.trainer, self.rank, self.world = job, trainer, rank, world
        self.record, self.used = record, Used()
        self.logged = 0, 0  # of `used`: samples, and those without an object, when it was last logged
        self.unsettled: tuple[Future[Any], Path, dict[str, float]] | None = None

    def watch(self, batches: Any, device: torch.device) -> Iterator[TrainingBatch]:
        """Note which samples are used, and put them on the device."""
        for columns in batches:
            self.used.note(columns)
            yield to_device(columns, device)

    def on_step(self, step: int, metrics: dict[str, float]) -> None:
        """Log, and append to the history that the driver shows, on rank 0."""
        self.settle()
        if self.rank:
            return
        before, self.logged = self.logged, (len(self.used.indices), self.used.without_object)
        num, empty = self.logged[0] - before[0], self.logged[1] - before[1]
        metrics = {**metrics, "without_object": empty / max(1, num)}
        if self.job.log is not None:
            self.job.log(step, metrics)
        append_line(Path(self.job.storage) / HISTORY, {"step": step, "samples": num, **metrics})

    def on_checkpoint(self, step: int, metrics: dict[str, float]) -> bool:
        """Gather what all workers have used and report; rank 0 brings the checkpoint. Tells whether to end here."""
        ends = not self.rank and (Path(self.job.storage) / STOP).exists()
        gathered: list[Any] = [(self.used, ends)]
        if self.world > 1:
            gathered = [None] * self.world
            dist.all_gather_object(gathered, (self.used, ends))
        record = self.record
        for used, _ in gathered:
            record.add(used)
        record.step, self.used, self.logged = step, Used(), (0, 0)
        ends = any(end for _, end in gathered)
        self.settle()
        folder = Path(tempfile.mkdtemp())
        info = {**self.job.info, "step": step, "refused": sum(record.refused.values())}
        save_weights(self.trainer, folder, info, record.fingerprints)
        future = save_state(self.trainer, folder)
        if not self.rank:
            record.write(folder)
        metrics = {**metrics, "step": float(step)}
        if future is None:
            self._report(folder, metrics, has_part=not self.rank)
        else:
            self.unsettled = future, folder, metrics
        return ends

    def settle(self) -> None:
        """Report a checkpoint that was still being written; all workers come here at the same steps."""
        if self.unsettled is not None:
            future, folder, metrics = self.unsettled
            self.unsettled = None
            future.result()
            self._report(folder, metrics, has_part=True)

    def _report(self, folder: Path, metrics: dict[str, float], *, has_part: bool) -> None:
        run = Path(self.job.storage) / RUN
        kept = set(run.glob("checkpoint_*"))
        try:
            with refusing(run):
                part = ray.train.Checkpoint.from_directory(folder) if has_part else None
                ray.train.report(metrics, checkpoint=part)
        except InputError:
            for half in set(run.glob("checkpoint_*")) - kept:
                shutil.rmtree(half, ignore_errors=True)
            raise
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def on_picture(self, step: int, sheet: np.ndarray) -> None:
        """Keep a picture of training samples, and show it to the tracker."""
        path = Path(self.job.storage) / PICTURES / f"step-{step:07d}.jpg"
        write_image(path, sheet, quality=88)
        if self.job.log_file is not None:
            self.job.log_file(path)


def with_small_cluster(scaling: ScalingConfig, num_cpus: float) -> ScalingConfig:
    """Fit the reservations into a small machine: a training worker and its data actors must all find CPUs.

    On 2 cores: half a core reserved by each training worker, the rest but a reserve shared by the data actors. These
    are reservations only; they do not slow anything down.
    """
    actors = scaling.data_pool[1]
    wanted = scaling.workers * scaling.cpus_per_worker + actors * scaling.cpus_per_data_actor
    if wanted <= num_cpus - 1:
        return scaling
    share = min(scaling.cpus_per_worker, 0.4 * num_cpus / scaling.workers)
    left = max(0.1, 0.4 * num_cpus / actors)
    return replace(scaling, cpus_per_worker=round(share, 2), cpus_per_data_actor=round(min(left, 1.0), 2))
