"""Contact sheets: one image with pictures of equal size in rows under headings, each with a few lines of text."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pipeline.drawing.fonts import file_for

BACKGROUND, CARD, TEXT, FAINT = (245, 246, 248), (255, 255, 255), (29, 37, 48), (86, 96, 110)
GAP, MARGIN = 14, 24
LINE, HEADING = 19, 58
MIN_WIDTH = 180
"""Least width of a cell, so that captions of very small pictures fit."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Shot:
    """A picture, uint8 RGB, and the lines below it."""

    picture: np.ndarray
    lines: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Group:
    """Pictures, possibly none, under a heading with a note beside it."""

    heading: str
    note: str
    shots: Sequence[Shot]


def draw_sheet(groups: Sequence[Group], columns: int = 6) -> np.ndarray:
    """Draw a contact sheet, uint8 RGB; pictures keep their size, which must be equal."""
    hws = {shot.picture.shape[:2] for group in groups for shot in group.shots}
    assert len(hws) <= 1, f"pictures of {hws} pixels"
    height, width = next(iter(hws), (0, MIN_WIDTH))
    cell_width = max(width, MIN_WIDTH)
    num_lines = max((len(shot.lines) for group in groups for shot in group.shots), default=0)
    cell_height = height + num_lines * LINE + 14
    columns = max(1, min(columns, max((len(group.shots) for group in groups), default=1)))
    rows_of = [-(-len(group.shots) // columns) for group in groups]
    total = (
        2 * MARGIN + columns * (cell_width + GAP) - GAP,
        2 * MARGIN + len(groups) * HEADING + sum(rows_of) * (cell_height + GAP),
    )
    sheet = Image.new("RGB", total, BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    top = MARGIN
    for group, num_rows in zip(groups, rows_of, strict=True):
        left = _write(draw, (MARGIN, top + 40), group.heading, TEXT, 24, total[0] - 2 * MARGIN, anchor="ls") + 16
        _write(draw, (left, top + 40), group.note, FAINT, 16, total[0] - MARGIN - left, anchor="ls")
        for number, shot in enumerate(group.shots):
            x = MARGIN + number % columns * (cell_width + GAP)
            y = top + HEADING + number // columns * (cell_height + GAP)
            draw.rectangle((x, y, x + cell_width - 1, y + cell_height - 1), CARD)
            sheet.paste(Image.fromarray(shot.picture), (x + (cell_width - width) // 2, y))
            for place, line in enumerate(shot.lines):
                at = (x + 10, y + height + 7 + place * LINE)
                _write(draw, at, line, FAINT if place else TEXT, 14, cell_width - 20)
        top += HEADING + num_rows * (cell_height + GAP)
    return np.asarray(sheet)


def _write(
    draw: ImageDraw.ImageDraw,
    at: tuple[float, float],
    text: str,
    colour: tuple[int, int, int],
    size: int,
    width: float,
    anchor: str | None = None,
) -> float:
    """Write a text in a font that has its letters, shortened to fit `width`; returns the x coordinate of its end."""
    text = " ".join(text.splitlines())
    if text.isascii():
        font = ImageFont.load_default(size)
    else:
        text, path = file_for(text)
        font = ImageFont.truetype(path, size)
    if font.getlength(text) > width:
        while text and font.getlength(text + "...") > width:
            text = text[:-1]
        text += "..."
    draw.text(at, text, colour, font, anchor=anchor)
    return at[0] + font.getlength(text)
