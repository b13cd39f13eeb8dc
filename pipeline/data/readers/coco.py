"""COCO instances JSON with the quirks of the tools that write it; masks as polygons or as either kind of RLE."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.errors import InputError
from pipeline.data import rle
from pipeline.data.images import read_image
from pipeline.data.readers.coco_files import (
    EXPECTED,
    file_names,
    find_annotations,
    find_images,
    licence_names,
    read_json,
)
from pipeline.data.readers.folders import file_inside, require_root
from pipeline.data.sample import BadItem, Item, Origin, Sample, pack_objects

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Coco:
    """COCO instances under `root`. `annotations` and `images` name the JSON and the folder where the usual places fail.

    Item ids are image ids, object ids "<image id>/<annotation id>". Crowds go to the ignore mask. Each item carries
    its own annotations, so a worker never reads the JSON again.
    """

    root: str = ""
    split: str = ""
    annotations: str = ""
    images: str = ""

    def __post_init__(self) -> None:
        self._annotations_path()

    def _annotations_path(self) -> Path:
        return find_annotations(require_root("coco", self.root, EXPECTED), self.split, self.annotations)

    def items(self) -> Sequence[Item]:
        """List the images, sorted by id; InputError if the JSON is no COCO file or two images share an id."""
        path = self._annotations_path()
        data = read_json(path, ("images", "annotations"))
        records = [image for image in data["images"] if isinstance(image, dict) and "id" in image]
        if len(records) < len(data["images"]):
            _logger.warning("%s: %d images without an id skipped", path, len(data["images"]) - len(records))
        categories = {
            category["id"]: str(category.get("name", category["id"]))
            for category in data.get("categories") or []
            if isinstance(category, dict) and "id" in category
        }
        by_image: dict[str, list[dict[str, Any]]] = {}
        for image in records:
            if str(image["id"]) in by_image:
                raise InputError(f"{path}: two images have the id {image['id']!r}; ids must be unique")
            by_image[str(image["id"])] = []
        num_unknown = 0
        for position, annotation in enumerate(data["annotations"]):
            image_id = str(annotation.get("image_id")) if isinstance(annotation, dict) else ""
            if image_id not in by_image:
                num_unknown += 1
                continue
            by_image[image_id].append(_shorten(annotation, position, categories, by_image[image_id]))
        if num_unknown:
            _logger.warning("%s: %d annotations of unknown images skipped", path, num_unknown)
        folder = str(find_images(Path(self.root).expanduser(), self.split, self.images, records))
        licences = licence_names(data.get("licenses"))
        items = [_item(image, by_image[str(image["id"])], folder, licences) for image in records]
        return sorted(items, key=lambda item: item.id)

    def load(self, item: Item) -> Sample:
        """Read one image and rasterise its masks; BadItem if the file is missing, broken or of another size."""
        path, image = _read(item)
        hw = (image.shape[0], image.shape[1])
        ignore_mask = np.zeros(hw, bool)
        masks: list[tuple[str, str, np.ndarray]] = []
        refused: list[str] = []
        for annotation in item.payload["annotations"]:
            object_id = f"{item.id}/{annotation['id']}"
            try:
                mask = rle.from_segmentation(annotation["segmentation"], hw)
            except ValueError as error:
                # A crowd is no object, so its name is not among the item's: nothing is lost but an ignored region.
                if annotation["crowd"]:
                    _logger.warning("crowd %s skipped: %s", object_id, error)
                else:
                    refused.append(f"{object_id}: {error}")
                continue
            if annotation["crowd"]:
                ignore_mask |= mask
            else:
                masks.append((object_id, annotation["category"], mask))
        origin = Origin(file=str(path), licence=item.payload["licence"], source=item.payload["source"])
        return pack_objects(item.id, image, masks, ignore_mask, refused, origin)


def _shorten(
    annotation: dict[str, Any], position: int, categories: Mapping[Any, str], earlier: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """Keep what loading needs; a missing id becomes the position in the file, a repeated one gets the position too."""
    annotation_id = str(annotation.get("id", f"n{position}"))
    if any(other["id"] == annotation_id for other in earlier):
        annotation_id = f"{annotation_id}~{position}"
    category = annotation.get("category_id")
    fallback = "" if category is None else str(category)
    return {
        "id": annotation_id,
        "category": categories.get(category, fallback) if isinstance(category, int | str) else fallback,
        "crowd": bool(annotation.get("iscrowd")),
        "segmentation": annotation.get("segmentation"),
    }


def _item(image: dict[str, Any], annotations: list[dict[str, Any]], folder: str, licences: Mapping[Any, str]) -> Item:
    image_id = str(image["id"])
    height, width = image.get("height"), image.get("width")
    declared = (height, width) if isinstance(height, int) and isinstance(width, int) and height and width else None
    licence = image.get("license")
    payload = {
        "folder": folder,
        "names": file_names(image),
        "hw": declared,
        "annotations": annotations,
        "licence": licences.get(licence, "") if isinstance(licence, int | str) else "",
        "source": str(image.get("flickr_url") or image.get("coco_url") or ""),
    }
    object_ids = tuple(f"{image_id}/{annotation['id']}" for annotation in annotations if not annotation["crowd"])
    return Item(id=image_id, object_ids=object_ids, payload=payload)


def _read(item: Item) -> tuple[Path, np.ndarray]:
    """Find and read the image, in the orientation its annotations refer to: the declared size decides."""
    names = item.payload["names"]
    if not names:
        raise BadItem(item.id, "the image has neither file_name nor coco_url")
    try:
        paths = [file_inside(Path(item.payload["folder"]), name) for name in names]
        path = next((path for path in paths if path.is_file()), paths[0])
        return path, read_image(path, expected_hw=item.payload["hw"])
    except ValueError as error:
        raise BadItem(item.id, f"image {names[0]!r}: {error}") from error
