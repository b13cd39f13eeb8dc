"""Training rows as rows of a prepared data set, and back.

The shards of an epoch (made by epoch_plan.py) form a prepared data set of crops, each with one object. They also have
the remaining columns of a training row (the table in rows.py).
"""

from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import numpy as np
import pyarrow as pa

from models.errors import InputError
from models.rle import runs_of
from models.storage import Storage
from pipeline.data.prepared.manifest import read_manifest
from pipeline.data.prepared.schema import SCHEMA
from pipeline.data.prepared.unpack import RowGroup
from pipeline.data.rows import Row
from pipeline.data.sample import BadItem, Origin

IMAGE_FORMATS: dict[str, tuple[str, list[int]]] = {
    "png": (".png", []),
    "jpg": (
        ".jpg",
        [cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444],
    ),
}
"""Name: file extension and OpenCV's settings. PNG keeps every value; JPEG takes a third of its bytes."""

_ARRAY = pa.struct({"name": pa.string(), "dtype": pa.string(), "shape": pa.list_(pa.int32()), "data": pa.binary()})
EPOCH_SCHEMA = pa.schema(
    [
        *SCHEMA,
        pa.field("index", pa.int64()),
        pa.field("window", pa.int64()),
        pa.field("item", pa.string()),
        pa.field("partner", pa.string()),
        pa.field("mode", pa.string()),
        pa.field("refused", pa.string()),
        pa.field("clicks_yx", pa.list_(pa.list_(pa.float32(), 2))),
        pa.field("clicks_valid", pa.list_(pa.bool_())),
        pa.field("clicks_order", pa.list_(pa.int16())),
        # Columns that only some recipes add to their rows, unchanged.
        pa.field("more", pa.list_(_ARRAY)),
    ],
    metadata={**SCHEMA.metadata, b"maskwright.epoch": b"1"},
)
_TEXTS = ("item", "partner", "mode", "refused")
_KNOWN = {"index", "window", *_TEXTS, "image", "object_mask", "ignore_mask"} | {
    name for name in EPOCH_SCHEMA.names if name.startswith("clicks_")
}


def to_row(row: Row, image_format: str = "png", origin: Origin | None = None) -> dict[str, Any]:
    """Convert a training row to a row of EPOCH_SCHEMA; its id begins with its index, so that ids are in order."""
    target = row["object_mask"] > 0
    row_id = f"{int(row['index']):010d}/{row['item']}"
    found = {
        "id": f"{row_id}/target",
        "category": "",
        "layer": 0,
        "value": 1,
        "area": int(np.count_nonzero(target)),
        "runs": runs_of(target).astype(np.int32),
    }
    ignore = row["ignore_mask"] > 0
    return {
        "id": row_id,
        "height": row["image"].shape[0],
        "width": row["image"].shape[1],
        "image": _encode(row["image"], image_format),
        "objects": [found] if found["area"] else [],
        "ignore": runs_of(ignore).astype(np.int32) if ignore.any() else [],
        "exemplar": None,
        "file_name": "",
        "licence": origin.licence if origin else "",
        "source": origin.source if origin else "",
        "index": int(row["index"]),
        "window": int(row["window"]),
        **{name: row[name] for name in _TEXTS},
        "clicks_yx": row["clicks_yx"].tolist(),
        "clicks_valid": row["clicks_valid"],
        "clicks_order": row["clicks_order"],
        "more": [_pack(name, np.asarray(value)) for name, value in row.items() if name not in _KNOWN],
    }


def _encode(image: np.ndarray, image_format: str) -> bytes:
    ending, settings = IMAGE_FORMATS[image_format]
    ok, data = cv2.imencode(ending, image[..., ::-1], settings)
    assert ok
    return data.tobytes()


def _pack(name: str, value: np.ndarray) -> dict[str, Any]:
    return {"name": name, "dtype": value.dtype.str, "shape": list(value.shape), "data": value.tobytes()}


def _unpack(packed: dict[str, Any]) -> Any:
    value = np.frombuffer(packed["data"], packed["dtype"]).reshape(packed["shape"]).copy()
    return value if value.ndim else value[()]


def is_epoch(storage: Storage) -> bool:
    """Whether a finished prepared folder holds training rows."""
    shards = [shard["name"] for shard in read_manifest(storage)["shards"] if shard["name"]]
    return bool(shards) and "clicks_yx" in storage.open_parquet(shards[0]).schema_arrow.names


def read_rows(storage: Storage, shards: Sequence[str] | None = None) -> Iterator[Row]:
    """Yield training rows in the order of their indices; they equal the stream's if their images were stored as PNG.

    `shards` names the files to read (none: all). Raises InputError for a folder that holds no training rows or is
    damaged.
    """
    if not is_epoch(storage):
        raise InputError(f"{storage.path()} holds no training rows: expected the output of jobs.augment")
    for name in shards or [shard["name"] for shard in read_manifest(storage)["shards"] if shard["name"]]:
        file = storage.open_parquet(name)
        for number in range(file.num_row_groups):
            try:
                yield from _rows_of(file.read_row_group(number))
            except (OSError, pa.ArrowException, BadItem) as error:
                raise InputError(f"row group {number} of {storage.path(name)} cannot be read: {error}") from error


def _rows_of(table: pa.Table) -> Iterator[Row]:
    group = RowGroup(table)
    columns = table.select([*_TEXTS, "index", "window", "clicks_yx", "clicks_valid", "clicks_order", "more"])
    for number, values in enumerate(columns.to_pylist()):
        sample = group.sample(number)
        yield {
            "index": np.int64(values["index"]),
            "window": np.int64(values["window"]),
            **{name: values[name] for name in _TEXTS},
            "image": sample.image,
            "object_mask": (sample.instance_masks[0] > 0).astype(np.uint8),
            "ignore_mask": sample.ignore_mask.astype(np.uint8),
            "clicks_yx": np.array(values["clicks_yx"], np.float32).reshape(-1, 2),
            "clicks_valid": np.array(values["clicks_valid"], np.bool_),
            "clicks_order": np.array(values["clicks_order"], np.int16),
            **{packed["name"]: _unpack(packed) for packed in values["more"]},
        }
