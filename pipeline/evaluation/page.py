"""What the pages about evaluations share: templates, figures and pictures of sessions, all inside one HTML file."""

import base64
import io
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
from pipeline.evaluation import fonts
from pipeline.evaluation.object_row import ObjectRow
from pipeline.evaluation.overlays import overlay

COLOURS = ("#1f6fd6", "#d1495b", "#2a9d5c", "#8d5fd3", "#e08a1e", "#4a5568")
LEGEND = "Tinted: the final mask. Outlined: the truth. Numbered: the clicks, green on the object, red off it."


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A cell of a table; the best of its group is marked."""

    text: str
    best: bool = False


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table of a page: `groups` are lines under a heading of their own ("" for none)."""

    head: list[str]
    groups: list[tuple[str, list[list[Cell]]]]


@dataclass(frozen=True, kw_only=True)
class Picture:
    """An image as data URI, or "" and a caption that says why there is none.

    `alt`: what it shows, for who does not see it; `key`: names that the image has numbers for.
    """

    src: str
    caption: str
    alt: str = ""
    key: tuple[str, ...] = ()


def render(path: Path, template: str, **values: Any) -> None:
    """Write a page; its folder is made. Raises InputError."""
    write(path, page(template, **values))


def page(template: str, **values: Any) -> str:
    """Fill in a template."""
    import jinja2

    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(autoescape=True, loader=loader, trim_blocks=True, lstrip_blocks=True)
    return printable(environment.get_template(template).render(**values))


def new_figure(width: float = 5.6, height: float = 3.7, num_rows: int = 1) -> tuple[Any, list[Any]]:
    """Make a figure of `num_rows` axes below each other that share the x axis; sizes in inches."""
    from matplotlib.figure import Figure  # not pyplot: no global state, no display

    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    axes = list(figure.subplots(num_rows, 1, sharex=True, squeeze=False)[:, 0])
    for each in axes:
        each.spines[["top", "right"]].set_visible(False)
        each.grid(axis="y", color="#e3e6ea")
        each.set_axisbelow(True)
    return figure, axes


def legend(axes: Any, **options: Any) -> None:
    """Add a legend; names are shown as they are, not as formulas."""
    for text in axes.legend(frameon=False, fontsize=9, **options).get_texts():
        text.set_parse_math(False)


def png(figure: Any) -> str:
    """Draw a figure into a data URI, each text in fonts that have its letters."""
    from matplotlib.text import Text

    for axes in figure.axes:  # ticks have their texts when they are asked for them
        for labels in (axes.get_xticklabels, axes.get_yticklabels):
            labels()
    for text in figure.findobj(Text):
        text.set_fontfamily(list(fonts.drawn(text.get_text())[1]))
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def session_picture(row: ObjectRow, items: Mapping[str, Item], reader: Reader, caption: str) -> Picture:
    """Draw the end of a row's session; `items` are the reader's by id."""
    if row.item not in items:
        return Picture(src="", caption=f"{row.item} is not among the images of this data set")
    try:
        sample = reader.load(items[row.item])
    except BadItem as error:
        return Picture(src="", caption=str(error))
    if sample.image.shape[:2] != (row.height, row.width):
        height, width = sample.image.shape[:2]
        return Picture(
            src="", caption=f"{row.item} has {height} x {width} pixels, evaluated were {row.height} x {row.width}"
        )
    truth = next((sample.object_mask(ref) for ref in sample.objects if ref.id == row.object), None)
    mask = rle.decode({"size": [row.height, row.width], "counts": row.mask})
    return Picture(src=jpeg(overlay(sample.image, mask, truth, Clicks.of(row.clicks))), caption=caption)


def jpeg(picture: np.ndarray) -> str:
    """Turn an image, uint8 RGB, into a data URI."""
    ok, data = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])
    assert ok
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()
