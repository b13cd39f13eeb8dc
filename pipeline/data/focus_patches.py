"""Close-ups for training: FocusCut's simulation of a user who corrects a detail (Lin et al., CVPR 2022, Alg. 1).

A close-up lies at a random place of an object's border and has a random size. It comes with a click at its centre,
further clicks, and a coarse mask of what it shows. It is cut from the image before any augmentation (docs/PAPERS.md,
FocusCut: training).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import cv2
import numpy as np

from models.geometry import Box
from models.records import AtLeast, Below, Factor, Positive, Record, Rising
from pipeline.clicks.click_rows import TrainingClicks, click_rows
from pipeline.clicks.spaced import bounds
from pipeline.clicks.walk_clicks import WalkClicksConfig, walk
from pipeline.data.coarse_masks import CoarseMaskConfig, coarse_mask
from pipeline.data.sample import Sample

_CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))


@dataclass(frozen=True, kw_only=True)
class FocusPatchConfig(Record):
    """Whether samples come with a close-up, and how it is drawn."""

    called = "focus"

    enabled: bool = False
    """Add the focus columns to each row; requires copy_paste.recipe none."""
    size: Annotated[int, AtLeast(8)] = 384
    """Side of the close-up in the network's input, in pixels."""
    scale: Annotated[tuple[Factor, Factor], Rising()] = (0.2, 0.8)
    """Range of the close-up's radius, as a fraction of the square root of the object's area (alpha)."""
    min_radius: Positive = 5
    """Smallest radius, in image pixels."""
    shift: Annotated[float, AtLeast(0), Below(1)] = 0.3
    """Largest distance of the centre from the object's border, by rows and by columns, as a fraction of the radius
    (beta)."""
    clicks: WalkClicksConfig = field(default_factory=lambda: WalkClicksConfig(max_positive=3, max_negative=3))
    """Clicks besides the one at the centre; distances are in pixels of the resized close-up."""
    coarse_size: Annotated[int, AtLeast(8)] = 192
    """Side at which the previous mask is made coarse, before it is resized to `size`. The value is ours: at 384, half
    of the masks never reach coarse.max_iou."""
    coarse: CoarseMaskConfig = field(default_factory=CoarseMaskConfig)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FocusPatch:
    """A close-up of side s, at `box` in the image; beyond the image it is black and background.

    `image` uint8 (s, s, 3) RGB; `mask`, `ignore_mask` and the coarse `prev_mask` bool (s, s). The click at the centre,
    (s // 2, s // 2), is the first of its sign and has order 0; the others are numbered from 1 in random order.
    """

    box: Box
    image: np.ndarray
    mask: np.ndarray
    ignore_mask: np.ndarray
    prev_mask: np.ndarray
    clicks: TrainingClicks


def border_pixels(mask: np.ndarray) -> np.ndarray:
    """Return the pixels (row, column) on the border of a bool mask, also around holes, as int64 (n, 2).

    A border pixel has a 4-neighbour outside the mask; beyond the image's edge is outside.
    """
    box = bounds(mask, 0)
    part = mask[box].astype(np.uint8)
    inner = cv2.erode(part, _CROSS, borderType=cv2.BORDER_CONSTANT, borderValue=(0,))
    return np.argwhere(part > inner) + np.array([box[0].start, box[1].start])


def draw_box(mask: np.ndarray, rng: np.random.Generator, config: FocusPatchConfig) -> Box:
    """Draw a place on the border of an object, bool (h, w) with at least one pixel, and a radius.

    The centre is inside the image; the box, of side 2 radius + 1, may extend beyond it.
    """
    height, width = mask.shape
    radius = max(config.min_radius, int(rng.uniform(*config.scale) * np.sqrt(np.count_nonzero(mask))))
    border = border_pixels(mask)
    place = border[rng.integers(len(border))] + radius * rng.uniform(-config.shift, config.shift, 2)
    y, x = np.clip(place.astype(int), 0, (height - 1, width - 1)).tolist()  # astype truncates, as published
    return Box(y - radius, y + radius, x - radius, x + radius)


def focus_patch(
    image: np.ndarray,
    mask: np.ndarray,
    ignore_mask: np.ndarray,
    rng: np.random.Generator,
    config: FocusPatchConfig,
    max_clicks: int,
) -> FocusPatch:
    """Draw a close-up of an object with at least one pixel; image uint8 (h, w, 3), masks bool (h, w).

    The sign of the centre click is that of its pixel; `max_clicks` is K of TrainingClicks. As published: the box, the
    centre click, 0 to 3 further clicks of each sign, and the coarse mask. Ours: the further clicks keep their distances
    in the resized close-up, whose edge counts as the object's border, and avoid ignored pixels; neither they nor the
    coarse mask leave the image, as is the case in inference.
    """
    box, size = draw_box(mask, rng, config), config.size
    cut = _cut(mask, box)
    seen, ignored = _mask_resized(cut, size), _mask_resized(_cut(ignore_mask, box), size)
    allowed = _mask_resized(_cut(~ignore_mask, box), size)
    in_image = _cut(np.ones(mask.shape, bool), box)
    small, room = (_mask_resized(each, config.coarse_size) for each in (cut, in_image))
    coarse = coarse_mask(small, rng, config.coarse, room)
    return FocusPatch(
        box=box,
        image=cv2.resize(_cut(image, box), (size, size), interpolation=cv2.INTER_LINEAR),
        mask=seen,
        ignore_mask=ignored,
        prev_mask=_mask_resized(coarse, size),
        clicks=_clicks(seen, allowed, rng, config.clicks, max_clicks),
    )


def _clicks(
    mask: np.ndarray, allowed: np.ndarray, rng: np.random.Generator, config: WalkClicksConfig, max_clicks: int
) -> TrainingClicks:
    centre = mask.shape[0] // 2 * mask.shape[1] + mask.shape[1] // 2
    positive, negative = walk(mask, allowed, [centre], rng, config)
    first = 0
    if mask.ravel()[centre]:
        positive = [centre, *positive]
    else:
        first, negative = min(len(positive), max_clicks), [centre, *negative]
    positive, negative = positive[:max_clicks], negative[:max_clicks]
    order = np.insert(1 + rng.permutation(len(positive) + len(negative) - 1), first, 0)
    return click_rows(positive, negative, order, mask.shape, max_clicks)


def _cut(array: np.ndarray, box: Box) -> np.ndarray:
    """Cut a box out of (h, w, ...), with zeros beyond the array."""
    height, width = array.shape[:2]
    inside = array[max(0, box.top) : box.bottom + 1, max(0, box.left) : box.right + 1]
    before = max(0, -box.top), max(0, -box.left)
    after = max(0, box.bottom + 1 - height), max(0, box.right + 1 - width)
    widths = [*zip(before, after, strict=True), *[(0, 0)] * (array.ndim - 2)]
    return np.pad(inside, widths) if any(before + after) else inside


def _mask_resized(mask: np.ndarray, size: int) -> np.ndarray:
    """Resize a bool mask by nearest neighbour."""
    return cv2.resize(mask.astype(np.uint8), (size, size), interpolation=cv2.INTER_NEAREST) > 0


def focus_columns(
    sample: Sample, object_ids: Sequence[str], rng: np.random.Generator, config: FocusPatchConfig, max_clicks: int
) -> dict[str, Any]:
    """Make the focus columns of a row (pipeline/data/rows.py) for the row's target; none if they are disabled.

    `sample` is the sample before augmentation, and `object_ids` name its objects that form the target. If the row shows
    no object, the close-up is of a random one, since every row needs a close-up.
    """
    if not config.enabled:
        return {}
    refs = [ref for ref in sample.objects if ref.id in object_ids]
    refs = refs or [sample.objects[int(rng.integers(len(sample.objects)))]]
    mask = np.logical_or.reduce([sample.object_mask(ref) for ref in refs])
    patch = focus_patch(sample.image, mask, sample.ignore_mask, rng, config, max_clicks)
    return {
        "focus_image": patch.image,
        "focus_mask": patch.mask.astype(np.uint8),
        "focus_ignore_mask": patch.ignore_mask.astype(np.uint8),
        "focus_prev_mask": patch.prev_mask.astype(np.uint8),
        "focus_clicks_yx": patch.clicks.yx,
        "focus_clicks_valid": patch.clicks.valid,
        "focus_clicks_order": patch.clicks.order,
    }
