"""Outlines of generated objects: families of closed contours, filled by the even-odd rule, so that a second is a hole.

Every family maps a Generator to contours, float64 (n, 2) in rows (x, y), centred on the origin with a radius near 1.
"""

from collections.abc import Callable

import cv2
import numpy as np

Contours = list[np.ndarray]

_TURN = np.linspace(0, 2 * np.pi, 96, endpoint=False)
_SUBPIXEL_BITS = 4


def _polar(radius: np.ndarray, angle: np.ndarray = _TURN) -> np.ndarray:
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def _smooth(corners: np.ndarray, rounds: int) -> np.ndarray:
    """Cut the corners of a closed polygon (Chaikin): each round replaces every corner by two."""
    for _ in range(rounds):
        following = np.roll(corners, -1, axis=0)
        pair = np.stack([0.78 * corners + 0.22 * following, 0.22 * corners + 0.78 * following], axis=1)
        corners = pair.reshape(-1, 2)
    return corners


def _ribbon(centre: np.ndarray, half_width: np.ndarray) -> np.ndarray:
    """Widen an open line (n, 2) by `half_width` (n,) on both sides."""
    along = np.gradient(centre, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    across = along[:, ::-1] * [-1, 1] * half_width[:, None]
    return np.concatenate([centre + across, (centre - across)[::-1]])


def _blob(rng: np.random.Generator) -> Contours:
    waves = np.arange(2, 7)
    amplitude = rng.normal(0, 0.3, waves.size) / waves
    phase = rng.uniform(0, 2 * np.pi, waves.size)
    radius = 1 + (amplitude[:, None] * np.cos(waves[:, None] * _TURN + phase[:, None])).sum(axis=0)
    radius = np.clip(radius, 0.3, None)
    return [_polar(radius / radius.max()) * [1, rng.uniform(0.65, 1)]]


def _polygon(rng: np.random.Generator) -> Contours:
    num_corners = int(rng.integers(3, 8))
    angle = (np.arange(num_corners) + rng.uniform(-0.3, 0.3, num_corners)) * 2 * np.pi / num_corners
    corners = _polar(rng.uniform(0.7, 1, num_corners), angle) * [1, rng.uniform(0.6, 1)]
    return [_smooth(corners, int(rng.integers(0, 4)))]


def _ellipse(rng: np.random.Generator) -> Contours:
    """Draw a superellipse, from a plain ellipse to a rounded box."""
    power = 2 / rng.uniform(2, 5)
    cos, sin = np.cos(_TURN), np.sin(_TURN)
    outline = np.stack([np.sign(cos) * np.abs(cos) ** power, np.sign(sin) * np.abs(sin) ** power], axis=1)
    return [outline * [0.9, 0.9 * rng.uniform(0.35, 1)]]


def _ring(rng: np.random.Generator) -> Contours:
    outer = (_ellipse, _blob, _polygon)[int(rng.integers(3))](rng)[0]
    return [outer, outer * rng.uniform(0.4, 0.68) + rng.uniform(-0.06, 0.06, 2)]


def _button(rng: np.random.Generator) -> Contours:
    """Draw a disk with two to four round holes."""
    num_holes, aspect = int(rng.integers(2, 5)), rng.uniform(0.75, 1)
    hole = _polar(np.full(_TURN.size, 0.21))
    centres = _polar(np.full(num_holes, 0.46), np.arange(num_holes) * 2 * np.pi / num_holes + rng.uniform(0, 3))
    return [contour * [1, aspect] for contour in (_polar(np.ones(_TURN.size)), *(hole + c for c in centres))]


def _star(rng: np.random.Generator) -> Contours:
    num_spikes = int(rng.integers(4, 9))
    radius = np.where(np.arange(2 * num_spikes) % 2, rng.uniform(0.32, 0.6), rng.uniform(0.85, 1, 2 * num_spikes))
    return [_smooth(_polar(radius, np.arange(2 * num_spikes) * np.pi / num_spikes), int(rng.integers(0, 3)))]


def _flower(rng: np.random.Generator) -> Contours:
    depth = rng.uniform(0.12, 0.34)
    return [_polar((1 + depth * np.cos(int(rng.integers(3, 9)) * _TURN)) / (1 + depth))]


def _crescent(rng: np.random.Generator) -> Contours:
    """Draw a crescent: an outer arc and a flatter inner arc between the same two tips."""
    opening = rng.uniform(0.4, 0.9)
    outer = np.linspace(opening, 2 * np.pi - opening, 64)
    tips_x, tips_y = np.cos(opening), np.sin(opening)
    inner = np.linspace(-1, 1, 64)
    bulge = rng.uniform(0.25, 0.6)
    inner_x = tips_x - (tips_x + bulge) * (1 - inner**2)
    return [np.concatenate([_polar(np.ones(64), outer), np.stack([inner_x, inner * tips_y], axis=1)])]


def _bar(rng: np.random.Generator) -> Contours:
    """Draw a thin stick, straight or bent."""
    along = np.linspace(-1.25, 1.25, 48)
    half_width = rng.uniform(0.07, 0.17) * (1 - (along / 1.25) ** 12 * 0.9)
    return [_ribbon(np.stack([along, rng.uniform(-0.45, 0.45) * along**2], axis=1), half_width)]


def _wiggle(rng: np.random.Generator) -> Contours:
    """Draw a wavy stroke, thinner than its tightest curve, so that it never folds over itself."""
    along = np.linspace(-1.3, 1.3, 96)
    waves, height = rng.uniform(2.2, 4.6), rng.uniform(0.2, 0.4)
    half_width = min(rng.uniform(0.08, 0.16), 0.75 / (height * waves**2))
    taper = np.sqrt(np.clip(1 - (along / 1.32) ** 6, 0.02, 1))
    wave = height * np.sin(waves * along + rng.uniform(0, 6))
    return [_ribbon(np.stack([along, wave], axis=1), half_width * taper)]


SHAPES: dict[str, Callable[[np.random.Generator], Contours]] = {
    "blob": _blob,
    "polygon": _polygon,
    "ellipse": _ellipse,
    "ring": _ring,
    "button": _button,
    "star": _star,
    "flower": _flower,
    "crescent": _crescent,
    "bar": _bar,
    "wiggle": _wiggle,
}


def place(contours: Contours, centre_yx: np.ndarray, radius: float, angle: float) -> Contours:
    """Scale by `radius` pixels, rotate by `angle` radians and move to `centre_yx`."""
    turn = radius * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return [contour @ turn + centre_yx[::-1] for contour in contours]


def rasterise(contours: Contours, hw: tuple[int, int]) -> np.ndarray:
    """Fill contours with smooth edges: uint8 (h, w) coverage, of which 128 and more is inside."""
    coverage = np.zeros(hw, np.uint8)
    scale = 1 << _SUBPIXEL_BITS
    fixed = [np.rint(contour * scale).astype(np.int32) for contour in contours]
    return cv2.fillPoly(coverage, fixed, (255,), lineType=cv2.LINE_AA, shift=_SUBPIXEL_BITS)
