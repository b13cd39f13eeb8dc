"""A folder of masks per image, in which each mask file is one object: nuclei of DSB2018 and similar data sets."""

import logging
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.decoding import AS_IT_COMES, Decoding
from models.errors import InputError
from pipeline.data.images import read_image
from pipeline.data.orientation import (
    map_files,
    most_upright,
    read_header,
    read_headers,
    reads_upright,
    settle,
    tell,
    turned,
)
from pipeline.data.readers.folders import is_image, list_names, missing_split, require_root, stand_in, stem
from pipeline.data.readers.mask_rule import MaskRule, look_at_masks
from pipeline.data.readers.names import pair, report_new_ids
from pipeline.data.sample import BadItem, Item, Origin, Sample, pack_objects

_logger = logging.getLogger(__name__)

_NAME = "{name}"


@dataclass(frozen=True, kw_only=True)
class MaskFolders:
    """Images under `root` or `root`/`split` whose objects are separate mask files.

    `images` and `masks` are path patterns in which {name} is the image's name and * is anything within one name:
    `{name}/images/*` with `{name}/masks/*` (DSB2018, the default), or `images/{name}.*` with `masks/{name}/*.png`.
    Names that differ only in form are the same (readers/names.py). `rule` says which values of a mask are the object:
    nonzero or above:N. Without a split, the only folder that fits is read. Listing opens the headers of images, the
    headers of masks of rotated images (orientation.py), and a few masks, to report the kind of their values.
    """

    root: str = ""
    split: str = ""
    images: str = "{name}/images/*"
    masks: str = "{name}/masks/*"
    rule: str = "nonzero"
    decoding: Decoding = AS_IT_COMES

    def __post_init__(self) -> None:
        for option, pattern in (("images", self.images), ("masks", self.masks)):
            parts = pattern.split("/")
            if pattern.count(_NAME) != 1 or any(part in ("", ".", "..") or "**" in part for part in parts):
                raise InputError(f"{option} {pattern!r}: expected a path with {_NAME} once, such as {_NAME}/{option}/*")
        if MaskRule.parse(self.rule).kind == "ids":
            raise InputError(f"rule {self.rule!r}: a mask file is one object here; expected nonzero or above:N")
        self._base()

    def _base(self) -> Path:
        expected = f"{self.images} and {self.masks}"
        root = require_root("mask_folders", self.root, expected)
        known = [entry.name for entry in sorted(root.iterdir()) if entry.is_dir() and self._fits(entry)]
        if self.split:
            if self.split not in known:
                raise missing_split("mask_folders", self.split, known, f"{expected} in {str(root / self.split)!r}")
            return root / self.split
        if self._fits(root):
            return root
        if not known:
            raise InputError(f"{str(root)!r} holds {list_names(root)}; expected {expected}")
        if len(known) > 1:
            raise InputError(f"{str(root)!r} is divided into splits: name one of {', '.join(known)}")
        return root / known[0]

    def _fits(self, base: Path) -> bool:
        return next(_matches(base, self.images), None) is not None

    def items(self) -> Sequence[Item]:
        """List the images, sorted by id, the name; object ids add "/<mask's name>"; InputError if none has a mask."""
        base = self._base()
        images: dict[str, list[Path]] = {}
        before: dict[str, str] = {}
        for names, path in _matches(base, self.images):
            # A name extends over as many dots as it can, as in shot_0.10.jpg.
            name = names[0] if f"{_NAME}." in self.images else names[-1]
            images.setdefault(name, []).append(path)
            before.setdefault(name, names[-1])
        masks: dict[str, list[Path]] = {}
        for names, path in _matches(base, self.masks):
            masks.setdefault(next((name for name in names if name in images), names[-1]), []).append(path)
        pairs = pair(images, masks, words=True)
        if not pairs.of:
            raise InputError(
                f"none of the {len(images)} images in {str(base)!r} has a mask: expected {self.masks}"
                f"{pairs.first_fault()}"
            )
        pairs.found.report(__name__, base)
        report_new_ids(__name__, base, ((before[name], name) for name in images))
        if len(pairs.of) < len(masks):
            _logger.warning("%s: masks of %d names without an image skipped", base, len(masks) - len(pairs.of))
        masks_of = {name: masks.get(pairs.of.get(name, ""), []) for name in sorted(images)}
        look_at_masks(
            base, [path for found in masks_of.values() for path in found], MaskRule.parse(self.rule), self.decoding
        )
        upright = self._undecided_upright(base, [(images[name][0], found) for name, found in masks_of.items()])
        return [
            _item(name, base, images[name], found, pairs.faults.get(name, ""), upright)
            for name, found in masks_of.items()
        ]

    def _undecided_upright(self, base: Path, pairs: Sequence[tuple[Path, Sequence[Path]]]) -> bool:
        """Whether to read upright the photos whose masks' sizes do not show how they lie."""
        if self.decoding.exif != "auto":
            return self.decoding.exif == "upright"
        votes = map_files(pairs, lambda pair: tell(pair[0], read_headers(pair[1])))
        return settle(base, Counter(votes), usual=True)

    def load(self, item: Item) -> Sample:
        """Read one image and its masks; raises BadItem without exactly one readable image, or without masks.

        A mask that cannot be read or has another size is refused alone.
        """
        base, images = Path(item.payload["base"]), item.payload["images"]
        if len(images) != 1:
            raise BadItem(item.id, f"expected one image, found {len(images)}: {', '.join(images[:4])}")
        if item.payload.get("fault"):
            raise BadItem(item.id, item.payload["fault"])
        if not item.payload["masks"]:
            raise BadItem(item.id, f"the image has no mask: expected {self.masks.replace(_NAME, item.id)}")
        paths = [base / name for name in item.payload["masks"]]
        try:
            photo, otherwise = read_header(base / images[0]), item.payload.get("upright", False)
            is_turned = photo.orientation != 1
            upright = is_turned and most_upright(photo, read_headers(paths), self.decoding.exif, otherwise)
            image = read_image(base / images[0], upright=upright, decoding=self.decoding)
        except ValueError as error:
            raise BadItem(item.id, f"image {images[0]}: {error}") from error
        rule, hw = MaskRule.parse(self.rule), (image.shape[0], image.shape[1])
        masks: list[tuple[str, str, np.ndarray]] = []
        refused: list[str] = []
        for object_id, path in zip(item.object_ids, paths, strict=True):
            try:
                labels = rule.read(path, self.decoding)
                if is_turned:
                    header = read_header(path)
                    reads_upright(photo, header, self.decoding.exif, upright)  # ValueError if neither way fits
                    labels = turned(labels, header, upright)
                if labels.shape != hw:
                    raise ValueError(f"the mask is {labels.shape[0]} x {labels.shape[1]}, its image {hw[0]} x {hw[1]}")
                masks.append((object_id, "", rule.object_mask(labels, 1)))
            except ValueError as error:
                refused.append(f"{object_id}: {error}")
        return pack_objects(item.id, image, masks, refused=refused, origin=Origin(file=str(base / images[0])))


def _item(name: str, base: Path, images: Sequence[Path], masks: Sequence[Path], fault: str, upright: bool) -> Item:
    stems = [stem(path.name) for path in masks]
    names = stems if len(set(stems)) == len(stems) else [path.name for path in masks]
    payload: dict[str, Any] = {
        "base": str(base),
        "images": [path.relative_to(base).as_posix() for path in images],
        "masks": [path.relative_to(base).as_posix() for path in masks],
        "upright": upright,
    }
    if fault:
        return Item(id=name, object_ids=stand_in(name), payload={**payload, "fault": fault})
    return Item(id=name, object_ids=tuple(f"{name}/{mask}" for mask in names), payload=payload)


def _matches(base: Path, pattern: str) -> Iterator[tuple[list[str], Path]]:
    """Yield the image files that fit, sorted, each with the possible values of {name}, the longest first."""
    for path in sorted(base.glob(pattern.replace(_NAME, "*"))):
        names = list(_names(pattern, path.relative_to(base).as_posix()))
        if names and is_image(path.name):
            yield names, path


def _names(pattern: str, path: str) -> Iterator[str]:
    fixed = re.escape(pattern).replace(re.escape("*"), "[^/]*")
    most = len(path)
    while most and (match := re.fullmatch(fixed.replace(re.escape(_NAME), f"([^/]{{1,{most}}})"), path)):
        yield match[1]
        most = len(match[1]) - 1
