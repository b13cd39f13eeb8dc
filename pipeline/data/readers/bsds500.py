"""BSDS500: photos segmented into regions by several people; regions on which two of them agree serve as objects."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np

from models.decoding import AS_IT_COMES, Decoding
from models.errors import InputError
from models.records import Above, AtMost, Fraction, Record
from pipeline.data.images import read_image
from pipeline.data.readers.folders import list_images, list_names, missing_split, require_root, stand_in
from pipeline.data.readers.mat_files import field, label_map, read_variable
from pipeline.data.sample import BadItem, Item, Origin, Sample, pack_objects

_logger = logging.getLogger(__name__)

_EXPECTED = "images/<split>/<id>.jpg and groundTruth/<split>/<id>.mat (or these in a folder data/)"

# Two chosen regions that overlap by this much are one object drawn twice.
_SAME_IOU = 0.5


@dataclass(frozen=True, kw_only=True)
class Bsds500(Record):
    """BSDS500 under `root` or `root`/data; an empty `split` reads those of train, val and test that exist.

    BSDS has regions, not objects. A region counts as an object if it covers `min_area_fraction` to `max_area_fraction`
    of the image and another person drew it with an IoU of at least `min_agreement`. Of regions that overlap with an IoU
    of 0.5 or more, the one that most people drew is kept, then the one with the highest agreement. No published count
    exists: this choice is ours. Listing opens every MATLAB file (about 30 ms each) and no image.
    """

    root: str = ""
    split: str = ""
    min_agreement: Annotated[float, Above(0), AtMost(1)] = 0.85
    min_area_fraction: Fraction = 0.01
    max_area_fraction: Fraction = 0.6
    decoding: Decoding = AS_IT_COMES

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.min_area_fraction >= self.max_area_fraction:
            raise InputError(
                f"min_area_fraction is {self.min_area_fraction}: expected less than max_area_fraction, "
                f"which is {self.max_area_fraction}"
            )
        self._splits()

    def _splits(self) -> dict[str, tuple[Path, Path]]:
        """Return the folders (images, groundTruth) of each chosen split."""
        root = require_root("bsds500", self.root, _EXPECTED)
        base = next((folder for folder in (root, root / "data") if (folder / "groundTruth").is_dir()), None)
        if base is None or not (base / "images").is_dir():
            raise InputError(f"{str(root)!r} holds {list_names(root)}; expected {_EXPECTED}")
        found = {
            folder.name: (base / "images" / folder.name, folder)
            for folder in sorted((base / "groundTruth").iterdir())
            if folder.is_dir() and (base / "images" / folder.name).is_dir()
        }
        if self.split and self.split not in found:
            raise missing_split("bsds500", self.split, found, f"the folders images/{self.split} in {str(base)!r}")
        if not found:
            raise InputError(f"{str(base)!r} holds no split; expected {_EXPECTED}")
        return {self.split: found[self.split]} if self.split else found

    def items(self) -> Sequence[Item]:
        """List the images, sorted by id, "<split>/<id>"; object ids add "/<annotator, from 0>.<region>"."""
        return sorted(
            (
                self._item(f"{split}/{path.stem}", path, truth_dir / f"{path.stem}.mat")
                for split, (images_dir, truth_dir) in self._splits().items()
                for path in list_images(images_dir)
            ),
            key=lambda item: item.id,
        )

    def _item(self, item_id: str, image: Path, truth: Path) -> Item:
        try:
            regions = self._choose(_read_segmentations(truth, self.decoding))
            object_ids = tuple(f"{item_id}/{annotator}.{label}" for annotator, label in regions)
        except ValueError as error:
            _logger.warning("%s cannot be listed: %s", truth, error)
            regions, object_ids = [], stand_in(item_id)
        payload = {"image": str(image), "truth": str(truth), "regions": regions}
        return Item(id=item_id, object_ids=object_ids, payload=payload)

    def _choose(self, maps: Sequence[np.ndarray]) -> list[tuple[int, int]]:
        """Return (annotator, label) of the regions that count as objects, those with the most agreement first."""
        counts = [np.bincount(labels.ravel()) for labels in maps]
        limits = self.min_area_fraction * maps[0].size, self.max_area_fraction * maps[0].size
        ranked: list[tuple[int, float, int, int]] = []
        for annotator, labels in enumerate(maps):
            others = [n for n in range(len(maps)) if n != annotator]
            if not others:
                continue
            ious = np.stack([_best_ious(labels, maps[n], counts[annotator], counts[n]) for n in others])
            best, agreeing = ious.max(axis=0), (ious >= self.min_agreement).sum(axis=0)
            # Rounded, so that ties are resolved by the order of annotators and not by the last digit.
            ranked += [
                (-int(agreeing[label]), -round(float(best[label]), 3), annotator, label)
                for label in range(1, len(counts[annotator]))
                if limits[0] <= counts[annotator][label] <= limits[1] and agreeing[label]
            ]
        chosen: list[tuple[int, int]] = []
        masks: list[np.ndarray] = []
        for _, _, annotator, label in sorted(ranked):
            mask = maps[annotator] == label
            if all((mask & other).sum() < _SAME_IOU * (mask | other).sum() for other in masks):
                chosen.append((annotator, label))
                masks.append(mask)
        return chosen

    def load(self, item: Item) -> Sample:
        """Read one image and its regions; raises BadItem if either is missing or broken or their sizes differ."""
        truth, image_path = Path(item.payload["truth"]), Path(item.payload["image"])
        try:
            maps = _read_segmentations(truth, self.decoding)
        except ValueError as error:
            raise BadItem(item.id, f"{truth.name}: {error}") from error
        try:
            image = read_image(image_path, expected_hw=(maps[0].shape[0], maps[0].shape[1]), decoding=self.decoding)
        except ValueError as error:
            raise BadItem(item.id, f"image {image_path.name}: {error}") from error
        regions = item.payload["regions"]
        return pack_objects(
            item.id,
            image,
            [(f"{item.id}/{a}.{n}", "", maps[a] == n) for a, n in regions],
            origin=Origin(file=str(image_path)),
        )


def _read_segmentations(path: Path, decoding: Decoding) -> list[np.ndarray]:
    """Return the label map of each annotator, int64 (h, w); ValueError if there is none or their sizes differ."""
    cells = read_variable(path, "groundTruth")
    maps = [label_map(field(cell, "Segmentation"), decoding) for cell in cells.ravel()]
    if not maps or len({labels.shape for labels in maps}) > 1:
        raise ValueError(f"expected segmentations of one size, got {[labels.shape for labels in maps]}")
    return maps


def _best_ious(labels: np.ndarray, other: np.ndarray, sizes: np.ndarray, other_sizes: np.ndarray) -> np.ndarray:
    """Return the IoU of each region of `labels` with the region of `other` that fits it best; float (labels,)."""
    num = len(other_sizes)
    shared = np.bincount((labels * num + other).ravel(), minlength=len(sizes) * num).reshape(-1, num)
    union = sizes[:, None] + other_sizes[None] - shared
    return (shared / np.maximum(union, 1)).max(axis=1)
