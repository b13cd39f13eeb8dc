"""Export finished objects as a COCO data set, or as exemplars. Pure."""

from typing import Any

from serve.core.masks import area_and_box
from serve.core.values import SessionValue

UNNAMED = "object"
"""Category of objects without a label."""


def coco(value: SessionValue, file_name: str) -> dict[str, Any]:
    """Return a COCO data set of one image for pycocotools, with a category per label and segmentations as RLE."""
    height, width = value.hw
    labels = sorted({each.label or UNNAMED for each in value.objects})
    annotations: list[dict[str, Any]] = []
    for each in value.objects:
        area, box = area_and_box(each.mask)
        annotations.append(
            {
                "id": each.number,
                "image_id": 1,
                "category_id": labels.index(each.label or UNNAMED) + 1,
                "segmentation": each.mask,
                "area": area,
                "bbox": box,
                "iscrowd": 0,
            }
        )
    return {
        "info": {"description": f"masks by clicks, {value.model_version}"},
        "images": [{"id": 1, "file_name": file_name, "width": width, "height": height}],
        "categories": [{"id": place + 1, "name": label} for place, label in enumerate(labels)],
        "annotations": annotations,
    }


def exemplars(value: SessionValue) -> dict[str, Any]:
    """Return each object as `exemplar` for a session on the same image."""
    return {
        "exemplars": [
            {
                "mask": each.mask,
                "clicks": [{"x": click.x, "y": click.y, "positive": click.positive} for click in each.clicks],
                "label": each.label,
            }
            for each in value.objects
        ]
    }
