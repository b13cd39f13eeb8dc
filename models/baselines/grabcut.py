"""GrabCut (Rother et al. 2004, in OpenCV's implementation) driven by clicks: a step without a network."""

from dataclasses import replace

import cv2
import numpy as np
import torch

from models.refinement.state import State, Step
from models.steps import Steps


def grabcut(
    *, longest_side: int = 256, seed_radius: float = 5.0, guess_radius: float = 0.2, iterations: int = 3
) -> Step:
    """Segment the object by the colours around the clicks.

    Disks of `seed_radius` pixels around the clicks are certain. A pixel is likely object if it is within `guess_radius`
    x the longer side of a positive click and nearer to it than to any negative click; the colour models start from this
    guess at every click. Only parts of the result that hold a positive click are kept. The image is first shrunk to
    `longest_side`, since GrabCut's cost grows with the number of pixels and its result hardly changes. The probability
    is 0 or 1.
    """

    def step(state: State) -> Steps[State]:
        return replace(state, mask_prob=_cut(state))
        yield ()  # makes this a generator, which requests nothing

    def _cut(state: State) -> torch.Tensor:
        scale = min(1.0, longest_side / max(state.hw))
        height, width = (max(1, round(side * scale)) for side in state.hw)
        pixels = (state.image.permute(1, 2, 0).cpu().numpy() * 255).round().astype(np.uint8)
        image = np.ascontiguousarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)[..., ::-1])
        rows, columns = np.ogrid[:height, :width]
        distances = np.array([np.hypot(rows - y * scale, columns - x * scale) for y, x in state.clicks.yx])
        positive = state.clicks.positive
        far = np.full((height, width), np.inf)
        to_object = distances[positive].min(0) if positive.any() else far
        to_background = distances[~positive].min(0) if not positive.all() else far
        likely = (to_object <= guess_radius * max(height, width)) & (to_object < to_background)
        labels = np.where(likely, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
        for distance, on_object in zip(distances, positive, strict=True):
            labels[distance <= max(1.0, seed_radius * scale)] = cv2.GC_FGD if on_object else cv2.GC_BGD
        foreground = np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD))
        if foreground.any() and not foreground.all():  # GrabCut needs pixels of both kinds
            cv2.setRNGSeed(0)
            models = np.zeros((2, 1, 65))
            labels, _, _ = cv2.grabCut(
                image, labels, (0, 0, 0, 0), models[0], models[1], iterations, cv2.GC_INIT_WITH_MASK
            )
            foreground = np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD))
            foreground = _parts_with(foreground, state.clicks.yx[positive] * scale)
        full = cv2.resize(foreground.astype(np.float32), state.hw[::-1], interpolation=cv2.INTER_LINEAR) > 0.5
        return torch.from_numpy(full).float()[None].to(state.image.device)

    return step


def _parts_with(mask: np.ndarray, yx: np.ndarray) -> np.ndarray:
    """Keep the connected parts (4 neighbours) that hold one of the points (n, 2)."""
    _, parts = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)
    rows, columns = np.clip(yx.astype(int), 0, np.array(mask.shape) - 1).T
    return np.isin(parts, parts[rows, columns]) & mask
