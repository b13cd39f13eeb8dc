"""Generated scenes: the places of the objects (cheap, gives the masks) and their appearance (the picture)."""

from dataclasses import dataclass

import cv2
import numpy as np

from pipeline.data.readers.scene_shapes import SHAPES, place, rasterise
from pipeline.data.readers.scene_textures import paint, pick_colour, value_noise

MIN_VISIBLE = 80  # pixels; an object of which less is visible is not drawn at all


@dataclass(frozen=True, kw_only=True, eq=False)
class Layout:
    """The objects of a scene, the farthest first.

    `coverage` holds one uint8 (h, w) per object, unoccluded and with soft edges; `labels` uint16 (h, w) is the visible
    part: n for object n - 1, 0 for the background.
    """

    families: tuple[str, ...]
    coverage: tuple[np.ndarray, ...]
    labels: np.ndarray


def lay_out(rng: np.random.Generator, hw: tuple[int, int], num_objects: tuple[int, int]) -> Layout:
    """Place a random number of objects from the inclusive range `num_objects`; at least one remains visible."""
    while True:
        drawn = _scatter(rng, hw, int(rng.integers(num_objects[0], num_objects[1] + 1)))
        # From the nearest to the farthest, each keeps the pixels that no nearer one has taken.
        taken = np.zeros(hw, bool)
        kept: list[tuple[str, np.ndarray, np.ndarray]] = []
        for family, coverage in reversed(drawn):
            inside = coverage >= 128
            visible = inside & ~taken
            if np.count_nonzero(visible) >= MIN_VISIBLE:
                kept.append((family, coverage, visible))
                taken |= inside
        if kept:
            break
    labels = np.zeros(hw, np.uint16)
    kept.reverse()
    for number, (_, _, visible) in enumerate(kept, start=1):
        labels[visible] = number
    return Layout(families=tuple(k[0] for k in kept), coverage=tuple(k[1] for k in kept), labels=labels)


def _scatter(rng: np.random.Generator, hw: tuple[int, int], num: int) -> list[tuple[str, np.ndarray]]:
    """Draw `num` outlines, mostly large before small; about every second one adjoins an earlier one."""
    names = list(SHAPES)
    size, side = np.array(hw, float), float(min(hw))
    radii = side * np.exp(rng.uniform(np.log(0.1), np.log(0.38), num))
    radii = radii[np.argsort(-radii * rng.uniform(0.5, 1.5, num))]
    centres: list[np.ndarray] = []
    drawn = []
    for radius in radii:
        # Of a few random places the farthest from the others: spread out, but not on a grid.
        places = rng.uniform(0.12, 0.88, (6, 2)) * size
        gaps = [min((float(np.hypot(*(spot - c))) for c in centres), default=0.0) for spot in places]
        centre = places[int(np.argmax(gaps))]
        if centres and rng.random() < 0.55:
            other = int(rng.integers(len(centres)))
            angle, reach = rng.uniform(0, 2 * np.pi), rng.uniform(0.55, 0.95) * (radius + radii[other])
            centre = centres[other] + reach * np.array([np.sin(angle), np.cos(angle)])
            centre = np.clip(centre, 0.06 * size, 0.94 * size)
        centres.append(centre)
        family = names[int(rng.integers(len(names)))]
        contours = place(SHAPES[family](rng), centre, float(radius), rng.uniform(0, 2 * np.pi))
        drawn.append((family, rasterise(contours, hw)))
    return drawn


def _relief(coverage: np.ndarray, light_yx: np.ndarray, strength: float) -> np.ndarray:
    """Shade a flat outline as if it were slightly rounded: a factor near 1 per pixel, brighter towards the light."""
    inside = cv2.distanceTransform((coverage >= 128).astype(np.uint8), cv2.DIST_L2, 3)
    height = np.sqrt(np.minimum(inside, 12) / 12)
    height = cv2.GaussianBlur(height, (0, 0), 2.2)
    slope = light_yx[0] * cv2.Sobel(height, cv2.CV_32F, 0, 1, scale=0.125)
    slope += light_yx[1] * cv2.Sobel(height, cv2.CV_32F, 1, 0, scale=0.125)
    return 1 - strength * slope


def draw(rng: np.random.Generator, layout: Layout) -> np.ndarray:
    """Paint a layout: textured background, then each object with a drop shadow under it; uint8 RGB (h, w, 3)."""
    height, width = hw = layout.labels.shape
    side = min(hw)
    base = pick_colour(rng, [], (0, 28))
    canvas = paint(rng, hw, base, side * rng.uniform(0.04, 0.16), contrast=rng.uniform(4, 13))
    light = rng.uniform(0, 2 * np.pi)
    light_yx = np.array([-abs(np.sin(light)) - 0.3, np.cos(light)])
    light_yx /= np.linalg.norm(light_yx)
    colours = [base]
    for coverage in layout.coverage:
        colours.append(pick_colour(rng, colours[:1] + colours[-3:], (8, 62)))
        margin = max(side // 16, 4)
        x, y, box_width, box_height = cv2.boundingRect(coverage)
        top, bottom = max(y - margin, 0), min(y + box_height + margin, height)
        left, right = max(x - margin, 0), min(x + box_width + margin, width)
        view = canvas[top:bottom, left:right]
        alpha = coverage[top:bottom, left:right]
        offset = -light_yx * side * rng.uniform(0.008, 0.022)
        shift = np.array([[1, 0, offset[1]], [0, 1, offset[0]]])
        shadow = cv2.warpAffine(alpha, shift, alpha.shape[::-1])
        shadow = cv2.GaussianBlur(shadow, (0, 0), side * 0.012).astype(np.float32) / 255
        view *= 1 - np.float32(rng.uniform(0.25, 0.5)) * shadow[..., None]
        extent = float(np.sqrt(box_width * box_height))
        scale = float(np.clip(extent * rng.uniform(0.05, 0.16), 3, 30))
        surface = paint(rng, alpha.shape, colours[-1], scale, contrast=rng.uniform(7, 24))
        surface *= _relief(alpha, light_yx, rng.uniform(1.5, 3.5))[..., None]
        weight = (alpha.astype(np.float32) / 255)[..., None]
        view += weight * (surface - view)
    return _develop(rng, canvas)


def _develop(rng: np.random.Generator, canvas: np.ndarray) -> np.ndarray:
    """Add the effects of a camera: uneven light, a little blur, sensor noise."""
    hw = canvas.shape[:2]
    canvas *= (0.86 + 0.24 * value_noise(rng, hw, 0.8 * max(hw), octaves=1))[..., None]
    canvas = cv2.GaussianBlur(canvas, (0, 0), rng.uniform(0.35, 0.75))
    canvas += rng.standard_normal(canvas.shape, np.float32) * np.float32(rng.uniform(1, 4))
    return np.clip(np.rint(canvas), 0, 255).astype(np.uint8)
