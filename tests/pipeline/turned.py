"""Photos that are stored rotated, data sets of them, and how much of a mask lies on its object."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from pipeline.data.readers import open_reader
from pipeline.data.sample import Reader, Sample
from tests.pipeline.small_data import picture, save

UP = (30, 20)
"""Size of the upright photos: portraits."""
TURNS = (2, 3, 4, 5, 6, 7, 8)
KEEP_SIZE = (2, 3, 4)
LABEL_STUDIO = {"year": 2024, "version": "1.0", "description": "", "contributor": "Label Studio", "url": ""}
COCO = {"description": "COCO 2017 Dataset", "url": "http://cocodataset.org", "contributor": "COCO Consortium"}


def scene(hw: tuple[int, int] = UP) -> tuple[np.ndarray, np.ndarray]:
    """Return an upright photo, noise with a bright object in one corner, and its mask."""
    mask = np.zeros(hw, bool)
    mask[2 : hw[0] // 3, 3 : hw[1] // 2] = True
    image = picture(1, hw) // 4
    image[mask] = 250
    return image, mask


def photo(path: Path, upright: np.ndarray, orientation: int, file_format: str = "PNG") -> np.ndarray:
    """Save a photo like a camera, with stored pixels, which are returned, and the orientation."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    kept = np.asarray(upright)
    for stored in (kept, np.rot90(kept, 1), np.rot90(kept, 2), np.rot90(kept, 3)):
        for mirrored in (stored, stored[:, ::-1]):
            image = Image.fromarray(np.ascontiguousarray(mirrored))
            image.getexif()[0x0112] = orientation
            if np.array_equal(np.array(ImageOps.exif_transpose(image)), kept):
                path.parent.mkdir(parents=True, exist_ok=True)
                image.save(path, file_format, exif=exif, **({"lossless": True} if file_format == "WEBP" else {}))
                return np.array(image)
    raise AssertionError(orientation)


def save_mask(mask: np.ndarray, path: Path) -> None:
    save(np.where(mask, 255, 0).astype(np.uint8), path)


def share_on_object(sample: Sample) -> float:
    """Return the fraction of the mask that lies on the bright object."""
    mask = sample.object_mask(sample.objects[0])
    return float((sample.image[mask].min(axis=1) > 200).mean())


def polygon(mask: np.ndarray, scale_xy: tuple[float, float] = (1, 1)) -> list[float]:
    y, x = np.nonzero(mask)
    corners = [(x.min(), y.min()), (x.max() + 1, y.min()), (x.max() + 1, y.max() + 1), (x.min(), y.max() + 1)]
    return [float(value) for corner in corners for value in np.multiply(corner, scale_xy)]


def write_coco(
    root: Path, images: Sequence[dict[str, Any]], segmentations: Sequence[Any], info: Any = None, **more: Any
) -> Reader:
    """Write one annotation per image; `info` is at the end of the file, as in Label Studio's files."""
    annotations = [
        {"id": n, "image_id": image["id"], "category_id": 0, "segmentation": segmentation, **more}
        for n, (image, segmentation) in enumerate(zip(images, segmentations, strict=True))
    ]
    data = {"images": list(images), "categories": [], "annotations": annotations}
    (root / "result.json").write_text(json.dumps(data if info is None else {**data, "info": info}))
    return open_reader("coco", str(root))


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [text for text in caplog.messages if "EXIF" in text]
