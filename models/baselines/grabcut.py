"""GrabCut (Rother et al. 2004, OpenCV's) driven by clicks: a step that asks no network."""

from dataclasses import replace

import cv2
import numpy as np
import torch

from models.refinement.state import State, Step
from models.steps import Steps


def grabcut(
    *, longest_side: int = 320, seed_radius: float = 5.0, guess_radius: float = 0.2, iterations: int = 3
) -> Step:
    """Cut the object out from the colours around the clicks.

    Disks of `seed_radius` pixels around the clicks are certain. What is likely object at the first click is a disk of
    `guess_radius` x the longer side; from then on it is the last mask, with a disk around a newest click that
    contradicts it. The image is shrunk to `longest_side` first: GrabCut's cost grows with its pixels, its answer
    hardly changes. The probability is 0 or 1.
    """

    def step(state: State) -> Steps[State]:
        return replace(state, mask_prob=_cut(state))
        yield ()  # a generator that never asks

    def _cut(state: State) -> torch.Tensor:
        scale = min(1.0, longest_side / max(state.hw))
        height, width = (max(1, round(side * scale)) for side in state.hw)
        pixels = (state.image.permute(1, 2, 0).cpu().numpy() * 255).round().astype(np.uint8)
        image = np.ascontiguousarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)[..., ::-1])
        rows, columns = np.ogrid[:height, :width]
        guess = guess_radius * max(height, width)
        distances = [np.hypot(rows - y * scale, columns - x * scale) for y, x in state.clicks.yx]
        newest = bool(state.clicks.positive[-1])
        if state.mask_prob is None:
            likely = distances[-1] <= guess if newest else np.ones((height, width), bool)
        else:
            last = state.mask_prob[0].cpu().numpy()
            likely = cv2.resize(last, (width, height), interpolation=cv2.INTER_LINEAR) > 0.5
            if likely[tuple(np.clip((state.clicks.yx[-1] * scale).astype(int), 0, (height - 1, width - 1)))] != newest:
                likely = np.where(distances[-1] <= guess / 4, newest, likely)
        labels = np.where(likely, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
        for distance, positive in zip(distances, state.clicks.positive, strict=True):
            labels[distance <= max(1.0, seed_radius * scale)] = cv2.GC_FGD if positive else cv2.GC_BGD
        foreground = np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD))
        if foreground.any() and not foreground.all():  # GrabCut needs pixels of both kinds
            cv2.setRNGSeed(0)
            models = np.zeros((2, 1, 65))
            labels, _, _ = cv2.grabCut(image, labels, None, models[0], models[1], iterations, cv2.GC_INIT_WITH_MASK)
            foreground = np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD))
        full = cv2.resize(foreground.astype(np.float32), state.hw[::-1], interpolation=cv2.INTER_LINEAR) > 0.5
        return torch.from_numpy(full).float()[None].to(state.image.device)

    return step
