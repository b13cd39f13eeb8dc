"""COCO+LVIS, the combined data set of RITM: packed layers of labels per image, and a hierarchy of objects."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.decoding import AS_IT_COMES, Decoding
from models.errors import InputError
from pipeline.data.images import read_image, read_labels
from pipeline.data.readers.folders import file_inside, list_names, missing_split, require_root
from pipeline.data.readers.restricted_pickle import PickledArray, read_pickle
from pipeline.data.sample import BadItem, Item, Origin, Sample, pack_objects

_INDEX = "hannotation.pickle"
_EXPECTED = f"<split>/{_INDEX}, <split>/masks/*.pickle and <split>/images/*.jpg"
# The published index of 100,000 images takes tens of MB, the masks of an image tens of KB.
_MAX_INDEX_BYTES = 1 << 30
_MAX_MASKS_BYTES = 64 << 20
_MAX_LABELS = 1 << 29
_PNG = b"\x89PNG"


@dataclass(frozen=True, kw_only=True)
class CocoLvis:
    """COCO+LVIS under `root`; `split` is train or val, and is not needed if only one exists.

    `hannotation.pickle` maps an image's name to its objects. Those without a parent are listed, as in published
    training: the parts of an object belong to it. `masks/<name>.pickle` holds layers of labels as PNG and, by object
    number, the layer and the value. Numbers that are not in the hierarchy are stuff, not objects. The pickles are read
    without running anything in them (restricted_pickle.py).
    """

    root: str = ""
    split: str = ""
    decoding: Decoding = AS_IT_COMES

    def __post_init__(self) -> None:
        self._folder()

    def _folder(self) -> Path:
        root = require_root("coco_lvis", self.root, _EXPECTED)
        found = {path.parent.name: path.parent for path in sorted(root.glob(f"*/{_INDEX}"))}
        if self.split:
            if self.split not in found:
                raise missing_split("coco_lvis", self.split, found, str(root / self.split / _INDEX))
            return found[self.split]
        if (root / _INDEX).is_file():
            return root
        if not found:
            raise InputError(f"{str(root)!r} holds {list_names(root)}; reader 'coco_lvis' expects {_EXPECTED}")
        if len(found) > 1:
            raise InputError(f"{str(root)!r} is divided into splits: name one of {', '.join(found)}")
        return next(iter(found.values()))

    def items(self) -> Sequence[Item]:
        """List the images, sorted by id, the name; object ids add "/<object number>". Opens the index and no image."""
        folder = self._folder()
        try:
            index = read_pickle(folder / _INDEX, _MAX_INDEX_BYTES)
        except InputError as error:
            raise InputError(f"{folder / _INDEX}: {error}") from error
        if not isinstance(index, dict) or not all(isinstance(name, str | int) for name in index):
            raise InputError(f"{folder / _INDEX}: expected a dict from image names to their objects")
        items = []
        for name, entry in index.items():
            numbers = _root_numbers(entry)
            if numbers is None:
                raise InputError(f"{folder / _INDEX}: the entry of image {name!r} has no hierarchy of objects")
            object_ids = tuple(f"{name}/{number}" for number in numbers)
            items.append(Item(id=str(name), object_ids=object_ids, payload={"folder": str(folder), "objects": numbers}))
        return sorted(items, key=lambda item: item.id)

    def load(self, item: Item) -> Sample:
        """Read one image and its packed masks; raises BadItem if either is missing or broken or their sizes differ."""
        folder = Path(item.payload["folder"])
        try:
            layers, places = _read_masks(file_inside(folder / "masks", f"{item.id}.pickle"), self.decoding)
        except ValueError as error:
            raise BadItem(item.id, f"masks/{item.id}.pickle: {error}") from error
        try:
            path = file_inside(folder / "images", f"{item.id}.jpg")
            image = read_image(path, expected_hw=(layers.shape[1], layers.shape[2]), decoding=self.decoding)
        except ValueError as error:
            raise BadItem(item.id, f"images/{item.id}.jpg: {error}") from error
        masks: list[tuple[str, str, np.ndarray]] = []
        refused: list[str] = []
        for number in item.payload["objects"]:
            place = places.get(number)
            if place is None or not 0 <= place[0] < len(layers) or place[1] < 1:
                refused.append(f"{item.id}/{number}: the masks have no layer for it")
            else:
                masks.append((f"{item.id}/{number}", "", layers[place[0]] == place[1]))
        return pack_objects(item.id, image, masks, refused=refused, origin=Origin(file=str(path)))


def _root_numbers(entry: Any) -> list[int] | None:
    """Return the objects without a parent; None if the entry is not such a hierarchy."""
    hierarchy = entry.get("hierarchy") if isinstance(entry, dict) else None
    if not isinstance(hierarchy, dict):
        return None
    if not all(isinstance(n, int) and (info is None or isinstance(info, dict)) for n, info in hierarchy.items()):
        return None
    return sorted(int(n) for n, info in hierarchy.items() if info is None or info.get("parent") is None)


def _read_masks(path: Path, decoding: Decoding) -> tuple[np.ndarray, Mapping[int, tuple[int, int]]]:
    """Return layers of labels (layers, h, w) and, by object number, layer and label; ValueError for other files.

    The places are a list in the published files and a dict in some files of other makers.
    """
    packed = read_pickle(path, _MAX_MASKS_BYTES)
    if not isinstance(packed, list | tuple) or len(packed) < 2 or not isinstance(packed[0], list | tuple):
        raise ValueError("expected the layers and the places of the objects in them")
    layers: list[np.ndarray] = []
    for layer in packed[0]:
        layers.append(_decode(layer, decoding))
        if layers[0].size * len(layers) > _MAX_LABELS:
            raise ValueError(f"the layers hold more than {_MAX_LABELS} labels")
    if not layers or len({layer.shape for layer in layers}) > 1:
        raise ValueError(f"expected layers of one size, got {sorted({layer.shape for layer in layers})}")
    places = dict(enumerate(packed[1])) if isinstance(packed[1], list | tuple) else packed[1]
    if not isinstance(places, dict) or not all(_is_place(place) for place in places.values()):
        raise ValueError("expected a layer and a label for each object")
    return np.stack(layers), {number: (place[0], place[1]) for number, place in places.items()}


def _is_place(place: Any) -> bool:
    return isinstance(place, list | tuple) and len(place) == 2 and all(isinstance(value, int) for value in place)


def _decode(layer: Any, decoding: Decoding) -> np.ndarray:
    """Decode a PNG of labels; other formats are refused, because JPEG artefacts would invent labels."""
    if isinstance(layer, PickledArray):
        data = layer.array().tobytes()
    elif isinstance(layer, bytes | bytearray):
        data = bytes(layer)
    else:
        raise ValueError("expected each layer as the bytes of a PNG")
    if not data.startswith(_PNG):
        raise ValueError("a layer is not a PNG")
    labels = read_labels(data, decoding=decoding)
    if labels.ndim != 2:
        raise ValueError("a layer has colours: expected one channel of labels")
    return labels
