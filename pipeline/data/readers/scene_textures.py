"""Colours and surfaces of generated scenes: every texture blends three colours, float32 RGB in 0..255."""

from collections.abc import Callable, Sequence

import cv2
import numpy as np

# A surface is a height in 0..1 per pixel; `scale` is the size of its features in pixels.
Surface = Callable[[np.random.Generator, tuple[int, int], float], np.ndarray]


def value_noise(rng: np.random.Generator, hw: tuple[int, int], scale: float, octaves: int = 3) -> np.ndarray:
    """Return the sum of smooth random fields, each twice as fine and half as strong: float32 `hw` in 0..1."""
    total = np.zeros(hw, np.float32)
    for octave in range(octaves):
        cell = max(scale / 2**octave, 1.5)
        grid_hw = (int(hw[0] / cell) + 3, int(hw[1] / cell) + 3)
        field = cv2.resize(
            rng.random(grid_hw, np.float32),
            (int(grid_hw[1] * cell) + 1, int(grid_hw[0] * cell) + 1),
            interpolation=cv2.INTER_CUBIC,
        )
        total += field[: hw[0], : hw[1]] * 0.5**octave
    low, high = float(total.min()), float(total.max())
    return (total - low) / max(high - low, 1e-6)


def _axis(rng: np.random.Generator, hw: tuple[int, int], bend: float) -> tuple[np.ndarray, np.ndarray]:
    """Return pixel coordinates (u, v) in a randomly rotated and slightly bent frame."""
    angle = rng.uniform(0, np.pi)
    rows, columns = np.arange(hw[0], dtype=np.float32)[:, None], np.arange(hw[1], dtype=np.float32)[None]
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    warp = bend * value_noise(rng, hw, 60, octaves=1) if bend else np.float32(0)
    return columns * cos + rows * sin + warp, rows * cos - columns * sin + warp


def _square_wave(phase: np.ndarray, sharpness: float) -> np.ndarray:
    return 0.5 + 0.5 * np.tanh(sharpness * np.sin(phase))


def _stripes(rng: np.random.Generator, hw: tuple[int, int], scale: float) -> np.ndarray:
    across, _ = _axis(rng, hw, scale * int(rng.integers(3)))
    return _square_wave(across * np.float32(np.pi / scale), rng.uniform(1, 5))


def _checks(rng: np.random.Generator, hw: tuple[int, int], scale: float) -> np.ndarray:
    u, v = _axis(rng, hw, scale * int(rng.integers(2)))
    step = np.float32(np.pi / scale)
    return 0.5 + 0.5 * np.tanh(4 * np.sin(u * step) * np.sin(v * step))


def _dots(rng: np.random.Generator, hw: tuple[int, int], scale: float) -> np.ndarray:
    u, v = _axis(rng, hw, 0)
    step = np.float32(np.pi / scale)
    return 0.5 + 0.5 * np.tanh(4 * (np.cos(u * step) + np.cos(v * step) - rng.uniform(0.4, 1)))


def _speckle(rng: np.random.Generator, hw: tuple[int, int], scale: float) -> np.ndarray:
    grains = value_noise(rng, hw, max(scale / 3, 2.5), octaves=1)
    return 1 / (1 + np.exp(-18 * (grains - np.float32(rng.uniform(0.5, 0.68)))))


def _gradient(rng: np.random.Generator, hw: tuple[int, int], scale: float) -> np.ndarray:
    u, _ = _axis(rng, hw, scale)
    return (u - u.min()) / max(float(np.ptp(u)), 1e-6)


def _noise(rng: np.random.Generator, hw: tuple[int, int], scale: float) -> np.ndarray:
    return value_noise(rng, hw, 2.5 * scale, octaves=4)


def _marble(rng: np.random.Generator, hw: tuple[int, int], scale: float) -> np.ndarray:
    u, _ = _axis(rng, hw, 0)
    veins = np.sin(u * np.float32(0.7 / scale) + 9 * value_noise(rng, hw, 3 * scale))
    return np.sqrt(np.abs(veins))


TEXTURES: dict[str, Surface] = {
    "stripes": _stripes,
    "checks": _checks,
    "dots": _dots,
    "speckle": _speckle,
    "gradient": _gradient,
    "noise": _noise,
    "marble": _marble,
}


def lab_to_rgb(lab: np.ndarray) -> np.ndarray:
    """Convert colours (..., 3) from CIE Lab to RGB 0..255, float32."""
    rows = np.asarray(lab, np.float32).reshape(1, -1, 3)
    return (cv2.cvtColor(rows, cv2.COLOR_LAB2RGB) * 255).reshape(np.shape(lab))


def pick_colour(rng: np.random.Generator, away_from: Sequence[np.ndarray], chroma: tuple[float, float]) -> np.ndarray:
    """Pick a Lab colour that differs from others: the best of a few random ones, so it is not always far away."""
    num = 5
    hue, strength = rng.uniform(0, 2 * np.pi, num), rng.uniform(*chroma, num)
    candidates = np.stack([rng.uniform(28, 88, num), strength * np.cos(hue), strength * np.sin(hue)], axis=1)
    if not away_from:
        return candidates[0]
    gaps = np.linalg.norm(candidates[:, None] - np.stack(away_from)[None], axis=2).min(axis=1)
    return candidates[int(gaps.argmax())]


def paint(rng: np.random.Generator, hw: tuple[int, int], base: np.ndarray, scale: float, contrast: float) -> np.ndarray:
    """Return a random texture around the Lab colour `base`: float32 RGB (h, w, 3).

    `contrast` is the largest distance of the other two colours from the base, in Lab units.
    """
    names = list(TEXTURES)
    surface = TEXTURES[names[int(rng.integers(len(names)))]](rng, hw, scale).astype(np.float32)
    # The two other colours differ in opposite directions of lightness, so that the average stays near the base.
    step = np.array([contrast, 0.7 * contrast, 0.7 * contrast]) * rng.uniform(0.5, 1, 3) * rng.choice([-1, 1], 3)
    low, mid, high = lab_to_rgb(np.stack([base - step, base, base + step * [1, -1, 1]]))
    blend = surface[..., None]
    colours = mid + (mid - low) * np.minimum(2 * blend - 1, 0) + (high - mid) * np.maximum(2 * blend - 1, 0)
    colours *= 0.85 + 0.3 * value_noise(rng, hw, 2.2 * scale, octaves=1)[..., None]
    return np.clip(colours, 0, 255, out=colours)
