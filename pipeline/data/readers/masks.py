"""Folders of masks: an image folder, a mask folder, and a rule that says which mask values are an object."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from models.decoding import AS_IT_COMES, Decoding
from models.errors import InputError
from pipeline.data.images import read_image
from pipeline.data.readers.folders import list_images, list_names, missing_split, require_root, stand_in, stem
from pipeline.data.readers.mask_rule import MaskRule, look_at, say
from pipeline.data.sample import BadItem, Item, Origin, Sample, pack_objects

_logger = logging.getLogger(__name__)

_FOLDER_PAIRS = (("images", "masks"), ("img", "gt"), ("data_GT", "boundary_GT"))


@dataclass(frozen=True, kw_only=True)
class Masks:
    """An image folder and a mask folder whose files share their stem (the name up to its first dot).

    `images` and `masks` name the folders under root (or under root/split); left empty, the first pair that exists of
    images + masks, img + gt, data_GT + boundary_GT. With the rule `ids` listing opens every mask.
    """

    root: str = ""
    split: str = ""
    images: str = ""
    masks: str = ""
    rule: str = "nonzero"
    decoding: Decoding = AS_IT_COMES

    def __post_init__(self) -> None:
        MaskRule.parse(self.rule)
        self._folders()

    def _folders(self) -> tuple[Path, Path]:
        pairs = [(self.images or images, self.masks or masks) for images, masks in _FOLDER_PAIRS]
        expected = " or ".join(f"{images}/ + {masks}/" for images, masks in dict.fromkeys(pairs))
        root = require_root("masks", self.root, expected)
        base = root / self.split
        if not base.is_dir():
            known = [entry.name for entry in root.iterdir() if entry.is_dir()]
            raise missing_split("masks", self.split, known, f"a folder {self.split!r} under {self.root!r}")
        for images, masks in pairs:
            if (base / images).is_dir() and (base / masks).is_dir():
                return base / images, base / masks
        raise InputError(f"{str(base)!r} holds {list_names(base)}; expected the folders {expected}")

    def items(self) -> Sequence[Item]:
        """List the images, sorted by id, the stem; InputError if no image has a mask or two share a stem."""
        images_dir, masks_dir = self._folders()
        images = list_images(images_dir)
        masks = list_images(masks_dir)
        for paths, folder in ((images, images_dir), (masks, masks_dir)):
            twice = [name for name, count in Counter(map(stem, paths)).items() if count > 1]
            if twice:
                raise InputError(f"{len(twice)} names occur twice in {str(folder)!r}, for example {twice[0]!r}")
        mask_of = {stem(path): path for path in masks}
        found = sum(stem(path) in mask_of for path in images)
        if not found:
            raise InputError(
                f"none of the {len(images)} images in {str(images_dir)!r} has a mask of the same name among the "
                f"{len(masks)} files in {str(masks_dir)!r}"
            )
        if found < len(masks):
            _logger.warning("%d masks in %s belong to no image", len(masks) - found, masks_dir)
        pairs = sorted((stem(path), path, mask_of.get(stem(path))) for path in images)
        return self._items(pairs, masks_dir)

    def _items(self, pairs: Sequence[tuple[str, Path, Path | None]], masks_dir: Path) -> list[Item]:
        """Make the items of (id, image, mask); what there is to say of the masks is said once."""
        rule, notes, unlisted = MaskRule.parse(self.rule), Counter[str](), list[str]()
        items = []
        for item_id, image, mask in pairs:
            object_ids = (f"{item_id}/1",) if mask else ()
            if mask and rule.kind == "ids":
                try:
                    values = rule.values(rule.read(mask, self.decoding, notes))
                    object_ids = tuple(f"{item_id}/{value}" for value in values)
                except ValueError as error:
                    unlisted.append(f"{mask.name}: {error}")
                    object_ids = stand_in(item_id)
            payload = {"image": str(image), "mask": str(mask) if mask else ""}
            items.append(Item(id=item_id, object_ids=object_ids, payload=payload))
        masks = [mask for _, _, mask in pairs if mask]
        if rule.kind == "ids":
            say(masks_dir, notes, f"{len(masks)} masks")
        else:
            look_at(masks_dir, masks, rule, self.decoding)
        if unlisted:
            _logger.warning("%s: %d masks cannot be listed, the first is %s", masks_dir, len(unlisted), unlisted[0])
        return items

    def load(self, item: Item) -> Sample:
        """Read one image and its mask; BadItem if either is missing or broken or their sizes differ."""
        rule = MaskRule.parse(self.rule)
        if not item.payload["mask"]:
            raise BadItem(item.id, "the image has no mask file of the same name")
        try:
            labels = rule.read(Path(item.payload["mask"]), self.decoding)
        except ValueError as error:
            raise BadItem(item.id, f"mask {Path(item.payload['mask']).name}: {error}") from error
        try:
            image = read_image(
                Path(item.payload["image"]), expected_hw=(labels.shape[0], labels.shape[1]), decoding=self.decoding
            )
        except ValueError as error:
            raise BadItem(item.id, f"image {Path(item.payload['image']).name}: {error}") from error
        masks = [(f"{item.id}/{value}", "", rule.object_mask(labels, value)) for value in rule.values(labels)]
        return pack_objects(item.id, image, masks, labels == rule.ignore, origin=Origin(file=item.payload["image"]))
