"""Data sets as flags name them, READER=ROOT or READER/SPLIT=ROOT, and the minimum area of a target in them."""

from collections.abc import Sequence
from typing import Any

from jobs.cli import data_root
from models.errors import InputError
from models.storage import split as folder_and_name
from pipeline.data.config import AUTO, DataConfig
from pipeline.data.leave_out import named_parts
from pipeline.data.readers import READERS
from pipeline.data.sample import Item, Reader
from pipeline.data.targets import floor_of, with_floor


def parse_dataset(flag: str, text: str) -> tuple[str, str, str | None]:
    """Parse READER/SPLIT=ROOT into reader, split ("" if not given) and absolute root (None for generated data)."""
    reader, split, root = named_parts(text)
    if "=" not in text and reader in READERS and READERS[reader].root:
        raise InputError(f"{flag} {text}: expected READER=ROOT or READER/SPLIT=ROOT")
    return reader, split, data_root(flag, root)


def dataset_name(reader: str, split: str, root: str | None) -> str:
    """Return the name of a data set in results: the last folder of its root, and the split."""
    return f"{folder_and_name(root)[1] if root else reader}{'/' + split if split else ''}"


def absolute(flag: str, text: str) -> str:
    """Return the text of a data set with its root made absolute, so that it holds in any process."""
    reader, split, root = parse_dataset(flag, text)
    return f"{reader}{'/' + split if split else ''}{f'={root}' if root else ''}"


def settle_floor(data: DataConfig, reader: Reader, items: Sequence[Item], settings: Any) -> DataConfig:
    """Resolve a minimum area of "auto": that of the job being resumed (`settings`), else from the data; print it."""
    if data.min_object_area != AUTO:
        return with_floor(data, data.min_object_area)
    known = settings.get("data", {}).get("min_object_area") if isinstance(settings, dict) else None
    if isinstance(known, int):
        return with_floor(data, known)
    floor = floor_of(reader, items, data)
    print(
        f"objects of fewer than {floor.area} pixels after augmentation are not used as targets "
        f"(--data.min-object-area auto: {floor.num_objects} objects in {floor.num_images} images)"
    )
    return with_floor(data, floor.area)
