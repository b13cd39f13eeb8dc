"""Metrics of masks and of sessions. Masks are bool (h, w); a session is the list of its IoUs, one per click.

Definitions: docs/PAPERS.md, RITM: robot user and metrics. Metrics of borders are in `pipeline.boundaries`.

"Solved at click 20 counts as failure" has two readings, and published tables mix them: `nof` counts sessions that
never reach the quality (FocusCut's NoF), `num_at_max` also counts those that reach it at the very last click (RITM's
">= 20" and everything built on it). Both are reported; NoC is the same under either.
"""

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence

import numpy as np

from models.errors import InputError


def iou(mask: np.ndarray, object_mask: np.ndarray, ignore_mask: np.ndarray) -> float:
    """Return the intersection over union outside the ignored pixels; nan if both masks are empty there."""
    valid = ~ignore_mask
    union = ((mask | object_mask) & valid).sum()
    return float((mask & object_mask & valid).sum() / union) if union else float("nan")


def reaches(ious: Sequence[float], quality: float, max_clicks: int) -> int | None:
    """Return the first click (from 1) at which the IoU reaches `quality`; None if it never does.

    IoUs are compared in float32, as in the published code.
    """
    reached = np.asarray(ious[:max_clicks], np.float32) >= np.float32(quality)
    return int(reached.argmax()) + 1 if reached.any() else None


def clicks_to(ious: Sequence[float], quality: float, max_clicks: int) -> int:
    """Return the first click (from 1) at which the IoU reaches `quality`; `max_clicks` if it never does."""
    return reaches(ious, quality, max_clicks) or max_clicks


def noc(sessions: Sequence[Sequence[float]], quality: float, max_clicks: int = 20) -> float:
    """NoC@q: mean number of clicks to `quality`, failures counted as `max_clicks` (NoC100@q: 100)."""
    _some(sessions)
    return float(np.mean([clicks_to(ious, quality, max_clicks) for ious in sessions]))


def nof(sessions: Sequence[Sequence[float]], quality: float, max_clicks: int = 20) -> int:
    """NoF@q: number of sessions that never reach `quality` within `max_clicks` clicks (NoF100@q: 100)."""
    return sum(_fails(ious, quality, max_clicks) for ious in sessions)


def nofi(items: Sequence[Hashable], sessions: Sequence[Sequence[float]], quality: float, max_clicks: int = 20) -> int:
    """NoFI@q: number of items with a session that never reaches `quality`; `items[i]` belongs to session i.

    An item is an image or a sample. An item of several objects fails if any of them does. Published counts have one
    session per item, so there NoFI equals NoF (docs/PAPERS.md, iCMFormer++: protocols).
    """
    return len({item for item, ious in zip(items, sessions, strict=True) if _fails(ious, quality, max_clicks)})


def num_at_max(sessions: Sequence[Sequence[float]], quality: float, max_clicks: int = 20) -> int:
    """Published ">= 20 clicks": number of sessions that fail or are solved only at the very last click."""
    return sum(clicks_to(ious, quality, max_clicks) == max_clicks for ious in sessions)


def iou_at(sessions: Sequence[Sequence[float]], num_clicks: int) -> float:
    """IoU&k: mean IoU after `num_clicks` clicks; a session that stopped earlier keeps its last IoU."""
    _some(sessions)
    return float(np.mean([ious[min(num_clicks, len(ious)) - 1] for ious in sessions]))


def miou_after(sessions: Sequence[Sequence[float]], num_further: int, num_given: int = 0) -> float:
    """mIoU@k+: mean IoU after k = `num_further` clicks beyond those given free; IoU&k if none were.

    A session's first `num_given` IoUs belong to the clicks that were given (an exemplar's). If something else was
    given, such as an initial mask, `num_given` is 0.
    """
    return iou_at(sessions, num_given + num_further)


def at_click(values: Sequence[float | None], num_clicks: int) -> float | None:
    """Return a session's value after `num_clicks` clicks: its last if it stopped earlier, None if it has no values."""
    return values[min(num_clicks, len(values)) - 1] if len(values) else None


def padded(ious: Sequence[float], max_clicks: int) -> list[float]:
    """Repeat a session's last IoU up to `max_clicks` values."""
    return [*ious, *[ious[-1]] * (max_clicks - len(ious))][:max_clicks]


def mean_of_known(values: Iterable[float | None]) -> float | None:
    """Return the mean of the values that are known (neither None nor nan); None if none is."""
    known = [value for value in values if value is not None and not math.isnan(value)]
    return float(np.mean(known)) if known else None


def seconds_per_click(seconds: float, sessions: Sequence[Sequence[float]]) -> float:
    """SPC: total time of an evaluation over its clicks; the time includes loading, the robot and the metrics."""
    return seconds / max(1, sum(len(ious) for ious in sessions))


def _fails(ious: Sequence[float], quality: float, max_clicks: int) -> bool:
    return reaches(ious, quality, max_clicks) is None


def totals(counts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    """Sum counts over objects, by name."""
    total: Counter[str] = Counter()
    for each in counts:
        total.update(each)  # unlike +, `update` keeps zeros
    return dict(total)


def _some(sessions: Sequence[Sequence[float]]) -> None:
    if len(sessions) == 0:
        raise InputError("no sessions to average: the evaluation had no objects, expected at least one")
