"""Pictures of sessions (mask tinted, true outline of the object, numbered clicks) and of training data."""

import cv2
import numpy as np

from models.interaction import Clicks
from pipeline.data.rows import Row
from pipeline.data.sample import Sample

TINT = (32, 110, 240)
OUTLINE = (255, 255, 255)
POSITIVE, NEGATIVE = (30, 170, 70), (215, 40, 50)
TARGET = (0, 225, 255)
IGNORED = (250, 190, 40)
HATCH_PERIOD = 9
OBJECT_COLOURS = (
    (64, 156, 255),
    (255, 96, 96),
    (60, 205, 120),
    (255, 176, 32),
    (190, 120, 255),
    (40, 210, 215),
    (255, 120, 200),
    (200, 220, 60),
)


def overlay(
    image: np.ndarray, mask: np.ndarray, object_mask: np.ndarray | None, clicks: Clicks, *, longest_side: int = 480
) -> np.ndarray:
    """Draw a session on its image, uint8 RGB, resized so that its longest side is `longest_side`."""
    scale = longest_side / max(image.shape[:2])
    width, height = round(image.shape[1] * scale), round(image.shape[0] * scale)
    picture = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    tinted = cv2.resize(mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST).astype(bool)
    picture[tinted] = (0.5 * picture[tinted] + 0.5 * np.array(TINT)).astype(np.uint8)
    if object_mask is not None:
        truth = cv2.resize(object_mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
        draw_outline(picture, truth, OUTLINE)
    for number, ((y, x), positive) in enumerate(zip(clicks.yx, clicks.positive, strict=True), start=1):
        centre = (round((x + 0.5) * scale), round((y + 0.5) * scale))
        draw_click(picture, centre, bool(positive), radius=7)
        text = str(number)
        (text_width, text_height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.35, 1)
        origin = (centre[0] - text_width // 2, centre[1] + text_height // 2)
        cv2.putText(picture, text, origin, cv2.FONT_HERSHEY_SIMPLEX, 0.35, (255, 255, 255), 1, cv2.LINE_AA)
    return picture


def training_overlay(row: Row) -> np.ndarray:
    """Draw a training row at its size, uint8 RGB: target outlined, ignored pixels hatched, clicks as dots."""
    picture = np.ascontiguousarray(row["image"]).copy()
    hatch(picture, row["ignore_mask"] > 0)
    draw_outline(picture, row["object_mask"], TARGET, thickness=2)
    valid = row["clicks_valid"]
    for number, (y, x) in enumerate(row["clicks_yx"]):
        if valid[number]:
            draw_click(picture, (round(float(x)), round(float(y))), number < len(valid) // 2, radius=4)
    return picture


def objects_overlay(sample: Sample, *, longest_side: int = 480) -> np.ndarray:
    """Draw all objects of a sample, tinted and outlined in different colours; ignored pixels are hatched.

    The picture is shrunk, never enlarged, to a longest side of `longest_side`.
    """
    scale = min(1.0, longest_side / max(sample.image.shape[:2]))
    size = (max(1, round(sample.image.shape[1] * scale)), max(1, round(sample.image.shape[0] * scale)))
    picture = cv2.resize(sample.image, size, interpolation=cv2.INTER_AREA)
    hatch(picture, cv2.resize(sample.ignore_mask.view(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0)
    masks = [
        cv2.resize(sample.object_mask(ref).view(np.uint8), size, interpolation=cv2.INTER_NEAREST)
        for ref in sample.objects
    ]
    for number, mask in enumerate(masks):
        inside = mask > 0
        tint = np.array(OBJECT_COLOURS[number % len(OBJECT_COLOURS)])
        picture[inside] = (0.7 * picture[inside] + 0.3 * tint).astype(np.uint8)
    for number, mask in enumerate(masks):
        contours, _ = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(picture, contours, -1, OBJECT_COLOURS[number % len(OBJECT_COLOURS)], 2, cv2.LINE_AA)
    return picture


def hatch(picture: np.ndarray, where: np.ndarray) -> None:
    """Draw stripes into a picture where a mask, bool (h, w), is set."""
    y, x = np.nonzero(where)
    stripe = (y + x) % HATCH_PERIOD < HATCH_PERIOD // 3
    for chosen, strength in ((~stripe, 0.35), (stripe, 0.9)):
        place = y[chosen], x[chosen]
        picture[place] = ((1 - strength) * picture[place] + strength * np.array(IGNORED)).astype(np.uint8)


def draw_outline(picture: np.ndarray, mask: np.ndarray, colour: tuple[int, int, int], thickness: int = 1) -> None:
    """Draw the outline of a mask, uint8 (h, w), into a picture, with a dark rim that shows on any background."""
    contours, _ = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, contours, -1, (0, 0, 0), thickness + 2, cv2.LINE_AA)
    cv2.drawContours(picture, contours, -1, colour, thickness, cv2.LINE_AA)


def draw_click(picture: np.ndarray, centre_xy: tuple[int, int], positive: bool, radius: int) -> None:
    """Draw a click as a disc, green or red, with a white rim."""
    cv2.circle(picture, centre_xy, radius + 1, (255, 255, 255), -1, cv2.LINE_AA)
    cv2.circle(picture, centre_xy, radius, POSITIVE if positive else NEGATIVE, -1, cv2.LINE_AA)
