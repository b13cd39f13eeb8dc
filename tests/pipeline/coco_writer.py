"""Write any reader as a COCO data set: images as files, masks as compressed RLE in one annotations.json."""

import json
import logging
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from pipeline.data import rle
from pipeline.data.sample import BadItem, Reader

_logger = logging.getLogger(__name__)


def write_coco(reader: Reader, out_dir: Path, image_format: str = "jpg") -> Path:
    """Write every sample of `reader` under `out_dir` and return the path of annotations.json.

    Images are named by their number and keep their id as `sample_id`, objects as `object_id`; an ignore mask becomes a
    crowd. "png" keeps pixels exact, "jpg" is ten times smaller. Unusable items are logged and left out.
    """
    (out_dir / "images").mkdir(parents=True)
    target = out_dir / "annotations.json"
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    categories: dict[str, int] = {}
    for number, item in enumerate(reader.items(), start=1):
        try:
            sample = reader.load(item)
        except BadItem as error:
            _logger.warning("left out: %s", error)
            continue
        height, width = sample.image.shape[:2]
        name = f"{number:07d}.{image_format}"
        Image.fromarray(sample.image).save(out_dir / "images" / name, quality=95)
        images.append({"id": number, "file_name": name, "height": height, "width": width, "sample_id": sample.id})
        masks = [(ref.id, ref.category or "object", 0, sample.object_mask(ref)) for ref in sample.objects]
        if sample.ignore_mask.any():
            masks.append((f"{sample.id}/ignore", "ignore", 1, sample.ignore_mask))
        for object_id, category, crowd, mask in masks:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": categories.setdefault(category, len(categories) + 1),
                    "segmentation": rle.encode(mask),
                    "area": int(mask.sum()),
                    "bbox": list(cv2.boundingRect(mask.astype(np.uint8))),
                    "iscrowd": crowd,
                    "object_id": object_id,
                }
            )
    named = [{"id": number, "name": name} for name, number in categories.items()]
    target.write_text(json.dumps({"images": images, "annotations": annotations, "categories": named}))
    return target
