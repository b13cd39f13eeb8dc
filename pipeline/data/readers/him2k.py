"""HIM2K: photos of several people with one alpha matte per person."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np

from models.decoding import AS_IT_COMES, Decoding
from models.errors import InputError
from models.records import AtLeast, AtMost, Record
from pipeline.data.images import read_image
from pipeline.data.mask_files import read_mask_file
from pipeline.data.orientation import most_upright, read_header, read_headers
from pipeline.data.readers.folders import list_images, list_names, missing_split, require_root, stand_in, stem
from pipeline.data.readers.names import pair
from pipeline.data.sample import BadItem, Item, Origin, Sample, pack_objects

_EXPECTED = "images/<split>/<name>.jpg and alphas/<split>/<name>/*.png, with the split natural or comp"


@dataclass(frozen=True, kw_only=True)
class Him2k(Record):
    """HIM2K under `root`; `split` names the subset, by default natural, with 320 images of 830 people.

    A pixel belongs to a person if the matte is above `alpha_above`, of 255. A matte has no edge, so results are
    comparable only with the same threshold. Every matte is an object. Listing opens no file.
    """

    root: str = ""
    split: str = ""
    alpha_above: Annotated[int, AtLeast(0), AtMost(254)] = 127
    decoding: Decoding = AS_IT_COMES

    def __post_init__(self) -> None:
        super().__post_init__()
        self._folders()

    def _folders(self) -> tuple[Path, Path]:
        root = require_root("him2k", self.root, _EXPECTED)
        if not (root / "images").is_dir() or not (root / "alphas").is_dir():
            raise InputError(f"{str(root)!r} holds {list_names(root)}; expected {_EXPECTED}")
        split = self.split or "natural"
        folders = root / "images" / split, root / "alphas" / split
        if not all(folder.is_dir() for folder in folders):
            known = [entry.name for entry in (root / "alphas").iterdir() if entry.is_dir()]
            raise missing_split("him2k", split, known, f"the folders {folders[0]} and {folders[1]}")
        return folders

    def items(self) -> Sequence[Item]:
        """List the images, sorted by id, the file name without its suffix; object ids add "/<matte's name>"."""
        images_dir, alphas_dir = self._folders()
        images = list_images(images_dir)
        twice = [name for name, count in Counter(stem(path.name) for path in images).items() if count > 1]
        if twice:
            raise InputError(f"{len(twice)} names occur twice in {str(images_dir)!r}, for example {twice[0]!r}")
        pairs = pair((stem(path.name) for path in images), (entry.name for entry in alphas_dir.iterdir()))
        pairs.found.add_queries((path.name, name) for path in images if (name := stem(path.name)) in pairs.of)
        pairs.found.report(__name__, alphas_dir)
        items = sorted(
            (_item(path, alphas_dir, pairs.of, pairs.faults.get(stem(path.name), "")) for path in images),
            key=lambda item: item.id,
        )
        if not any(item.payload["mattes"] for item in items):
            raise InputError(
                f"none of the {len(items)} images in {str(images_dir)!r} has mattes: expected {alphas_dir}/<name>/*.png"
            )
        return items

    def load(self, item: Item) -> Sample:
        """Read one image and its mattes; raises BadItem if it has none or the image is missing or broken.

        A matte that cannot be read or has another size is refused alone.
        """
        if item.payload.get("fault"):
            raise BadItem(item.id, item.payload["fault"])
        if not item.payload["mattes"]:
            raise BadItem(item.id, f"the folder {item.payload['alphas']!r} with its mattes is missing or holds no PNG")
        paths = [Path(item.payload["alphas"]) / f"{name}.png" for name in item.payload["mattes"]]
        try:
            photo = read_header(Path(item.payload["image"]))
            headers = read_headers(paths) if photo.orientation != 1 else []
            upright = most_upright(photo, headers, self.decoding.exif, otherwise=False)
            image = read_image(Path(item.payload["image"]), upright=upright, decoding=self.decoding)
        except ValueError as error:
            raise BadItem(item.id, f"image {Path(item.payload['image']).name}: {error}") from error
        masks: list[tuple[str, str, np.ndarray]] = []
        refused: list[str] = []
        for object_id, path in zip(item.object_ids, paths, strict=True):
            try:
                alpha = _read_alpha(path, (image.shape[0], image.shape[1]), self.decoding)
                masks.append((object_id, "person", alpha > self.alpha_above))
            except ValueError as error:
                refused.append(f"{object_id}: {error}")
        return pack_objects(item.id, image, masks, refused=refused, origin=Origin(file=item.payload["image"]))


def _item(image: Path, alphas_dir: Path, folders: Mapping[str, str], fault: str) -> Item:
    item_id = stem(image.name)
    alphas = alphas_dir / folders.get(item_id, item_id)
    names = [path.stem for path in list_images(alphas) if path.suffix == ".png"] if alphas.is_dir() else []
    object_ids = tuple(f"{item_id}/{name}" for name in names) or stand_in(item_id)
    payload = {"image": str(image), "alphas": str(alphas), "mattes": names, **({"fault": fault} if fault else {})}
    return Item(id=item_id, object_ids=object_ids, payload=payload)


def _read_alpha(path: Path, hw: tuple[int, int], decoding: Decoding) -> np.ndarray:
    """Read a matte as values from 0 to 255, also if it has 16 bits or three equal channels, or is a file's alpha."""
    alpha = read_mask_file(path, palette_index=False, decoding=decoding).values
    if alpha.ndim == 3:
        if (alpha != alpha[..., :1]).any():
            raise ValueError("the matte holds colours: expected gray values")
        alpha = alpha[..., 0]
    if alpha.shape != hw:
        raise ValueError(
            f"the matte is {alpha.shape[0]} x {alpha.shape[1]} (height x width), its image {hw[0]} x {hw[1]}"
        )
    return alpha if alpha.dtype == np.uint8 else alpha.astype(np.float64) / 257
