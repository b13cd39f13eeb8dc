"""The rows of a prepared data set: an image as its file's bytes, its objects as run lengths, and its origin.

Runs are COCO's uncompressed counts: down the columns, the first run counts zeros. `layer` and `value` give an object's
place in `Sample.instance_masks`, so that a whole layer is painted at once instead of one object at a time.
"""

import dataclasses
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from models.decoding import AS_IT_COMES, Decoding
from models.rle import runs_of
from pipeline.data.images import decode_file, read_image
from pipeline.data.sample import Sample, printable

VERSION = 1
KEPT_FORMATS = ("JPEG", "PNG", "WEBP")

_RUNS = pa.list_(pa.int32())
_OBJECT = pa.struct(
    {
        "id": pa.string(),
        "category": pa.string(),
        "layer": pa.int32(),
        "value": pa.int32(),
        "area": pa.int64(),
        "runs": _RUNS,
    }
)
_CLICK = pa.struct({"y": pa.float32(), "x": pa.float32(), "positive": pa.bool_()})
_EXEMPLAR = pa.struct({"object_id": pa.string(), "clicks": pa.list_(_CLICK)})
SCHEMA = pa.schema(
    {
        "id": pa.string(),
        "height": pa.int32(),
        "width": pa.int32(),
        "image": pa.binary(),
        "objects": pa.list_(_OBJECT),
        "ignore": _RUNS,
        "exemplar": _EXEMPLAR,
        "file_name": pa.string(),
        "licence": pa.string(),
        "source": pa.string(),
    },
    metadata={"maskwright.prepared": str(VERSION)},
)


def in_shards(decoding: Decoding = AS_IT_COMES) -> Decoding:
    """Return how images in shards are decoded, independent of the decoding with which the shards were made.

    The upper eight of 16 bits count, and a photo is rotated as its size says. A file whose pixels come out differently
    is stored as a PNG of the pixels, so that old and new shards mean the same.
    """
    return dataclasses.replace(decoding.decoding(), bit_depth=16, exif="auto")


def encode_image(sample: Sample) -> bytes:
    """Return the bytes of the sample's file if they decode to exactly its pixels, else a PNG.

    Formats that not all browsers and data tools read (TIFF, BMP) become PNG too.
    """
    if sample.origin.file:
        data = Path(sample.origin.file).read_bytes()
        hw = (sample.image.shape[0], sample.image.shape[1])
        no_limit = Decoding(max_megapixels=math.ceil(hw[0] * hw[1] / 1_000_000))  # it was read: its size is allowed
        try:
            kept = decode_file(data, no_limit, lambda image: image.format in KEPT_FORMATS)
            # A photo whose rotation does not show in its size would be read as stored, so it becomes PNG.
            if kept and np.array_equal(read_image(data, expected_hw=hw, decoding=in_shards(no_limit)), sample.image):
                return data
        except ValueError:
            pass  # the reader made the pixels in another way: the PNG below holds them
    buffer = io.BytesIO()
    Image.fromarray(sample.image).save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


def to_row(sample: Sample) -> dict[str, Any]:
    """Convert a sample to a row of SCHEMA; raises OSError if its file has disappeared."""
    objects = []
    for ref in sample.objects:
        mask = sample.object_mask(ref)
        objects.append(
            {
                "id": ref.id,
                "category": ref.category,
                "layer": ref.layer,
                "value": ref.value,
                "area": int(np.count_nonzero(mask)),
                "runs": runs_of(mask).astype(np.int32),
            }
        )
    exemplar = None
    if sample.exemplar is not None:
        clicks = [{"y": y, "x": x, "positive": positive} for y, x, positive in sample.exemplar.clicks.rows()]
        exemplar = {"object_id": sample.exemplar.object_id, "clicks": clicks}
    return {
        "id": sample.id,
        "height": sample.image.shape[0],
        "width": sample.image.shape[1],
        "image": encode_image(sample),
        "objects": objects,
        "ignore": runs_of(sample.ignore_mask).astype(np.int32) if sample.ignore_mask.any() else [],
        "exemplar": exemplar,
        "file_name": printable(Path(sample.origin.file).name),
        "licence": sample.origin.licence,
        "source": sample.origin.source,
    }


def to_table(rows: Sequence[dict[str, Any]], schema: pa.Schema = SCHEMA) -> pa.Table:
    """Build a table; its images must total less than 2 GB."""
    return pa.Table.from_pylist(list(rows), schema=schema)
