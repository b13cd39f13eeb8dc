"""COCO panoptic: one PNG per image whose colours are segment numbers, and a JSON that describes the segments."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from models.decoding import AS_IT_COMES, Decoding
from models.errors import InputError
from models.records import AtLeast, Below, Record
from pipeline.data.images import read_image, read_labels
from pipeline.data.readers.coco_files import id_text, licence_names, read_json
from pipeline.data.readers.folders import missing_split, require_root
from pipeline.data.readers.names import find_file, report_names
from pipeline.data.sample import BadItem, Item, Origin, Sample, pack_objects

_EXPECTED = "annotations/panoptic_<split>.json, annotations/panoptic_<split>/*.png and images/<split>/*.jpg"


@dataclass(frozen=True, kw_only=True)
class CocoPanoptic(Record):
    """COCO panoptic under `root`; an empty `split` reads every split found there.

    `things_only` leaves out stuff (sky, grass); `min_area_fraction` leaves out segments that cover a smaller fraction
    of the image. Segments that are left out are not listed and do not count as refused. Crowd segments go to the ignore
    mask.
    """

    root: str = ""
    split: str = ""
    things_only: bool = True
    min_area_fraction: Annotated[float, AtLeast(0), Below(1)] = 0.0
    decoding: Decoding = AS_IT_COMES

    def __post_init__(self) -> None:
        super().__post_init__()
        self._splits()

    def _splits(self) -> dict[str, Path]:
        root = require_root("coco_panoptic", self.root, _EXPECTED)
        found = {
            path.stem.removeprefix("panoptic_"): path for path in sorted((root / "annotations").glob("panoptic_*.json"))
        }
        if self.split and self.split not in found:
            raise missing_split("coco_panoptic", self.split, found, f"{root}/annotations/panoptic_{self.split}.json")
        if not found:
            raise InputError(f"{str(root)!r} is not a COCO panoptic data set; expected {_EXPECTED}")
        return {self.split: found[self.split]} if self.split else found

    def items(self) -> Sequence[Item]:
        """List the images of the chosen splits, sorted by id: "<split>/<image id>"; object ids add "/<segment id>"."""
        items: list[Item] = []
        for split, path in self._splits().items():
            try:
                items += self._split_items(split, path)
            except (KeyError, TypeError) as error:
                raise InputError(f"{path} is not a COCO panoptic file: an entry lacks {error}") from error
        return sorted(items, key=lambda item: item.id)

    def _split_items(self, split: str, path: Path) -> list[Item]:
        data = read_json(path, ("images", "annotations", "categories"))
        root = Path(self.root).expanduser()
        folders = [root / "images" / split, root / split, root / "images"]
        images_dir = next((folder for folder in folders if folder.is_dir()), folders[0])
        images = {image["id"]: image for image in data["images"]}
        categories = {category["id"]: category for category in data["categories"]}
        licences = licence_names(data.get("licenses"))
        report_names(__name__, images_dir, (str(image.get("file_name")) for image in data["images"]))
        items = []
        for annotation in data["annotations"]:
            image = images.get(annotation["image_id"])
            if image is None:
                raise InputError(
                    f"{path}: an annotation belongs to image {annotation['image_id']}, which is not listed"
                )
            item_id = f"{split}/{image['id']}"
            segments = self._choose(annotation["segments_info"], categories, image["height"] * image["width"])
            payload = {
                "images_dir": str(images_dir),
                "image": image["file_name"],
                "licence": licences.get(id_text(image.get("license")), ""),
                "source": str(image.get("flickr_url") or image.get("coco_url") or ""),
                "masks_dir": str(path.with_suffix("")),
                "mask": annotation["file_name"],
                "segments": segments,
                "crowds": [segment["id"] for segment in annotation["segments_info"] if segment.get("iscrowd")],
            }
            object_ids = tuple(f"{item_id}/{segment_id}" for segment_id, _ in segments)
            items.append(Item(id=item_id, object_ids=object_ids, payload=payload))
        return items

    def _choose(
        self, segments: list[dict[str, Any]], categories: dict[int, dict[str, Any]], num_pixels: int
    ) -> list[tuple[int, str]]:
        """Return (segment id, category name) of the segments that count as objects."""
        chosen = []
        for segment in segments:
            category = categories.get(segment["category_id"], {})
            stuff = not category.get("isthing", 1)
            small = segment.get("area", num_pixels) < self.min_area_fraction * num_pixels
            if not segment.get("iscrowd") and not (stuff and self.things_only) and not small:
                chosen.append((int(segment["id"]), str(category.get("name", segment["category_id"]))))
        return chosen

    def load(self, item: Item) -> Sample:
        """Read one image and its PNG; raises BadItem if either is missing or broken or their sizes differ."""
        payload = item.payload
        try:
            colours = read_labels(find_file(Path(payload["masks_dir"]), payload["mask"]), decoding=self.decoding)
        except ValueError as error:
            raise BadItem(item.id, f"mask {payload['mask']}: {error}") from error
        if colours.ndim != 3:
            raise BadItem(item.id, f"mask {payload['mask']}: expected a colour PNG, got one channel")
        try:
            path = find_file(Path(payload["images_dir"]), payload["image"])
            image = read_image(path, expected_hw=(colours.shape[0], colours.shape[1]), decoding=self.decoding)
        except ValueError as error:
            raise BadItem(item.id, f"image {payload['image']}: {error}") from error
        segment_ids = colours.astype(np.int32) @ np.array([1, 256, 65536], np.int32)
        masks = [(f"{item.id}/{segment}", name, segment_ids == segment) for segment, name in payload["segments"]]
        origin = Origin(file=str(path), licence=payload["licence"], source=payload["source"])
        return pack_objects(item.id, image, masks, np.isin(segment_ids, payload["crowds"]), origin=origin)
