"""YOLO segmentation: a text file of polygons per image, one object per line, in fractions of the image's size."""

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import yaml

from models.decoding import AS_IT_COMES, Decoding, Exif
from models.errors import InputError
from models.records import Record
from pipeline.data import rle
from pipeline.data.images import read_image
from pipeline.data.orientation import map_files, read_header
from pipeline.data.readers.folders import (
    is_image,
    list_names,
    missing_split,
    require_root,
    stand_in,
    stem,
    without_query,
)
from pipeline.data.readers.names import pair
from pipeline.data.sample import BadItem, Item, Origin, Sample, pack_objects

_logger = logging.getLogger(__name__)

_EXPECTED = "images/<split> + labels/<split>, <split>/images + <split>/labels, or images + labels"
_LINE = "class x1 y1 x2 y2 x3 y3 ..."
_MAX_BYTES = 64 << 20
_WHOLE = 0.05  # pixels from a whole number; files have 6 decimals
_FAR = 0.5  # a corner may lie this many image sizes outside before the line counts as broken
_BOX_SLACK = 0.002  # a box fits its corners to this fraction of the image, or to a pixel, because tools round
_MAX_ROUNDING = 0.01
_ONE_OFF = 1.1  # pixels by which a side of a box of whole pixels may be off
_MIN_HW = (16, 16)  # a line that is not a box and its polygon in an image of this size is not one in a larger image


@dataclass(frozen=True, kw_only=True)
class Yolo(Record):
    """YOLO segmentation labels under `root`; without a `split`, all files below images and labels are read.

    A label file has its image's path with images replaced by labels, and lines of `class x1 y1 x2 y2 ...`; an image
    without a label file has no objects. Lines of five numbers are boxes, which hold no mask: they are refused by name.
    If the first four numbers are the box of the corners that follow, they are skipped. `images` and `labels` name the
    two folders if they have other names; class names come from data.yaml. Sizes are those of the upright image (EXIF),
    as in training code for this format. Listing opens every label file, and the headers of images with a line that may
    begin with a box.

    `corners` says what a corner is: `pixels`, a pixel of the object (traced contours); `edges`, a point on its outline
    (drawn polygons); or `auto`: pixels if all corners of a line are whole numbers of pixels inside the image.
    """

    root: str = ""
    split: str = ""
    images: str = "images"
    labels: str = "labels"
    corners: Literal["auto", "pixels", "edges"] = "auto"
    decoding: Decoding = AS_IT_COMES

    def __post_init__(self) -> None:
        super().__post_init__()
        self._folders()

    def _folders(self) -> tuple[Path, Path]:
        root = require_root("yolo", self.root, _EXPECTED)
        images, labels = self.images, self.labels
        if self.split:
            pairs = [(root / images / self.split, root / labels / self.split)]
            pairs.append((root / self.split / images, root / self.split / labels))
        else:
            pairs = [(root / images, root / labels)]
        for folders in pairs:
            if folders[0].is_dir() and folders[1].is_dir():
                return folders
        known = self._splits(root)
        if self.split:
            raise missing_split("yolo", self.split, known, " or ".join(f"{one} + {two}" for one, two in pairs))
        if known:
            raise InputError(f"{str(root)!r} is divided into splits: name one of {', '.join(known)}")
        raise InputError(f"{str(root)!r} holds {list_names(root)}; reader 'yolo' expects {_EXPECTED}")

    def _splits(self, root: Path) -> list[str]:
        inside = root / self.labels
        names = {path.name for path in inside.iterdir() if path.is_dir()} if inside.is_dir() else set()
        return sorted(names | {path.parent.name for path in root.glob(f"*/{self.labels}") if path.is_dir()})

    def items(self) -> Sequence[Item]:
        """List the images, sorted by id: the path below the images folder without its suffix; object ids add "/<line>".

        Raises InputError if two images share an id or if all lines are boxes.
        """
        images_dir, labels_dir = self._folders()
        names = _class_names(Path(self.root).expanduser())
        images: dict[str, Path] = {}
        for path in _files_below(images_dir, is_image):
            item_id = _label_name(path, images_dir)
            if item_id in images:
                raise InputError(f"two images share one label file: {images[item_id]} and {path}")
            images[item_id] = path
        labels = {_label_name(path, labels_dir): path for path in _files_below(labels_dir, _is_label)}
        pairs = pair(images, labels)
        if not pairs.of:
            raise InputError(
                f"none of the {len(images)} images below {str(images_dir)!r} has one of the {len(labels)} label files "
                f"below {str(labels_dir)!r}{pairs.first_fault()}"
            )
        pairs.found.add_queries((images[one].name, labels[one].name) for one in pairs.of if one in labels)
        pairs.found.report(__name__, labels_dir)
        if len(pairs.of) < len(labels):
            _logger.warning("%s: %d label files without an image skipped", labels_dir, len(labels) - len(pairs.of))
        items = [
            _item(item_id, path, labels.get(pairs.of.get(item_id, "")), names, pairs.faults.get(item_id, ""))
            for item_id, path in sorted(images.items())
        ]
        _report_boxes(items, labels_dir, self.decoding.exif)
        lines = [line for item in items for line in item.payload["lines"]]
        if lines and all(_num_values(text) == 5 for _, text in lines):
            raise InputError(f"the labels below {str(labels_dir)!r} are detection boxes: expected lines {_LINE}")
        return items

    def load(self, item: Item) -> Sample:
        """Read one image and fill its polygons; raises BadItem if the image or its label file cannot be read.

        A line that is not a polygon is refused alone.
        """
        if item.payload["unreadable"]:
            raise BadItem(item.id, f"labels: {item.payload['unreadable']}")
        path = Path(item.payload["image"])
        try:
            image = read_image(path, upright=True, decoding=self.decoding)
        except ValueError as error:
            raise BadItem(item.id, f"image {path.name}: {error}") from error
        masks: list[tuple[str, str, np.ndarray]] = []
        refused: list[str] = []
        for number, text in item.payload["lines"]:
            object_id = f"{item.id}/{number}"
            try:
                label, mask = _polygon(text, (image.shape[0], image.shape[1]), self.corners)
                masks.append((object_id, item.payload["names"].get(label, label), mask))
            except ValueError as error:
                refused.append(f"{object_id}: {error}")
        return pack_objects(item.id, image, masks, refused=refused, origin=Origin(file=str(path)))


def _files_below(folder: Path, wanted: Callable[[str], bool]) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if wanted(path.name) and path.is_file():
            yield path


def _is_label(name: str) -> bool:
    return without_query(name).lower().endswith(".txt") and not name.startswith(".")


def _label_name(path: Path, folder: Path) -> str:
    """Return the common name of an image and its label file: the path below their folder, without the suffix."""
    return (path.relative_to(folder).parent / stem(path.name)).as_posix()


def _item(item_id: str, image: Path, label: Path | None, names: dict[str, str], fault: str) -> Item:
    payload: dict[str, Any] = {"image": str(image), "lines": [], "names": {}, "unreadable": fault}
    object_ids = stand_in(item_id) if fault else ()
    if label is not None:
        try:
            payload["lines"] = _read_lines(label)
            object_ids = tuple(f"{item_id}/{number}" for number, _ in payload["lines"])
        except ValueError as error:
            _logger.warning("%s cannot be listed: %s", label, error)
            payload["unreadable"], object_ids = str(error), stand_in(item_id)
    used = {text.split()[0] for _, text in payload["lines"]}
    payload["names"] = {key: names[key] for key in sorted(used) if key in names}
    return Item(id=item_id, object_ids=object_ids, payload=payload)


def _read_lines(path: Path) -> list[tuple[int, str]]:
    """Return (line number from 1, text) of the lines that are not blank; raises ValueError if the file is not text."""
    if path.stat().st_size > _MAX_BYTES:
        raise ValueError(f"the file is larger than {_MAX_BYTES >> 20} MiB")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"the file cannot be read as text ({error})") from error
    return [(number, line.strip()) for number, line in enumerate(lines, start=1) if line.strip()]


def _num_values(line: str) -> int:
    return len(line.split())


def _polygon(line: str, hw: tuple[int, int], corners: str) -> tuple[str, np.ndarray]:
    """Convert a line to (class, mask of `hw`); raises ValueError if it is a box or not a polygon."""
    label, *texts = line.split()
    if "," in line:
        raise ValueError(f"the line holds commas: expected {_LINE}, with spaces between numbers and points in them")
    if len(texts) == 4:
        raise ValueError(f"the line is a box (5 numbers): expected a polygon, {_LINE}")
    try:
        values = [float(text) for text in texts]
    except ValueError as error:
        raise ValueError(f"the line holds something other than numbers ({error}): expected {_LINE}") from error
    if _starts_with_box(texts, hw):
        values = values[4:]
    if len(values) < 6 or len(values) % 2:
        raise ValueError(f"the line has {len(values)} numbers after the class: expected x, y of three corners or more")
    if not all(math.isfinite(value) and -_FAR <= value <= 1 + _FAR for value in values):
        odd = next(text for text, value in zip(texts, values, strict=False) if not -_FAR <= value <= 1 + _FAR)
        raise ValueError(f"a corner has {odd}, far outside the image: expected fractions of its size, from 0 to 1")
    corners_xy = np.clip(values, 0, 1).reshape(-1, 2) * [hw[1], hw[0]]
    pixels = np.rint(corners_xy)
    if corners == "auto":
        traced = np.abs(corners_xy - pixels).max() < _WHOLE and (pixels < [hw[1], hw[0]]).all()
        corners = "pixels" if traced else "edges"
    if corners == "edges":
        return label, rle.from_segmentation([corners_xy.ravel().tolist()], hw)
    filled = np.zeros(hw, np.uint8)
    return label, cv2.fillPoly(filled, [pixels.astype(np.int32)], [1]).astype(bool)


def _starts_with_box(texts: Sequence[str], hw: tuple[int, int], *, loosely: bool = False) -> bool:
    """Whether a line without its class is x y w h x1 y1 x2 y2 ...: a box by centre and size, and the corners in it.

    `hw` is the size of the image, because a box may count pixels. With `loosely`, the box only has to fit to two
    pixels.
    """
    if len(texts) < 8 or len(texts) % 2:
        return False
    try:
        values = [float(text) for text in texts]
    except ValueError:
        return False
    if not all(map(math.isfinite, values)):
        return False
    x, y, width, height, *rest = values
    decimals = max(len(text.partition(".")[2]) for text in texts[:8])
    rounding = min(1.5 * 10**-decimals, _MAX_ROUNDING)
    axes = ((x, width, rest[0::2], hw[1]), (y, height, rest[1::2], hw[0]))
    if not loosely and all(_is_made_whole(*axis, rounding) for axis in axes) and _has_parts(rest, hw):
        return True
    spans = []
    for centre, side, along, num_pixels in axes:
        low, high, pixel = min(along), max(along), 1 / num_pixels
        off, slack = _off_box(centre, side, low, high, pixel), max(_BOX_SLACK, pixel)
        if side <= 0 or off > rounding + (2 * slack if loosely else min(slack, (high - low) / 4)):
            return False
        spans.append((side, low, high, off))
    if loosely:
        return True
    if max(high - low for _, low, high, _ in spans) <= rounding:  # a single point, whose corners are all the same
        return False
    # If the size could be one more corner (an object near the origin), the box has to fit closely.
    if all(low <= side <= high for side, low, high, _ in spans):
        return all(off <= rounding + (high - low) / 20 for _, low, high, off in spans)
    return True


def _is_made_whole(centre: float, side: float, along: Sequence[float], num_pixels: int, rounding: float) -> bool:
    """Whether a box consists of whole pixels along one axis, with each side at most a pixel off the corners in it.

    COCO's boxes are like this if they were rounded (x, y, width and height, or the sides) around corners that were not.
    """
    start, size = (centre - side / 2) * num_pixels, side * num_pixels
    low, high = min(along) * num_pixels, max(along) * num_pixels
    return (
        size > _WHOLE
        and rounding * num_pixels <= _WHOLE
        and _off_whole(start) <= _WHOLE
        and _off_whole(size) <= _WHOLE
        and abs(start - low) <= _ONE_OFF
        and min(abs(size - (high - low)), abs(start + size - high)) <= _ONE_OFF
    )


def _has_parts(corners: Sequence[float], hw: tuple[int, int]) -> bool:
    """Whether corners lie between whole pixels."""
    return any(_off_whole(value * hw[1 - number % 2]) > _WHOLE for number, value in enumerate(corners))


def _off_whole(value: float) -> float:
    return abs(value - round(value))


def _off_box(centre: float, side: float, low: float, high: float, pixel: float) -> float:
    """Return how far a box is from its corners along one axis, as their span or as their pixels: max - min + 1."""
    shift, growth = centre - (low + high) / 2, side - (high - low)
    return max(min(abs(shift), abs(shift - pixel / 2)), min(abs(growth), abs(growth - pixel)))


def _report_boxes(items: Sequence[Item], labels_dir: Path, exif: Exif) -> None:
    """Warn once how many lines of a data set begin with the box of their polygon.

    Opens only the headers of images with a line that looks like this.
    """
    maybe = [item for item in items if _num_boxes(item, _MIN_HW, loosely=True)]
    nums = map_files(maybe, lambda item: _boxes_in(item, exif))
    counts = {item.id: num for item, num in zip(maybe, nums, strict=True)}
    files = [f"{item_id}.txt" for item_id, count in counts.items() if count]
    if files:
        _logger.warning(
            "%s: %d lines in %d files are a box followed by its polygon (class x y w h x1 y1 ...): the polygon is read "
            "(%s)",
            labels_dir,
            sum(counts.values()),
            len(files),
            ", ".join([*files[:3], *(["..."] if len(files) > 3 else [])]),
        )


def _boxes_in(item: Item, exif: Exif) -> int:
    try:
        return _num_boxes(item, read_header(Path(item.payload["image"])).size(exif != "stored"))
    except ValueError:  # the image is refused by name when it is loaded
        return 0


def _num_boxes(item: Item, hw: tuple[int, int], *, loosely: bool = False) -> int:
    return sum(_starts_with_box(text.split()[1:], hw, loosely=loosely) for _, text in item.payload["lines"])


def _class_names(root: Path) -> dict[str, str]:
    """Read the class names of data.yaml by number (as text), {} without such a file; InputError if it is broken."""
    files = (root / name for name in ("data.yaml", "data.yml", "dataset.yaml"))
    path = next((path for path in files if path.is_file()), None)
    if path is None:
        return {}
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, RecursionError, yaml.YAMLError) as error:
        raise InputError(f"{path} cannot be read as YAML: {(str(error).splitlines() or [''])[0]}") from error
    names = data.get("names") if isinstance(data, dict) else None
    if isinstance(names, list):
        names = dict(enumerate(names))
    if names is None:
        return {}
    if not isinstance(names, dict) or not all(isinstance(name, str | int | float) for name in names.values()):
        raise InputError(f"{path}: names is a {type(names).__name__}: expected a list or a table of class names")
    return {str(number): str(name) for number, name in names.items()}
