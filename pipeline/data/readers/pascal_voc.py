"""Pascal VOC segmentation: a palette PNG of numbered objects per photo, read as stored or as in published code."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from models.decoding import AS_IT_COMES, Decoding
from models.errors import InputError
from models.records import Record
from pipeline.data.images import read_image, read_labels
from pipeline.data.readers.folders import list_names, missing_split, read_name_list, require_root, stand_in
from pipeline.data.readers.names import find_file, report_names
from pipeline.data.sample import BadItem, Item, Origin, Sample, pack_objects

_logger = logging.getLogger(__name__)

_EXPECTED = (
    "JPEGImages/*.jpg, SegmentationObject/*.png and ImageSets/Segmentation/<split>.txt "
    "(or these in VOC2012/ or VOCdevkit/VOC2012/)"
)

# Value of the border between objects, by reading; (224, 224, 192), the colour of palette index 255, is gray 220.
_BORDER = {"palette": 255, "gray": 220}


@dataclass(frozen=True, kw_only=True)
class PascalVoc(Record):
    """Objects of a Pascal VOC segmentation list; `split` names the list, by default val.

    `reading` says what an object's number is. `palette`: the index in the PNG; VOC 2012 val has 3427 such objects on
    1449 images. `gray`: the index's colour converted to gray, as in RITM and code derived from it, which gives 3417:
    indices 1 and 16, 3 and 18, 6 and 21, 9 and 24 (and three pairs above 38) have the same gray, so these objects
    become one. The border (index 255) is ignored in both. Listing opens every mask and no image.
    """

    root: str = ""
    split: str = ""
    reading: Literal["palette", "gray"] = "palette"
    decoding: Decoding = AS_IT_COMES

    def __post_init__(self) -> None:
        super().__post_init__()
        self._list_path()

    def _list_path(self) -> Path:
        root = require_root("pascal_voc", self.root, _EXPECTED)
        bases = [root, root / "VOC2012", root / "VOCdevkit" / "VOC2012"]
        base = next((folder for folder in bases if (folder / "SegmentationObject").is_dir()), None)
        if base is None or not (base / "JPEGImages").is_dir():
            raise InputError(f"{str(root)!r} holds {list_names(root)}; expected {_EXPECTED}")
        path = base / "ImageSets" / "Segmentation" / f"{self.split or 'val'}.txt"
        if not path.is_file():
            known = [entry.stem for entry in path.parent.glob("*.txt")]
            raise missing_split("pascal_voc", path.stem, known, f"the list of image names {str(path)!r}")
        return path

    def items(self) -> Sequence[Item]:
        """List the images named by the split's list, sorted by id, the name; object ids add "/<object number>"."""
        path = self._list_path()
        names, base = sorted(read_name_list(path)), path.parents[2]
        for folder, suffix in (("JPEGImages", "jpg"), ("SegmentationObject", "png")):
            report_names(__name__, base / folder, (f"{name}.{suffix}" for name in names))
        return [self._item(name, base) for name in names]

    def _item(self, name: str, base: Path) -> Item:
        try:
            object_ids = tuple(f"{name}/{value}" for value in self._values(self._read_labels(base, name)))
        except ValueError as error:
            _logger.warning("SegmentationObject/%s.png cannot be listed: %s", name, error)
            object_ids = stand_in(name)
        return Item(id=name, object_ids=object_ids, payload={"base": str(base)})

    def load(self, item: Item) -> Sample:
        """Read one image and its mask; raises BadItem if either is missing or broken or their sizes differ."""
        base = Path(item.payload["base"])
        try:
            labels = self._read_labels(base, item.id)
        except ValueError as error:
            raise BadItem(item.id, f"SegmentationObject/{item.id}.png: {error}") from error
        try:
            path = find_file(base / "JPEGImages", f"{item.id}.jpg")
            image = read_image(path, expected_hw=(labels.shape[0], labels.shape[1]), decoding=self.decoding)
        except ValueError as error:
            raise BadItem(item.id, f"JPEGImages/{item.id}.jpg: {error}") from error
        masks = [(f"{item.id}/{value}", "", labels == value) for value in self._values(labels)]
        return pack_objects(item.id, image, masks, labels == _BORDER[self.reading], origin=Origin(file=str(path)))

    def _read_labels(self, base: Path, name: str) -> np.ndarray:
        """Return the object numbers, integer (h, w); raises ValueError if the file does not suit the reading."""
        path = find_file(base / "SegmentationObject", f"{name}.png")
        labels = read_labels(path, palette_index=self.reading == "palette", decoding=self.decoding)
        if self.reading == "palette":
            if labels.ndim != 2:
                raise ValueError("expected a PNG with a palette, got colours (reading=gray can read them)")
            return labels
        if labels.ndim != 3:
            raise ValueError("expected a PNG with colours or a palette, got grays (use reading=palette)")
        return cv2.cvtColor(labels, cv2.COLOR_RGB2GRAY)

    def _values(self, labels: np.ndarray) -> list[int]:
        return [int(value) for value in np.unique(labels) if value > 0 and value != _BORDER[self.reading]]
