"""Train in one process, without Ray: the same job, stream, loop and checkpoints, on one device.

The position in the stream follows from the samples that were used, so an interrupted run resumes from its newest
checkpoint and makes the same steps.
"""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from shutil import rmtree

import numpy as np
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from models.errors import InputError
from models.files import append_line, make_folder, write_image
from pipeline.data.config import DataConfig
from pipeline.data.position import rebatch
from pipeline.data.rows import Batch, collate
from pipeline.data.sample import Item, Reader
from pipeline.data.sampling import Order
from pipeline.data.windows import make_window
from pipeline.training.batch import TrainingBatch, to_device
from pipeline.training.checkpointing import load_state, save_state, save_weights
from pipeline.training.job import HISTORY, PICTURES, Job, restore
from pipeline.training.loop import Trainer, fit, prepare
from pipeline.training.record import PROGRESS, Used

CHECKPOINTS = "checkpoints"
KEPT = 2


class Windows(IterableDataset[Batch]):
    """Windows of the training stream from number `first` on, in order even if several loaders make them in turn."""

    def __init__(self, reader: Reader, items: Sequence[Item], data: DataConfig, first: int) -> None:
        self.reader, self.items, self.data, self.first = reader, items, data, first

    def __iter__(self) -> Iterator[Batch]:
        """Make every n-th window, where n is the number of loaders."""
        worker = get_worker_info()
        place, num = (0, 1) if worker is None else (worker.id, worker.num_workers)
        order = Order.of(self.items, self.data.window_size, self.data.seed)
        number = self.first + place
        while True:
            yield collate(make_window(self.items, self.reader, self.data, order.window(number)))
            number += num


def newest(storage: Path) -> Path | None:
    """Find a run's newest complete checkpoint: one that has its record, which is written last."""
    whole = sorted(path.parent for path in (storage / CHECKPOINTS).glob(f"*/{PROGRESS}"))
    return whole[-1] if whole else None


def train(job: Job, reader: Reader, items: Sequence[Item], *, device: str = "cpu", loaders: int = 1) -> Path:
    """Train and return the folder of the final checkpoint; resumes the run that `job.storage` holds, if any."""
    storage, folder = Path(job.storage), newest(Path(job.storage))
    network, record = restore(job, folder)
    network.to(device)
    prepare(network, job.training)
    trainer = Trainer(network=network, module=network, config=job.training)
    if folder is not None:
        load_state(trainer, folder, record.step)
    first = Order.of(items, job.data.window_size, job.data.seed).window_number(record.position.below)
    windows = DataLoader(Windows(reader, items, job.data, first), batch_size=None, num_workers=loaders)
    used = Used()

    def batches() -> Iterator[TrainingBatch]:
        arrays = ({name: np.asarray(column) for name, column in window.items()} for window in windows)
        try:
            for columns in rebatch(arrays, record.position, job.training.batch_size):
                used.note(columns)
                yield to_device(columns, device)
        except InputError as error:
            # The message of a loader's error includes its traceback.
            raise InputError(str(error).rsplit("InputError: ", 1)[-1].strip()) from error

    def on_step(step: int, metrics: dict[str, float]) -> None:
        if job.log is not None:
            job.log(step, metrics)
        append_line(storage / HISTORY, {"step": step, "samples": len(used.indices), "time": time.time(), **metrics})

    def on_checkpoint(step: int, metrics: dict[str, float]) -> None:
        nonlocal folder, used
        record.add(used)
        record.step, used = step, Used()
        folder = storage / CHECKPOINTS / f"{step:07d}"
        make_folder(folder)
        info = {**job.info, "step": step, "refused": sum(record.refused.values())}
        save_weights(trainer, folder, info, record.fingerprints)
        save_state(trainer, folder)
        record.write(folder)
        for old in sorted((storage / CHECKPOINTS).iterdir())[:-KEPT]:
            rmtree(old)

    def on_picture(step: int, sheet: np.ndarray) -> None:
        path = storage / PICTURES / f"step-{step:07d}.jpg"
        write_image(path, sheet, quality=88)
        if job.log_file is not None:
            job.log_file(path)

    fit(trainer, batches(), on_step, on_checkpoint, on_picture)
    assert folder is not None
    return folder
