"""How good masks and sessions are. Masks are bool (h, w); a session is the list of its IoUs, one per click."""

from collections.abc import Sequence

import numpy as np

from models.errors import InputError


def iou(mask: np.ndarray, object_mask: np.ndarray, ignore_mask: np.ndarray) -> float:
    """Intersection over union outside the ignored pixels; nan if both masks are empty there (spec 6.2)."""
    valid = ~ignore_mask
    union = ((mask | object_mask) & valid).sum()
    return float((mask & object_mask & valid).sum() / union) if union else float("nan")


def clicks_to(ious: Sequence[float], quality: float, max_clicks: int) -> int:
    """Clicks (1-based) until the IoU first reaches `quality`, compared in float32 as published; else the maximum."""
    reached = np.asarray(ious[:max_clicks], np.float32) >= np.float32(quality)
    return int(reached.argmax()) + 1 if reached.any() else max_clicks


def noc(sessions: Sequence[Sequence[float]], quality: float, max_clicks: int = 20) -> float:
    """NoC@q: mean number of clicks to quality `quality`, failures counted as the maximum."""
    _some(sessions)
    return float(np.mean([clicks_to(ious, quality, max_clicks) for ious in sessions]))


def nof(sessions: Sequence[Sequence[float]], quality: float, max_clicks: int = 20) -> int:
    """NoF: sessions that never reach `quality` within the maximum of clicks."""
    return sum(bool(max(ious[:max_clicks], default=0.0) < np.float32(quality)) for ious in sessions)


def num_at_max(sessions: Sequence[Sequence[float]], quality: float, max_clicks: int = 20) -> int:
    """Published ">= 20 clicks": sessions whose count is the maximum, those solved at the very last click included."""
    return sum(clicks_to(ious, quality, max_clicks) == max_clicks for ious in sessions)


def iou_at(sessions: Sequence[Sequence[float]], num_clicks: int) -> float:
    """IoU&k: mean IoU after `num_clicks` clicks; a session that stopped earlier keeps its last IoU."""
    _some(sessions)
    return float(np.mean([ious[min(num_clicks, len(ious)) - 1] for ious in sessions]))


def _some(sessions: Sequence[Sequence[float]]) -> None:
    if len(sessions) == 0:
        raise InputError("no sessions to average: the evaluation had no objects")
