"""A contact sheet: pictures of one size in rows under headings, each with a few lines of text, as one image."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

BACKGROUND, CARD, TEXT, FAINT = (245, 246, 248), (255, 255, 255), (29, 37, 48), (86, 96, 110)
GAP, MARGIN = 14, 24
LINE, HEADING = 19, 58
MIN_WIDTH = 180
"""Captions of very small pictures need room."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Shot:
    """A picture, uint8 RGB, and the lines below it."""

    picture: np.ndarray
    lines: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Group:
    """Pictures under a heading, with a note beside it; there may be none."""

    heading: str
    note: str
    shots: Sequence[Shot]


def draw_sheet(groups: Sequence[Group], columns: int = 6) -> np.ndarray:
    """Draw a contact sheet, uint8 RGB; pictures keep their size. Raises AssertionError if they differ in size."""
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
    heading, note, caption = (ImageFont.load_default(size) for size in (24, 16, 14))
    top = MARGIN
    for group, num_rows in zip(groups, rows_of, strict=True):
        draw.text((MARGIN, top + 40), group.heading, TEXT, heading, anchor="ls")
        left = MARGIN + heading.getlength(group.heading) + 16
        draw.text((left, top + 40), _fit(group.note, note, total[0] - MARGIN - left), FAINT, note, anchor="ls")
        for number, shot in enumerate(group.shots):
            x = MARGIN + number % columns * (cell_width + GAP)
            y = top + HEADING + number // columns * (cell_height + GAP)
            draw.rectangle((x, y, x + cell_width - 1, y + cell_height - 1), CARD)
            sheet.paste(Image.fromarray(shot.picture), (x + (cell_width - width) // 2, y))
            for place, line in enumerate(shot.lines):
                colour = FAINT if place else TEXT
                draw.text(
                    (x + 10, y + height + 7 + place * LINE), _fit(line, caption, cell_width - 20), colour, caption
                )
        top += HEADING + num_rows * (cell_height + GAP)
    return np.asarray(sheet)


def _fit(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: float) -> str:
    """Shorten a text at its end until it fits."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text + "..."
