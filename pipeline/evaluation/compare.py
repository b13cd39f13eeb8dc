"""Is one evaluation better than another? Paired differences on the same objects, with bootstrap intervals."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from models.errors import InputError
from pipeline import metrics
from pipeline.evaluation.results import ObjectRow

LOW_IS_GOOD = ("NoC", "ASSD")


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Mean of `metric` in A and in B, and the interval (95 %) of the mean paired difference B - A."""

    metric: str
    mean_a: float
    mean_b: float
    low: float
    high: float
    num_objects: int

    @property
    def verdict(self) -> str:
        """Whether the interval excludes zero."""
        return "higher" if self.low > 0 else "lower" if self.high < 0 else "no difference shown"

    @property
    def better(self) -> str:
        """Which is better, "A" or "B"; "" if no difference is shown."""
        if self.low <= 0 <= self.high:
            return ""
        return "A" if (self.low > 0) == self.metric.startswith(LOW_IS_GOOD) else "B"


def paired_bootstrap(
    a: np.ndarray, b: np.ndarray, rng: np.random.Generator, *, repeats: int = 10_000, level: float = 0.95
) -> tuple[float, float]:
    """Percentile interval of the mean of b - a (n,) under resampling of the pairs; raises InputError below 2 pairs."""
    if len(a) != len(b) or len(a) < 2:
        raise InputError(f"a paired bootstrap needs at least 2 pairs: given {len(a)} and {len(b)} values")
    differences = np.asarray(b, float) - np.asarray(a, float)
    means = [differences[rng.integers(len(differences), size=len(differences))].mean() for _ in range(repeats)]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def pairs(rows_a: Sequence[ObjectRow], rows_b: Sequence[ObjectRow]) -> list[tuple[ObjectRow, ObjectRow]]:
    """Pair the rows of the same objects, sorted; raises InputError unless both hold the same objects."""
    a, b = ({(row.dataset, row.object): row for row in rows} for rows in (rows_a, rows_b))
    if a.keys() != b.keys():
        different = sorted(a.keys() ^ b.keys())
        raise InputError(
            f"the evaluations hold different objects ({len(different)} are in only one, such as {different[0]}): "
            "evaluate both with the same data, --protocol.max-objects and --protocol.seed"
        )
    return [(a[key], b[key]) for key in sorted(a)]


def compare(
    rows_a: Sequence[ObjectRow],
    rows_b: Sequence[ObjectRow],
    *,
    at_clicks: Sequence[int] = (1, 5),
    qualities: Sequence[float] = (0.85, 0.9),
    max_clicks: int = 20,
    seed: int = 0,
) -> list[Difference]:
    """Compare two evaluations object by object; raises InputError unless both hold the same objects.

    Borders are compared after the clicks where both measured them, on the objects of which both know them (2 or more).
    """
    paired = pairs(rows_a, rows_b)
    measures: dict[str, Callable[[ObjectRow], float | None]] = {}
    for k in at_clicks:
        measures[f"IoU&{k}"] = lambda row, k=k: _at(row.ious, k)
    for q in qualities:
        measures[f"NoC@{round(q * 100)}"] = lambda row, q=q: float(metrics.clicks_to(row.ious, q, max_clicks))
    borders: dict[str, Callable[[ObjectRow], float | None]] = {}
    borders |= {f"BIoU&{k}": lambda row, k=k: _at(row.bious, k) for k in at_clicks}
    borders |= {f"ASSD&{k}": lambda row, k=k: _at(row.assds, k) for k in at_clicks}
    out = []
    for number, (name, measure) in enumerate((measures | borders).items()):
        values = [(measure(row_a), measure(row_b)) for row_a, row_b in paired]
        known = np.array([both for both in values if None not in both], float).reshape(-1, 2)
        if name in borders and len(known) < 2:
            continue
        a, b = known[:, 0], known[:, 1]
        low, high = paired_bootstrap(a, b, np.random.default_rng([seed, number]))
        out.append(
            Difference(
                metric=name, mean_a=float(a.mean()), mean_b=float(b.mean()), low=low, high=high, num_objects=len(known)
            )
        )
    return out


def _at(values: Sequence[float | None], num_clicks: int) -> float | None:
    return values[min(num_clicks, len(values)) - 1] if values else None


def table(differences: Sequence[Difference]) -> str:
    """Lay the differences out as text."""
    most = max(d.num_objects for d in differences)
    lines = [f"{'metric':<8} {'A':>8} {'B':>8} {'B - A':>9}  95 % interval"]
    for d in differences:
        lines.append(
            f"{d.metric:<8} {d.mean_a:8.3f} {d.mean_b:8.3f} {d.mean_b - d.mean_a:+9.3f}  "
            f"[{d.low:+.3f}, {d.high:+.3f}]  {d.verdict}" + (f" ({d.num_objects} objects)" * (d.num_objects < most))
        )
    return "\n".join([*lines, f"{most} objects, paired bootstrap, 10000 resamples"])
