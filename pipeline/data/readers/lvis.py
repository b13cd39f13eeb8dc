"""LVIS v1: instances of 1203 categories on COCO's photos, in COCO's format with some differences."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.errors import InputError
from pipeline.data.readers.coco import Coco
from pipeline.data.readers.coco_files import id_text
from pipeline.data.readers.coco_tables import Tables
from pipeline.data.readers.folders import list_names, missing_split, require_root

_EXPECTED = "lvis_v1_<split>.json (or in annotations/) and the photos in train2017/ and val2017/ (or in images/)"


@dataclass(frozen=True, kw_only=True)
class Lvis(Coco):
    """LVIS v1 under `root`, read like `Coco`; `split` is train or val, and is not needed if only one exists.

    An image has no file name: the end of its `coco_url` names its folder among COCO's, and a split may use both. LVIS
    labels only some categories of an image: `payload` names those that are surely absent (`negative`) and those that
    may have unlabelled objects (`not_exhaustive`).
    """

    PUBLISHED = True

    def _annotations_path(self) -> Path:
        root = require_root("lvis", self.root, _EXPECTED)
        if self.annotations:
            return super()._annotations_path()
        found = {
            path.stem.removeprefix("lvis_v1_"): path
            for folder in (root, root / "annotations")
            for path in sorted(folder.glob("lvis_v1_*.json"))
        }
        if self.split and self.split not in found:
            raise missing_split("lvis", self.split, found, f"lvis_v1_{self.split}.json in {str(root)!r}")
        if not found:
            raise InputError(f"{str(root)!r} holds {list_names(root)}; reader 'lvis' expects {_EXPECTED}")
        if len(found) > 1 and not self.split:
            raise InputError(f"{str(root)!r} is divided into splits: name one of {', '.join(sorted(found))}")
        return found[self.split] if self.split else next(iter(found.values()))

    def _payload(
        self, image: dict[str, Any], annotations: list[dict[str, Any]], folder: str, tables: Tables
    ) -> dict[str, Any]:
        payload = super()._payload(image, annotations, folder, tables)
        for name, key in (("negative", "neg_category_ids"), ("not_exhaustive", "not_exhaustive_category_ids")):
            ids = [id_text(value) for value in image.get(key) or []]
            payload[name] = [tables.categories.get(category, category) for category in ids]
        return payload
