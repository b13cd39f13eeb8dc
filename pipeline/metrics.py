"""How good masks and sessions are. Masks are bool (h, w); a session is the list of its IoUs, one per click.

Borders are measured in `pipeline.boundaries` (docs/PAPERS.md, RITM: robot user and metrics).

"Solved at click 20 counts as failure" has two readings, and published tables mix them: `nof` counts sessions that
never reach the quality (FocusCut's NoF), `num_at_max` also those that reach it at the very last click (RITM's ">= 20"
and everything built on it). Both are given; NoC is the same under either.
"""

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence

import numpy as np

from models.errors import InputError


def iou(mask: np.ndarray, object_mask: np.ndarray, ignore_mask: np.ndarray) -> float:
    """Intersection over union outside the ignored pixels; nan if both masks are empty there."""
    valid = ~ignore_mask
    union = ((mask | object_mask) & valid).sum()
    return float((mask & object_mask & valid).sum() / union) if union else float("nan")


def reaches(ious: Sequence[float], quality: float, max_clicks: int) -> int | None:
    """Clicks (1-based) until the IoU first reaches `quality`, compared in float32 as published; None if it never is."""
    reached = np.asarray(ious[:max_clicks], np.float32) >= np.float32(quality)
    return int(reached.argmax()) + 1 if reached.any() else None


def clicks_to(ious: Sequence[float], quality: float, max_clicks: int) -> int:
    """Clicks until the IoU first reaches `quality`; the maximum if it never is."""
    return reaches(ious, quality, max_clicks) or max_clicks


def noc(sessions: Sequence[Sequence[float]], quality: float, max_clicks: int = 20) -> float:
    """NoC@q: mean number of clicks to quality `quality`, failures counted as the maximum (NoC100@q: 100)."""
    _some(sessions)
    return float(np.mean([clicks_to(ious, quality, max_clicks) for ious in sessions]))


def nof(sessions: Sequence[Sequence[float]], quality: float, max_clicks: int = 20) -> int:
    """NoF@q: sessions that never reach `quality` within the maximum of clicks (NoF100@q: 100)."""
    return sum(_fails(ious, quality, max_clicks) for ious in sessions)


def nofi(items: Sequence[Hashable], sessions: Sequence[Sequence[float]], quality: float, max_clicks: int = 20) -> int:
    """NoFI@q: items (images, or samples) with a session that never reaches `quality`; `items[i]` is session i's.

    An item of several objects fails if any of them does; published counts are of one session per item,
    where NoFI is NoF (docs/PAPERS.md, iCMFormer++: protocols).
    """
    return len({item for item, ious in zip(items, sessions, strict=True) if _fails(ious, quality, max_clicks)})


def num_at_max(sessions: Sequence[Sequence[float]], quality: float, max_clicks: int = 20) -> int:
    """Published ">= 20 clicks": sessions whose count is the maximum, those solved at the very last click included."""
    return sum(clicks_to(ious, quality, max_clicks) == max_clicks for ious in sessions)


def iou_at(sessions: Sequence[Sequence[float]], num_clicks: int) -> float:
    """IoU&k: mean IoU after `num_clicks` clicks; a session that stopped earlier keeps its last IoU."""
    _some(sessions)
    return float(np.mean([ious[min(num_clicks, len(ious)) - 1] for ious in sessions]))


def miou_after(sessions: Sequence[Sequence[float]], num_further: int, num_given: int = 0) -> float:
    """mIoU@k+: mean IoU after k = `num_further` clicks beyond those given free; IoU&k if none were.

    A session's first `num_given` IoUs belong to what was given (an exemplar's clicks). What is given without a click
    of this session, such as an initial mask, is no part of it: then `num_given` is 0.
    """
    return iou_at(sessions, num_given + num_further)


def at_click(values: Sequence[float | None], num_clicks: int) -> float | None:
    """Value of a session after `num_clicks` clicks; the last one if it stopped earlier, None if it has no values."""
    return values[min(num_clicks, len(values)) - 1] if len(values) else None


def padded(ious: Sequence[float], max_clicks: int) -> list[float]:
    """IoUs of a session as if it had gone on without a change."""
    return [*ious, *[ious[-1]] * (max_clicks - len(ious))][:max_clicks]


def mean_of_known(values: Iterable[float | None]) -> float | None:
    """Mean over the sessions that have a value; None if no session has one."""
    known = [value for value in values if value is not None and not math.isnan(value)]
    return float(np.mean(known)) if known else None


def seconds_per_click(seconds: float, sessions: Sequence[Sequence[float]]) -> float:
    """SPC: all the time an evaluation took over all its clicks; loading, the robot and the metrics count."""
    return seconds / max(1, sum(len(ious) for ious in sessions))


def _fails(ious: Sequence[float], quality: float, max_clicks: int) -> bool:
    return reaches(ious, quality, max_clicks) is None


def totals(counts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    """Add up what was counted object by object, by name."""
    total: Counter[str] = Counter()
    for each in counts:
        total.update(each)  # which, unlike +, keeps what is 0
    return dict(total)


def _some(sessions: Sequence[Sequence[float]]) -> None:
    if len(sessions) == 0:
        raise InputError("no sessions to average: the evaluation had no objects")
