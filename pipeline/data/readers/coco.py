"""COCO instances JSON, with the quirks of the tools that write it; masks as polygons or as either kind of RLE."""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from models.decoding import AS_IT_COMES, Decoding
from models.errors import InputError
from models.records import Record
from models.rle import mask_of
from pipeline.data import rle
from pipeline.data.images import read_image
from pipeline.data.orientation import Header, fits_upright, map_files, read_header, settle, tell
from pipeline.data.readers.coco_files import (
    EXPECTED,
    drawn_in_percent,
    file_names,
    find_annotations,
    find_images,
    id_text,
    is_published,
    lists_coco_photos,
    literal_files,
    locate,
    why_missing,
)
from pipeline.data.readers.coco_tables import Annotation, Tables, join, open_tables
from pipeline.data.readers.folders import require_root
from pipeline.data.readers.names import Found, rivals
from pipeline.data.runs import pack_runs
from pipeline.data.sample import BadItem, Item, Origin, Sample

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Coco(Record):
    """COCO instances under `root`; `annotations` and `images` name the JSON and the image folder of other layouts.

    Item ids are image ids, object ids "<image id>/<annotation id>". Each item carries its annotations, so a worker
    never reads the JSON again. `crowds` says how annotations with iscrowd are read: `ignore` adds them to the ignore
    mask, `objects` reads them as objects, and `auto` reads them as objects if CVAT wrote them, which marks every
    painted mask this way. `categories` lists the categories to read, separated by commas, and skips images without any;
    "": all.

    With exif auto, a photo whose declared size does not show how it lies is read like the other photos of the file; if
    they do not show it either, it is read as stored in COCO's own files and upright in others (orientation.py). All
    photos in Label Studio's files are read upright; with exif stored, the rotated ones are refused.
    """

    PUBLISHED: ClassVar[bool] = False
    """Whether all files of this format are published ones."""

    root: str = ""
    split: str = ""
    annotations: str = ""
    images: str = ""
    crowds: Literal["auto", "ignore", "objects"] = "auto"
    categories: str = ""
    decoding: Decoding = AS_IT_COMES

    def __post_init__(self) -> None:
        super().__post_init__()
        self._annotations_path()

    def _annotations_path(self) -> Path:
        return find_annotations(require_root("coco", self.root, EXPECTED), self.split, self.annotations)

    def items(self) -> Sequence[Item]:
        """List the images, sorted by id; raises InputError if the JSON is not a COCO file or two images share an id."""
        return list(self.stream())

    def stream(self) -> Iterator[Item]:
        """Yield the items of `items()` one by one, in memory that does not grow with the file."""
        path = self._annotations_path()
        num_crowds = num_objects = 0
        with open_tables(path) as tables:
            root = Path(self.root).expanduser()
            folder = find_images(root, self.split, self.images, tables.first_images, path)
            lie, faults = self._look_at_photos(path, tables, folder)
            for image_id, image, annotations in join(path, tables):
                kept = self._keep(annotations, tables)
                if self.categories and not kept:
                    continue
                object_ids = tuple(f"{image_id}/{entry['id']}" for entry in kept if not entry["crowd"])
                num_objects += len(object_ids)
                num_crowds += len(kept) - len(object_ids)
                payload = self._payload(image, kept, str(folder), tables) | lie
                if fault := faults.get(next(iter(payload["names"]), "")):
                    payload["fault"] = fault
                yield Item(id=image_id, object_ids=object_ids, payload=payload)
        if num_crowds and not num_objects:
            _logger.warning(
                "%s: all %d annotations are crowds and none is an object; set crowds=objects to read them as objects",
                path,
                num_crowds,
            )

    def _look_at_photos(self, path: Path, tables: Tables, folder: Path) -> tuple[dict[str, Any], dict[str, str]]:
        """Decide how the photos are read whose sizes do not show it: {"upright", "percent"} for every payload.

        Also returns, by name, why some names have no file: another name refers to it too. Looks at the files of all
        images before the first is listed, also to report files with other names.
        """
        auto, percent = self.decoding.exif == "auto", drawn_in_percent(tables.info)
        published = self.PUBLISHED or lists_coco_photos(tables.first_images)
        asks = auto and not published and not percent
        votes, repaired = Counter[str](), list[tuple[str, Path, str]]()

        def look(record: dict[str, Any]) -> tuple[tuple[str, Path, str] | None, str] | None:
            names, hw = file_names(record), _declared_hw(record)
            try:
                hit = locate(folder, names)
            except ValueError:  # several files fit, which is reported when it is loaded
                return None
            if hit is None:
                return None
            file, way = hit
            other = None if file in literal_files(folder, names) else (names[0], file, way)
            return other, tell(file, [Header(hw=hw)] if hw else []) if asks else ""

        for seen in map_files(tables.records(), look):
            if seen is not None:
                other, tells = seen
                votes[tells] += 1
                if other is not None:
                    repaired.append(other)
        named = (str(file) for record in tables.records() for file in literal_files(folder, file_names(record)))
        faults = rivals(((name, str(file)) for name, file, _ in repaired), named)
        found = Found()
        for name, file, way in repaired:
            if name not in faults:
                found.add(way, name, file.name)
        found.report(__name__, path)
        if percent:
            return {"upright": True, "percent": True}, faults
        usual = not published and not is_published(tables.info)
        return {"upright": settle(path, votes, usual) if auto else self.decoding.exif == "upright"}, faults

    def _keep(self, annotations: Sequence[Annotation], tables: Tables) -> list[dict[str, Any]]:
        """Name an image's annotations: a missing id becomes the position in the file, a repeated one gets it too."""
        taken: set[str] = set()
        kept = []
        wanted = self._wanted(tables)
        for annotation in annotations:
            name = annotation.id or f"n{annotation.position}"
            while name in taken:
                name += f"~{annotation.position}"
            taken.add(name)
            category = tables.categories.get(annotation.category, annotation.category)
            if wanted and category not in wanted:
                continue
            an_object = self.crowds == "objects" or (self.crowds == "auto" and annotation.painted)
            kept.append(
                {
                    "id": name,
                    "category": category,
                    "crowd": annotation.crowd and not an_object,
                    "segmentation": annotation.segmentation,
                }
            )
        return kept

    def _wanted(self, tables: Tables) -> set[str]:
        """Return the names of the categories to read, none for all; InputError for one that the file does not have."""
        wanted = {name.strip() for name in self.categories.split(",") if name.strip()}
        known = set(tables.categories.values())
        if missing := sorted(wanted - known):
            there = ", ".join(sorted(known))
            raise InputError(f"categories {self.categories!r}: the file has no {', '.join(missing)}; it has {there}")
        return wanted

    def _payload(
        self, image: dict[str, Any], annotations: list[dict[str, Any]], folder: str, tables: Tables
    ) -> dict[str, Any]:
        return {
            "folder": folder,
            "names": file_names(image),
            "hw": _declared_hw(image),
            "annotations": annotations,
            "licence": tables.licences.get(id_text(image.get("license")), ""),
            "source": str(image.get("flickr_url") or image.get("coco_url") or ""),
        }

    def load(self, item: Item) -> Sample:
        """Read one image and paint its masks; raises BadItem if the file is missing, broken or of another size."""
        path, image, scale_xy = self._read(item)
        hw = (image.shape[0], image.shape[1])
        ignore_mask = np.zeros(hw, bool)
        masks: list[tuple[str, str, np.ndarray]] = []
        refused: list[str] = []
        for annotation in item.payload["annotations"]:
            object_id = f"{item.id}/{annotation['id']}"
            try:
                runs = _runs(annotation["segmentation"], hw, scale_xy)
            except ValueError as error:
                # A crowd is not an object, so its id is not listed by the item: only an ignored region is lost.
                if annotation["crowd"]:
                    _logger.warning("crowd %s skipped: %s", object_id, error)
                else:
                    refused.append(f"{object_id}: {error}")
                continue
            if annotation["crowd"]:
                ignore_mask |= mask_of(runs, hw)
            else:
                masks.append((object_id, annotation["category"], runs))
        origin = Origin(file=str(path), licence=item.payload["licence"], source=item.payload["source"])
        return pack_runs(item.id, image, masks, ignore_mask, refused, origin)

    def _read(self, item: Item) -> tuple[Path, np.ndarray, tuple[float, float] | None]:
        """Find and read the image in the orientation of its annotations; return it with the scale (x, y) of polygons.

        The scale is None if the annotations do not give it.
        """
        payload, names = item.payload, item.payload["names"]
        if not names:
            raise BadItem(item.id, "the image has neither file_name nor coco_url")
        if payload.get("fault"):
            raise BadItem(item.id, f"image {names[0]!r}: {payload['fault']}")
        try:
            folder = Path(payload["folder"])
            found = locate(folder, names)
            if found is None:
                raise ValueError(why_missing(folder, names[0]))
            path = found[0]
            declared_hw, upright = payload["hw"], payload.get("upright", False)
            if not payload.get("percent"):
                image = read_image(path, expected_hw=declared_hw, upright=upright, decoding=self.decoding)
                return path, image, (1.0, 1.0)
            header = read_header(path)
            if self.decoding.exif == "stored" and header.orientation != 1:
                raise ValueError(
                    "exif=stored was given, but Label Studio's annotations fit the upright photo (EXIF orientation "
                    f"{header.orientation}): expected exif=upright or auto"
                )
            image = read_image(path, upright=True, decoding=self.decoding)
            if declared_hw is None:
                return path, image, (1.0, 1.0) if header.hw == header.upright_hw else None
            fits_upright(header, Header(hw=tuple(declared_hw)))  # ValueError if neither size fits
            return path, image, (image.shape[1] / declared_hw[1], image.shape[0] / declared_hw[0])
        except ValueError as error:
            raise BadItem(item.id, f"image {names[0]!r}: {error}") from error


def _runs(segmentation: Any, hw: tuple[int, int], scale_xy: tuple[float, float] | None) -> np.ndarray:
    if scale_xy is None and isinstance(segmentation, list):
        raise ValueError(
            "the image record has no width and height, which Label Studio's polygons are multiplied by; they are "
            "ambiguous for a photo that is rotated by 90 degrees: add them to the record"
        )
    return rle.runs_from_segmentation(segmentation, hw, scale_xy or (1.0, 1.0))


def _declared_hw(image: dict[str, Any]) -> tuple[int, int] | None:
    """Return height and width of an image record, also from text or numbers with a decimal point; None without both."""
    try:
        height, width = (int(float(image.get(key) or 0)) for key in ("height", "width"))
    except (TypeError, ValueError, OverflowError):
        return None
    return (height, width) if height > 0 and width > 0 else None
