"""A folder of masks per image, each mask file one object: nuclei of DSB2018, and sets built alike."""

import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.decoding import AS_IT_COMES, Decoding
from models.errors import InputError
from pipeline.data.images import read_image
from pipeline.data.readers.folders import IMAGE_SUFFIXES, list_names, missing_split, require_root
from pipeline.data.readers.mask_rule import MaskRule, look_at
from pipeline.data.sample import BadItem, Item, Origin, Sample, pack_objects

_logger = logging.getLogger(__name__)

_NAME = "{name}"


@dataclass(frozen=True, kw_only=True)
class MaskFolders:
    """Images under `root` or `root`/`split` whose objects are mask files of their own.

    `images` and `masks` are patterns of paths in which {name} stands for the image's name and * for anything within
    one name: `{name}/images/*` with `{name}/masks/*` (DSB2018, the default) or `images/{name}.*` with
    `masks/{name}/*.png`. `rule` says which values of a mask are the object: nonzero or above:N. With no split named,
    the only folder that fits is read. Listing opens a few masks, to say what kind of values they hold.
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
        masks: dict[str, list[Path]] = {}
        for found, pattern in ((images, self.images), (masks, self.masks)):
            for name, path in _matches(base, pattern):
                found.setdefault(name, []).append(path)
        if not images.keys() & masks.keys():
            raise InputError(f"none of the {len(images)} images in {str(base)!r} has a mask: expected {self.masks}")
        if masks.keys() - images.keys():
            _logger.warning("%s: masks of %d names without an image skipped", base, len(masks.keys() - images.keys()))
        used = [path for name in sorted(images) for path in masks.get(name, [])]
        look_at(base, used, MaskRule.parse(self.rule), self.decoding)
        return [_item(name, base, images[name], masks.get(name, [])) for name in sorted(images)]

    def load(self, item: Item) -> Sample:
        """Read one image and its masks; BadItem if it has no mask or not one image, or if that cannot be read.

        A mask that cannot be read or has another size is refused alone.
        """
        base, images = Path(item.payload["base"]), item.payload["images"]
        if len(images) != 1:
            raise BadItem(item.id, f"expected one image, there are {len(images)}: {', '.join(images[:4])}")
        if not item.payload["masks"]:
            raise BadItem(item.id, f"the image has no mask: expected {self.masks.replace(_NAME, item.id)}")
        try:
            image = read_image(base / images[0], decoding=self.decoding)
        except ValueError as error:
            raise BadItem(item.id, f"image {images[0]}: {error}") from error
        rule, hw = MaskRule.parse(self.rule), (image.shape[0], image.shape[1])
        masks: list[tuple[str, str, np.ndarray]] = []
        refused: list[str] = []
        for object_id, name in zip(item.object_ids, item.payload["masks"], strict=True):
            try:
                labels = rule.read(base / name, self.decoding)
                if labels.shape != hw:
                    raise ValueError(f"the mask is {labels.shape[0]} x {labels.shape[1]}, its image {hw[0]} x {hw[1]}")
                masks.append((object_id, "", rule.object_mask(labels, 1)))
            except ValueError as error:
                refused.append(f"{object_id}: {error}")
        return pack_objects(item.id, image, masks, refused=refused, origin=Origin(file=str(base / images[0])))


def _item(name: str, base: Path, images: Sequence[Path], masks: Sequence[Path]) -> Item:
    stems = [path.stem for path in masks]
    names = stems if len(set(stems)) == len(stems) else [path.name for path in masks]
    payload = {
        "base": str(base),
        "images": [path.relative_to(base).as_posix() for path in images],
        "masks": [path.relative_to(base).as_posix() for path in masks],
    }
    return Item(id=name, object_ids=tuple(f"{name}/{mask}" for mask in names), payload=payload)


def _matches(base: Path, pattern: str) -> Iterator[tuple[str, Path]]:
    """Yield (name, path) of the image files under `base` that fit the pattern, sorted; hidden ones are left out."""
    fixed = re.escape(pattern).replace(re.escape("*"), "[^/]*").replace(re.escape(_NAME), "([^/]+?)")
    for path in sorted(base.glob(pattern.replace(_NAME, "*"))):
        match = re.fullmatch(fixed, path.relative_to(base).as_posix())
        if match and path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith("."):
            yield match[1], path
