"""Data sets as flags name them, READER=ROOT or READER/SPLIT=ROOT, and what of them is trained on."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from jobs.cli import data_root
from models.errors import InputError
from pipeline.data.config import AUTO, DataConfig
from pipeline.data.leave_out import LeaveOut, fingerprints_of
from pipeline.data.readers import READERS, open_reader
from pipeline.data.sample import Item, Reader
from pipeline.data.targets import floor_of, with_floor


def parse_dataset(flag: str, text: str) -> tuple[str, str, str | None]:
    """Take READER/SPLIT=ROOT apart: reader, split ("" if not given) and root, absolute (None for generated sets)."""
    left, equals, root = text.partition("=")
    reader, _, split = left.partition("/")
    if not equals and reader in READERS and READERS[reader].root:
        raise InputError(f"{flag} {text}: expected READER=ROOT or READER/SPLIT=ROOT")
    return reader, split, data_root(flag, reader, root or None)


def dataset_name(reader: str, split: str, root: str | None) -> str:
    """What results call a data set: the last folder of its root, and the split."""
    return f"{Path(root).name if root else reader}{'/' + split if split else ''}"


def absolute(flag: str, text: str) -> str:
    """Write a data set down as any process finds it."""
    reader, split, root = parse_dataset(flag, text)
    return f"{reader}{'/' + split if split else ''}{f'={root}' if root else ''}"


def without_left_out(reader: Reader, data: DataConfig) -> Reader:
    """Take the photos of `data.leave_out` from what a config trains on."""
    return LeaveOut(reader=reader, fingerprints=_left_out(data.leave_out)) if data.leave_out else reader


@lru_cache(maxsize=1)
def _left_out(datasets: tuple[str, ...]) -> frozenset[int]:
    parsed = [parse_dataset("--data.leave-out", text) for text in datasets]
    return fingerprints_of(open_reader(reader, root, split) for reader, split, root in parsed)


def settle_floor(data: DataConfig, reader: Reader, items: Sequence[Item], settings: Any) -> DataConfig:
    """Settle an "auto" floor of areas: as `settings` have it, those of what is going on, else by the data."""
    if data.min_object_area != AUTO:
        return with_floor(data, data.min_object_area)
    known = settings.get("data", {}).get("min_object_area") if isinstance(settings, dict) else None
    if isinstance(known, int):
        return with_floor(data, known)
    floor = floor_of(reader, items, data)
    print(
        f"objects of fewer than {floor.area} pixels after augmentation are no targets (--data.min-object-area auto: "
        f"{floor.num_objects} objects in {floor.num_images} images)"
    )
    return with_floor(data, floor.area)
