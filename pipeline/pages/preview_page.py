"""The preview of a training stream: a contact sheet and a page with examples of each copy-paste mode."""

import cv2

from models.storage import Storage
from pipeline.data.config import DataConfig
from pipeline.data.preview import Examples
from pipeline.data.rows import Row
from pipeline.drawing.overlays import training_overlay
from pipeline.drawing.sheet import Group, Shot, draw_sheet
from pipeline.pages.page import Picture, jpeg, page

SHEET, PAGE = "preview.jpg", "preview.html"
MODES = {
    "none": "The augmented image, unchanged.",
    "simple": "The target object is blended onto the partner's image.",
    "union": "An object from the partner's image is pasted and becomes part of the target.",
    "exclusion": "An object from the partner's image is pasted and hides part of the target.",
    "distract": "An object from the partner's image is blended in as a distraction; the target keeps its outline.",
    "mixing": "The two whole images are blended; the target stays the same.",
    "several": "More than one mode was applied to these samples, one after another.",
}
LEGEND = "Outlined: target. Hatched: ignored pixels. Discs: first clicks, green for positive and red for negative."


def row_caption(row: Row) -> tuple[str, ...]:
    """Describe a training row: its mode, item and partners."""
    lines = [row["mode"] or "none", f"item {row['item']}"]
    if row["partner"]:
        lines.append(f"partner {row['partner']}")
    if not row["object_mask"].any():
        lines[0] += ", no object in the crop"
    return tuple(lines)


def row_picture(row: Row) -> Picture:
    """Draw a training row for a page."""
    return Picture(src=jpeg(training_overlay(row)), caption=" · ".join(row_caption(row)))


def write_preview(storage: Storage, examples: Examples, config: DataConfig, title: str) -> tuple[str, str]:
    """Write the contact sheet and the page; returns their names in the storage."""
    groups = [
        Group(
            heading=mode,
            note=f"{MODES[mode]} {_sentence(examples.caption(mode))}",
            shots=[Shot(picture=training_overlay(row), lines=row_caption(row)) for row in rows],
        )
        for mode, rows in examples.by_mode.items()
    ]
    ok, data = cv2.imencode(".jpg", draw_sheet(groups)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])
    assert ok
    storage.write(SHEET, data.tobytes())
    height, width = config.crop_hw
    sections = [
        (group.heading, group.note, [row_picture(row) for row in rows])
        for group, rows in zip(groups, examples.by_mode.values(), strict=True)
    ]
    text = page(
        "preview.html.j2",
        title=title,
        subtitle=f"Copy-paste recipe {config.copy_paste.recipe}, crops of {height} x {width} pixels, "
        f"{examples.num_rows} samples examined. {LEGEND}",
        sheet=SHEET,
        sections=sections,
    )
    storage.write(PAGE, text.encode("utf-8", "backslashreplace"))
    return SHEET, PAGE


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."
