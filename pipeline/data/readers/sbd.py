"""SBD, the Semantic Boundaries Dataset: one MATLAB file of instances per Pascal VOC photo."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.decoding import AS_IT_COMES, Decoding
from models.errors import InputError
from pipeline.data.images import read_image
from pipeline.data.readers.folders import list_names, missing_split, read_name_list, require_root, stand_in
from pipeline.data.readers.mat_files import field, label_map, read_variable
from pipeline.data.readers.names import find_file, report_names
from pipeline.data.sample import BadItem, Item, Origin, Sample, pack_objects

_logger = logging.getLogger(__name__)

_EXPECTED = "img/*.jpg, inst/*.mat and <split>.txt (or these in a folder dataset/)"


@dataclass(frozen=True, kw_only=True)
class Sbd:
    """SBD under `root` or `root`/dataset; `split` names a list such as val.txt, by default val.

    Every number above 0 in `GTinst.Segmentation` is an object; nothing is ignored or filtered. The published lists give
    6671 objects for val (val.txt names 2857 images; several papers print 2820) and 20172 objects on 8498 images for
    train. Listing opens every MATLAB file and no image.
    """

    root: str = ""
    split: str = ""
    decoding: Decoding = AS_IT_COMES

    def __post_init__(self) -> None:
        self._list_path()

    def _list_path(self) -> Path:
        root = require_root("sbd", self.root, _EXPECTED)
        base = next((folder for folder in (root, root / "dataset") if (folder / "inst").is_dir()), None)
        if base is None or not (base / "img").is_dir():
            raise InputError(f"{str(root)!r} holds {list_names(root)}; expected {_EXPECTED}")
        path = base / f"{self.split or 'val'}.txt"
        if not path.is_file():
            known = [entry.stem for entry in base.glob("*.txt")]
            raise missing_split("sbd", path.stem, known, f"the list of image names {str(path)!r}")
        return path

    def items(self) -> Sequence[Item]:
        """List the images named by the split's list, sorted by id, the name; object ids add "/<instance number>"."""
        path = self._list_path()
        names = sorted(read_name_list(path))
        for folder, suffix in (("img", "jpg"), ("inst", "mat")):
            report_names(__name__, path.parent / folder, (f"{name}.{suffix}" for name in names))
        return [_item(name, path.parent, self.decoding) for name in names]

    def load(self, item: Item) -> Sample:
        """Read one image and its instances; raises BadItem if either is missing or broken or their sizes differ."""
        base = Path(item.payload["base"])
        try:
            labels = _read_instances(base, item.id, self.decoding)
        except ValueError as error:
            raise BadItem(item.id, f"inst/{item.id}.mat: {error}") from error
        try:
            path = find_file(base / "img", f"{item.id}.jpg")
            image = read_image(path, expected_hw=(labels.shape[0], labels.shape[1]), decoding=self.decoding)
        except ValueError as error:
            raise BadItem(item.id, f"img/{item.id}.jpg: {error}") from error
        return pack_objects(
            item.id,
            image,
            [(f"{item.id}/{n}", "", labels == n) for n in _numbers(labels)],
            origin=Origin(file=str(path)),
        )


def _item(name: str, base: Path, decoding: Decoding) -> Item:
    try:
        object_ids = tuple(f"{name}/{number}" for number in _numbers(_read_instances(base, name, decoding)))
    except ValueError as error:
        _logger.warning("inst/%s.mat cannot be listed: %s", name, error)
        object_ids = stand_in(name)
    return Item(id=name, object_ids=object_ids, payload={"base": str(base)})


def _read_instances(base: Path, name: str, decoding: Decoding) -> np.ndarray:
    instances = read_variable(find_file(base / "inst", f"{name}.mat"), "GTinst")
    return label_map(field(instances, "Segmentation"), decoding)


def _numbers(labels: np.ndarray) -> list[int]:
    return [int(number) for number in np.unique(labels) if number > 0]
