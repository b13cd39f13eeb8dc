"""Train on Ray Train: `train` runs in the driver, `_worker` in each worker, `_stream` in Train's controller.

If a worker dies, all workers restart from the last *persisted* checkpoint, and the stream resumes after the samples
that this checkpoint has used. Later steps are repeated with the same random numbers. If Ray announces that a node is
about to leave, all workers write a checkpoint at once.
"""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.fs
import ray.train
import ray.train.collective
import ray.train.torch
import torch
import torch.distributed as dist
from ray.train import CheckpointUploadMode

from models.errors import InputError, find_input_error
from models.files import encoded, refusing, write
from models.lines import lines_at
from models.storage import RETRY, Storage, is_address, joined
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
from pipeline.training.leaving import Leaving
from pipeline.training.loop import Trainer, fit, prepare
from pipeline.training.parallel import share, synchronise_norms
from pipeline.training.record import Record, Used, read_progress

RUN = "train"


def train(job: Job, reader: Reader, items: Sequence[Item], *, mailbox: str = "") -> str | Path:
    """Train and return the path or address of the final checkpoint; resumes the run that `job.storage` holds, if any.

    `job.storage`: a path that all nodes share, or an address (s3://BUCKET/FOLDER). `mailbox`: a name by which other
    processes can end the run at its next checkpoint (`Refusals(mailbox).ask_to_end()`).
    """
    job.scaling.check_batch(job.training)
    newest = newest_checkpoint(job.storage)
    if newest is not None and newest[1] >= job.training.steps:
        return newest[0]  # the run is finished
    with collecting(mailbox) as refusals:
        try:
            result = _trainer(job, reader, items, refusals).fit()
        except ray.train.ControllerError as error:
            if isinstance(error.controller_failure, OSError):  # the controller keeps its list of checkpoints there
                where = Storage(job.storage).path()
                raise InputError(f"{where} cannot be written: {error.controller_failure}; {RETRY}") from error
            raise
        except SystemExit:  # Ray Train exits this way after Ctrl-C
            raise KeyboardInterrupt from None
    if result.checkpoint is None:
        raise RuntimeError(f"training ended without a checkpoint: see the logs under {job.storage}")
    return _place(job.storage, result.checkpoint)


def _trainer(job: Job, reader: Reader, items: Sequence[Item], refusals: Refusals) -> "ray.train.torch.TorchTrainer":
    scaling = job.scaling
    # Ray checks by itself whether all nodes share a path; addresses may have settings that it does not know.
    filesystem, path = Storage(job.storage).arrow if is_address(job.storage) else (None, job.storage)
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
            storage_path=path,
            storage_filesystem=filesystem,
            # Preempted nodes never count as failures.
            failure_config=ray.train.FailureConfig(max_failures=scaling.max_failures, max_preemption_failures=-1),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=2),
        ),
    )


def _backend(scaling: ScalingConfig) -> str | None:
    """Return the process group's backends: FSDP on GPUs needs gloo too, because shards are written from the CPU."""
    return "cpu:gloo,cuda:nccl" if scaling.gpu and scaling.parallel == "fsdp" else None


def _stream(job: Job, reader: Reader, items: Sequence[Item], refusals: Refusals) -> "ray.data.Dataset":
    """Build the rest of the stream, from the position of the last persisted checkpoint on."""
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
    position, done = _persisted_position(job.storage)
    order = Order.of(items, job.data.window_size, job.data.seed)
    first = order.window_number(position.below)
    num_samples = (job.training.steps - done) * job.training.batch_size + len(position.beyond)
    # Whole windows and a few spare ones: shares of workers may differ by a window.
    last = order.window_number(position.below + num_samples) + 1 + job.scaling.worker_counts[-1]
    return range(first, last + 1)


def _persisted_position(storage: str) -> tuple[StreamPosition, int]:
    """Return the stream position and the step of the checkpoint that Ray Train will resume from.

    If Train's list of checkpoints cannot be read, the stream starts at the beginning and the workers skip the samples
    that were used: slower, but never wrong.
    """
    found = _newest(storage)
    if found is None:
        return StreamPosition(), 0
    return StreamPosition.from_json(found[1]["position"]), int(found[1]["step"])


def newest_checkpoint(storage: str | Path) -> tuple[str | Path, int] | None:
    """Find the newest persisted checkpoint of a run and its step; training may delete it at any time."""
    found = _newest(storage)
    return None if found is None else (found[0], int(found[1]["step"]))


def _newest(storage: str | Path) -> tuple[str | Path, dict[str, Any]] | None:
    """Read the newest entry of Ray Train's list of persisted checkpoints, and its progress."""
    filesystem, path = Storage(str(storage)).arrow
    try:
        checkpoint = ray.train.Result.from_path(f"{path}/{RUN}", storage_filesystem=filesystem).checkpoint
        if checkpoint is None:
            return None
        place = _place(storage, checkpoint)
        return place, read_progress(place)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError):  # InputError is a ValueError
        return None


def _place(storage: str | Path, checkpoint: "ray.train.Checkpoint") -> str | Path:
    """Return the location of one of the run's checkpoints: a path, or an address if the run has one."""
    path = Path(checkpoint.path)
    return joined(storage, f"{RUN}/{path.name}") if is_address(storage) else path


def _worker(params: dict[str, Any]) -> None:
    """Train in one worker; if a retry would only fail again, leave the reason for the driver."""
    job: Job = params["job"]
    refusals: Refusals = params["refusals"]
    if refusals.newest(final=True) is not None:
        return
    try:
        _train(job, refusals)
    except Exception as error:
        # Ray wraps a data actor's error in its own subclass of InputError, whose message is a traceback.
        own = type(error) in (FloatingPointError, InputError)
        reason = error if own else refusals.newest() or find_input_error(error)
        if reason is not None:
            refusals.leave(reason, final=True)
        # Raise it as well: the other workers may be waiting for this one.
        raise


def _train(job: Job, refusals: Refusals) -> None:
    """Train from the last checkpoint if there is one."""
    context = ray.train.get_context()
    device = ray.train.torch.get_device()
    if device.type == "cpu":
        torch.set_num_threads(
            job.scaling.threads_per_worker or max(1, (os.cpu_count() or 1) // context.get_local_world_size())
        )
    persisted = ray.train.get_checkpoint()
    with _watched(job), contextlib.nullcontext() if persisted is None else persisted.as_directory() as folder:
        _train_from(job, refusals, None if folder is None else Path(folder), device)


def _watched(job: Job) -> contextlib.AbstractContextManager[None]:
    """Run `job.watch` in the first worker of each machine."""
    context = ray.train.get_context()
    if job.watch is None or context.get_local_rank():
        return contextlib.nullcontext()
    alone = context.get_world_size() == context.get_local_world_size()
    return job.watch("" if alone else f"node_{context.get_node_rank()}")


def _train_from(job: Job, refusals: Refusals, folder: Path | None, device: torch.device) -> None:
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
    state = _Progress(job, refusals, trainer, rank, world, record)
    shard: Any = ray.train.get_dataset_shard("train")
    blocks = shard.iter_batches(batch_size=None, batch_format="numpy")
    batches = state.watch(rebatch(blocks, record.position, job.training.batch_size // world), device)
    fit(trainer, batches, state.on_step, state.on_checkpoint, None if rank else state.on_picture, state.leaving)
    state.settle()
    state.history.flush()


def _nodes_that_leave() -> list[str]:
    """Return the nodes of this run's workers that are about to leave (`ray drain-node`, a cloud's notice)."""
    info = ray.train.get_preemption_info()
    return [] if info is None else info.preempted_node_ids


class _Progress:
    """Counts what the workers have used; rank 0 logs and writes checkpoints."""

    def __init__(self, job: Job, refusals: Refusals, trainer: Trainer, rank: int, world: int, record: Record) -> None:
        self.job, self.refusals, self.trainer, self.rank, self.world = job, refusals, trainer, rank, world
        self.storage = Storage(job.storage)
        self.history = lines_at(joined(job.storage, HISTORY))
        self.record, self.used = record, Used()
        self.logged = 0, 0  # counts of `used` at the last log: samples, and those without an object
        self.unsettled: tuple[Future[Any], Path, dict[str, float]] | None = None
        self.leaving = Leaving(_nodes_that_leave, ray.train.collective.broadcast_from_rank_zero)

    def watch(self, batches: Any, device: torch.device) -> Iterator[TrainingBatch]:
        """Record which samples are used, and move them to the device."""
        for columns in batches:
            self.used.note(columns)
            yield to_device(columns, device)

    def on_step(self, step: int, metrics: dict[str, float]) -> None:
        """On rank 0, log the metrics and append them to the history that the driver shows."""
        self.settle()
        if self.rank:
            return
        before, self.logged = self.logged, (len(self.used.indices), self.used.without_object)
        num, empty = self.logged[0] - before[0], self.logged[1] - before[1]
        metrics = {**metrics, "without_object": empty / max(1, num)}
        if self.job.log is not None:
            self.job.log(step, metrics)
        self.history.append({"step": step, "samples": num, **metrics})

    def on_checkpoint(self, step: int, metrics: dict[str, float]) -> bool:
        """Gather what all workers have used and report a checkpoint; returns whether training ends here."""
        ends = not self.rank and self.refusals.ends()
        self.history.flush()
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
            if self.leaving.known:  # report it now: the node may be gone before the next step that logs
                self.settle()
        return ends

    def settle(self) -> None:
        """Report a checkpoint that was still being written; all workers call this at the same steps."""
        if self.unsettled is not None:
            future, folder, metrics = self.unsettled
            self.unsettled = None
            future.result()
            self._report(folder, metrics, has_part=True)

    def _report(self, folder: Path, metrics: dict[str, float], *, has_part: bool) -> None:
        """Report the checkpoint; it is uploaded to the storage in the background while training continues."""
        if not has_part:
            shutil.rmtree(folder)
        ray.train.report(
            metrics,
            checkpoint=ray.train.Checkpoint.from_directory(folder) if has_part else None,
            checkpoint_upload_mode=CheckpointUploadMode.ASYNC,
            checkpoint_upload_fn=self._upload,
            delete_local_checkpoint_after_upload=False,  # `_upload` deletes it, even if it fails
        )

    def _upload(self, checkpoint: "ray.train.Checkpoint", name: str) -> "ray.train.Checkpoint":
        """Copy a worker's part of a checkpoint to the storage; if that fails, the run ends."""
        filesystem, path = self.storage.arrow
        target = f"{path}/{RUN}/{name}"
        try:
            with refusing(self.storage.path(RUN)):
                filesystem.create_dir(target)
                pyarrow.fs.copy_files(checkpoint.path, target, destination_filesystem=filesystem)
        except InputError as error:
            self.refusals.leave(error, final=True)
            with contextlib.suppress(InputError):
                self.storage.remove(f"{RUN}/{name}")
            raise
        finally:
            shutil.rmtree(checkpoint.path, ignore_errors=True)
        return ray.train.Checkpoint(target, filesystem)

    def on_picture(self, step: int, sheet: np.ndarray) -> None:
        """Write a picture of training samples to the storage, and pass it to `job.log_file`."""
        name = f"step-{step:07d}.jpg"
        data = encoded(name, sheet, quality=88)
        self.storage.write(f"{PICTURES}/{name}", data)
        if self.job.log_file is not None:
            with tempfile.TemporaryDirectory() as folder:
                write(Path(folder) / name, data)
                self.job.log_file(Path(folder) / name)


def with_small_cluster(scaling: ScalingConfig, num_cpus: float) -> ScalingConfig:
    """Reduce the CPU reservations to fit a small machine, so that training workers and data actors can all start.

    Workers and actors then reserve about 40 % of the CPUs each. Reservations do not slow anything down.
    """
    actors = scaling.data_pool[1]
    wanted = scaling.workers * scaling.cpus_per_worker + actors * scaling.cpus_per_data_actor
    if wanted <= num_cpus - 1:
        return scaling
    share = min(scaling.cpus_per_worker, 0.4 * num_cpus / scaling.workers)
    left = max(0.1, 0.4 * num_cpus / actors)
    return replace(scaling, cpus_per_worker=round(share, 2), cpus_per_data_actor=round(min(left, 1.0), 2))
