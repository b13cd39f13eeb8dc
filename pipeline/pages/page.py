"""Common parts of the HTML pages: templates, tables and pictures; each page is a single self-contained file."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from models import rle
from models.files import write
from models.interaction import Clicks
from pipeline.data.sample import BadItem, Item, Reader, printable
from pipeline.drawing.overlays import overlay
from pipeline.evaluation.object_row import ObjectRow

LEGEND = "Tinted: final mask. Outlined: ground truth. Numbered: clicks, green for positive and red for negative."


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A cell of a table; `best` marks the best value of its group."""

    text: str
    best: bool = False


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table of a page; each of `groups` is a heading ("": none) and the lines under it."""

    head: list[str]
    groups: list[tuple[str, list[list[Cell]]]]


@dataclass(frozen=True, kw_only=True)
class Picture:
    """An image as data URI; or "" and a caption that says why there is none.

    `alt`: text alternative; `key`: names that the image refers to by number.
    """

    src: str
    caption: str
    alt: str = ""
    key: tuple[str, ...] = ()


def render(path: Path, template: str, **values: Any) -> None:
    """Write a page and create its folder; raises InputError if it cannot be written."""
    write(path, page(template, **values))


def page(template: str, **values: Any) -> str:
    """Fill in a template."""
    import jinja2

    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(autoescape=True, loader=loader, trim_blocks=True, lstrip_blocks=True)
    return printable(environment.get_template(template).render(**values))


def session_picture(row: ObjectRow, items: Mapping[str, Item], reader: Reader, caption: str) -> Picture:
    """Draw the end of a row's session; `items`: the reader's items by id."""
    if row.item not in items:
        return Picture(src="", caption=f"{row.item} is not among the images of this data set")
    try:
        sample = reader.load(items[row.item])
    except BadItem as error:
        return Picture(src="", caption=str(error))
    if sample.image.shape[:2] != (row.height, row.width):
        height, width = sample.image.shape[:2]
        return Picture(
            src="",
            caption=f"{row.item} has {height} x {width} pixels, but {row.height} x {row.width} when evaluated",
        )
    truth = next((sample.object_mask(ref) for ref in sample.objects if ref.id == row.object), None)
    mask = rle.decode({"size": [row.height, row.width], "counts": row.mask})
    return Picture(src=jpeg(overlay(sample.image, mask, truth, Clicks.of(row.clicks))), caption=caption)


def jpeg(picture: np.ndarray) -> str:
    """Turn an image, uint8 RGB, into a data URI."""
    ok, data = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])
    assert ok
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()
