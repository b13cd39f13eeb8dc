"""An image folder and a mask folder, and a rule that says which mask values are an object."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from models.decoding import AS_IT_COMES, Decoding
from models.errors import InputError
from pipeline.data.images import read_image
from pipeline.data.orientation import map_files, read_header, read_headers, reads_upright, settle, tell, turned
from pipeline.data.readers.folders import list_images, list_names, missing_split, require_root, stand_in, stem
from pipeline.data.readers.mask_rule import MaskRule, look_at_masks, say
from pipeline.data.readers.names import pair, report_new_ids
from pipeline.data.sample import BadItem, Item, Origin, Sample, pack_objects

_logger = logging.getLogger(__name__)

_FOLDER_PAIRS = (("images", "masks"), ("img", "gt"), ("data_GT", "boundary_GT"))


@dataclass(frozen=True, kw_only=True)
class Masks:
    """An image folder and a mask folder whose files share their stem, the name without its suffix.

    If no mask has an image's stem, a mask whose name differs only in form belongs to it (readers/names.py), and so does
    `12.seg.png` to `12.jpg` if no other fits. `images` and `masks` name the folders under root (or under root/split);
    by default the first existing pair of images + masks, img + gt, data_GT + boundary_GT. With the rule `ids`, listing
    opens every mask; with exif auto, it opens the headers of all images (orientation.py).
    """

    PUBLISHED: ClassVar[bool] = False
    """Whether this is a published set, whose masks fit the photos as they are stored."""

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
        """List the images, sorted by id, the stem; raises InputError if no image has a mask or two share a stem."""
        images_dir, masks_dir = self._folders()
        images, masks = (_by_stem(list_images(folder), folder) for folder in (images_dir, masks_dir))
        pairs = pair(images, masks, words=True)
        if not pairs.of:
            raise InputError(
                f"none of the {len(images)} images in {str(images_dir)!r} has a mask of the same name among the "
                f"{len(masks)} files in {str(masks_dir)!r}{pairs.first_fault()}"
            )
        pairs.found.add_queries((images[one].name, masks[one].name) for one in pairs.of if one in masks)
        pairs.found.report(__name__, masks_dir)
        upright = self._undecided_upright(images_dir, [(images[one], masks[other]) for one, other in pairs.of.items()])
        report_new_ids(__name__, images_dir, ((path.name.split(".", 1)[0], name) for name, path in images.items()))
        if len(pairs.of) < len(masks):
            _logger.warning("%d masks in %s have no image", len(masks) - len(pairs.of), masks_dir)
        values = self._values({name: masks[other] for name, other in sorted(pairs.of.items())}, masks_dir)
        return [
            _item(name, path, masks.get(pairs.of.get(name, "")), values.get(name), pairs.faults.get(name, ""), upright)
            for name, path in sorted(images.items())
        ]

    def _values(self, mask_of: Mapping[str, Path], masks_dir: Path) -> dict[str, list[int]]:
        """Return the object numbers by image, without masks that cannot be listed; warns once about the masks."""
        rule, notes, unlisted = MaskRule.parse(self.rule), Counter[str](), list[str]()
        if rule.kind != "ids":
            look_at_masks(masks_dir, list(mask_of.values()), rule, self.decoding)
            return {name: [1] for name in mask_of}
        values: dict[str, list[int]] = {}
        for name, mask in mask_of.items():
            try:
                values[name] = rule.values(rule.read(mask, self.decoding, notes))
            except ValueError as error:
                unlisted.append(f"{mask.name}: {error}")
        say(masks_dir, notes, f"{len(mask_of)} masks")
        if unlisted:
            _logger.warning("%s: %d masks cannot be listed, the first is %s", masks_dir, len(unlisted), unlisted[0])
        return values

    def _undecided_upright(self, images_dir: Path, pairs: Sequence[tuple[Path, Path]]) -> bool:
        """Whether to read upright the photos whose mask's size does not show how they lie."""
        if self.PUBLISHED or self.decoding.exif != "auto":
            return self.decoding.exif == "upright"
        votes = map_files(pairs, lambda pair: tell(pair[0], read_headers([pair[1]])))
        return settle(images_dir, Counter(votes), usual=True)

    def load(self, item: Item) -> Sample:
        """Read one image and its mask; raises BadItem if either is missing or broken or their sizes differ."""
        rule = MaskRule.parse(self.rule)
        image_path, mask = Path(item.payload["image"]), Path(item.payload["mask"])
        if not item.payload["mask"]:
            raise BadItem(item.id, item.payload.get("fault") or "the image has no mask file of the same name")
        try:
            labels, header = rule.read(mask, self.decoding), read_header(mask)
        except ValueError as error:
            raise BadItem(item.id, f"mask {mask.name}: {error}") from error
        try:
            otherwise = item.payload.get("upright", False)
            upright = reads_upright(read_header(image_path), header, self.decoding.exif, otherwise)
            image = read_image(image_path, upright=upright, decoding=self.decoding)
        except ValueError as error:
            raise BadItem(item.id, f"image {image_path.name}: {error}") from error
        labels = turned(labels, header, upright)
        masks = [(f"{item.id}/{value}", "", rule.object_mask(labels, value)) for value in rule.values(labels)]
        return pack_objects(item.id, image, masks, labels == rule.ignore, origin=Origin(file=item.payload["image"]))


class PublishedMasks(Masks):
    """Masks of a published set."""

    PUBLISHED = True


def _item(
    item_id: str, image: Path, mask: Path | None, values: Sequence[int] | None, fault: str, upright: bool
) -> Item:
    payload: dict[str, Any] = {"image": str(image), "mask": str(mask) if mask else "", "upright": upright}
    if fault:
        return Item(id=item_id, object_ids=stand_in(item_id), payload={**payload, "fault": fault})
    object_ids = tuple(f"{item_id}/{value}" for value in values or ())
    return Item(id=item_id, object_ids=stand_in(item_id) if mask and values is None else object_ids, payload=payload)


def _by_stem(paths: Sequence[Path], folder: Path) -> dict[str, Path]:
    """Map stems to files; raises InputError if two share one."""
    stems = [stem(path.name) for path in paths]
    twice = [name for name, count in Counter(stems).items() if count > 1]
    if twice:
        raise InputError(f"{len(twice)} names occur twice in {str(folder)!r}, for example {twice[0]!r}")
    return dict(zip(stems, paths, strict=True))
