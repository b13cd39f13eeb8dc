"""Readers, one per data set format. `open_reader("coco", root=..., options=...)` makes one from text alone."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

from models.decoding import AS_IT_COMES, Decoding
from models.errors import InputError, lookup
from models.storage import is_address
from pipeline.data.readers.bsds500 import Bsds500
from pipeline.data.readers.coco import Coco
from pipeline.data.readers.coco_lvis import CocoLvis
from pipeline.data.readers.coco_panoptic import CocoPanoptic
from pipeline.data.readers.copied import Copied
from pipeline.data.readers.him2k import Him2k
from pipeline.data.readers.lvis import Lvis
from pipeline.data.readers.mask_folders import MaskFolders
from pipeline.data.readers.masks import Masks, PublishedMasks
from pipeline.data.readers.options import convert_options
from pipeline.data.readers.pascal_voc import PascalVoc
from pipeline.data.readers.prepared import Prepared
from pipeline.data.readers.sbd import Sbd
from pipeline.data.readers.scenes import Scenes
from pipeline.data.readers.several import Several
from pipeline.data.readers.yolo import Yolo
from pipeline.data.sample import Reader


@dataclasses.dataclass(frozen=True)
class ReaderFactory:
    """A reader's class and the option values of its preset; `root` says whether it reads a folder."""

    cls: type[Any]
    preset: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    root: bool = True


_GRABCUT_RULE = "above:128,ignore:128"

READERS: dict[str, ReaderFactory] = {
    "scenes": ReaderFactory(Scenes, root=False),
    "prepared": ReaderFactory(Prepared),
    "coco": ReaderFactory(Coco),
    "coco_panoptic": ReaderFactory(CocoPanoptic),
    "lvis": ReaderFactory(Lvis),
    "coco_lvis": ReaderFactory(CocoLvis),
    "yolo": ReaderFactory(Yolo),
    "masks": ReaderFactory(Masks),
    "mask_folders": ReaderFactory(MaskFolders),
    "nuclei": ReaderFactory(MaskFolders, {"images": "{name}/images/*", "masks": "{name}/masks/*.png"}),
    "grabcut": ReaderFactory(PublishedMasks, {"images": "data_GT", "masks": "boundary_GT", "rule": _GRABCUT_RULE}),
    "berkeley": ReaderFactory(PublishedMasks, {"images": "images", "masks": "masks", "rule": _GRABCUT_RULE}),
    "davis": ReaderFactory(PublishedMasks, {"images": "img", "masks": "gt", "rule": "nonzero"}),
    "coco_mval": ReaderFactory(PublishedMasks, {"images": "img", "masks": "gt", "rule": "nonzero"}),
    "sbd": ReaderFactory(Sbd),
    "pascal_voc": ReaderFactory(PascalVoc),
    "bsds500": ReaderFactory(Bsds500),
    "him2k": ReaderFactory(Him2k),
    "several": ReaderFactory(Several),
}


def open_reader(
    name: str,
    root: str | None = None,
    split: str = "",
    options: Mapping[str, str] | None = None,
    decoding: Decoding = AS_IT_COMES,
) -> Reader:
    """Make the reader `name` for the folder `root`; raises InputError for a wrong name, folder, split or option.

    In a folder at an address (s3://BUCKET/FOLDER), prepared data is read in place; all other formats are copied first.
    `decoding` says how image files are read; its fields may also be given in `options`, which take precedence.
    """
    factory = lookup("reader", name, READERS)
    of_files = {field.name for field in dataclasses.fields(Decoding)} if factory.root else set()
    own = {key: text for key, text in (options or {}).items() if key not in of_files}
    fields = {**factory.preset, **convert_options(name, factory.cls, own), "split": split}
    if factory.root:
        fields["root"] = root or ""
        chosen = {key: text for key, text in (options or {}).items() if key in of_files}
        fields["decoding"] = dataclasses.replace(decoding.decoding(), **convert_options(name, Decoding, chosen))
    elif root:
        raise InputError(f"reader {name!r} generates its images and reads no folder: leave out root {root!r}")
    if root is not None and is_address(root) and name != "prepared":
        return Copied(root, functools.partial(_at, factory.cls, fields))
    return factory.cls(**fields)


def _at(cls: type[Any], fields: Mapping[str, Any], folder: str) -> Reader:
    """Make a reader for another folder."""
    return cls(**{**fields, "root": folder})
