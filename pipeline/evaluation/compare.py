"""Compare two evaluations by paired differences on the same objects, with bootstrap intervals."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.errors import InputError
from pipeline.evaluation.measures import Measure, of_objects
from pipeline.evaluation.object_row import ObjectRow
from pipeline.text_table import aligned


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Means of `measure` at `at` in A and in B, and the 95 % interval of the mean paired difference B - A."""

    measure: Measure
    at: float
    mean_a: float
    mean_b: float
    low: float
    high: float
    num_objects: int

    @property
    def metric(self) -> str:
        """The title of the compared measure, such as NoC@90."""
        return self.measure.title(self.at)

    @property
    def verdict(self) -> str:
        """What the interval says of B: "higher", "lower" or "no difference shown"."""
        return "higher" if self.low > 0 else "lower" if self.high < 0 else "no difference shown"

    @property
    def better(self) -> str:
        """The better one, "A" or "B"; "" if no difference is shown."""
        if self.low <= 0 <= self.high or not self.measure.better:
            return ""
        return "B" if self.verdict == self.measure.better else "A"


def paired_bootstrap(
    a: np.ndarray, b: np.ndarray, rng: np.random.Generator, *, repeats: int = 10_000, level: float = 0.95
) -> tuple[float, float]:
    """Return the percentile interval of the mean of b - a, both (n,), under resampling of the pairs.

    Raises InputError for fewer than 2 pairs.
    """
    if len(a) != len(b) or len(a) < 2:
        raise InputError(f"a paired bootstrap needs at least 2 pairs: given {len(a)} and {len(b)} values")
    differences = np.asarray(b, float) - np.asarray(a, float)
    means = [differences[rng.integers(len(differences), size=len(differences))].mean() for _ in range(repeats)]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def pairs(rows_a: Sequence[ObjectRow], rows_b: Sequence[ObjectRow]) -> list[tuple[ObjectRow, ObjectRow]]:
    """Pair the rows by object, sorted; raises InputError unless both evaluations hold the same objects."""
    a, b = ({(row.dataset, row.object): row for row in rows} for rows in (rows_a, rows_b))
    if a.keys() != b.keys():
        different = sorted(a.keys() ^ b.keys())
        raise InputError(
            f"the evaluations hold different objects ({len(different)} are only in one of them, such as "
            f"{different[0]}): evaluate both with the same data, --protocol.max-objects and --protocol.seed"
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

    A measure that some objects lack is compared on the objects that have it in both, if there are at least 2.
    """
    paired = pairs(rows_a, rows_b)
    grids: dict[str, Sequence[float]] = {"at_clicks": at_clicks, "qualities": qualities, "": (0,)}
    columns = [(measure, at) for measure in of_objects() for at in dict.fromkeys(grids.get(measure.grid, ()))]
    out = []
    for number, (measure, at) in enumerate(columns):
        values = [[measure.of(row, at, max_clicks) for row in pair] for pair in paired]
        known = np.array([both for both in values if None not in both], float).reshape(-1, 2)
        if len(known) < 2 <= len(paired):
            continue
        a, b = known[:, 0], known[:, 1]
        low, high = paired_bootstrap(a, b, np.random.default_rng([seed, number]))
        means = {"mean_a": float(a.mean()), "mean_b": float(b.mean())}
        out.append(Difference(measure=measure, at=at, **means, low=low, high=high, num_objects=len(known)))
    return out


def table(differences: Sequence[Difference]) -> str:
    """Format the differences as a plain-text table."""
    most = max(d.num_objects for d in differences)
    lines = [["metric", "A", "B", "B - A", "95 % interval"]]
    for d in differences:
        numbers = [f"{d.mean_a:.3f}", f"{d.mean_b:.3f}", f"{d.mean_b - d.mean_a:+.3f}"]
        objects = f" ({d.num_objects} objects)" if d.num_objects < most else ""
        lines.append([d.metric, *numbers, f"[{d.low:+.3f}, {d.high:+.3f}]  {d.verdict}{objects}"])
    return f"{aligned(lines, '<>>><')}\n{most} objects, paired bootstrap, 10000 resamples"
