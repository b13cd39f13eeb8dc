import numpy as np
import pytest

from models.errors import InputError
from pipeline.evaluation.compare import Difference, compare, paired_bootstrap, table
from pipeline.evaluation.results import ObjectRow
from tests.evaluation.fakes import row


def rows(quality: np.ndarray, name: str) -> list[ObjectRow]:
    return [row(f"i{n}/0", [0.5 * q, q], name) for n, q in enumerate(quality.tolist())]


def by_metric(differences: list[Difference]) -> dict[str, Difference]:
    return {difference.metric: difference for difference in differences}


def test_an_interval_covers_the_true_mean_about_as_often_as_it_says() -> None:
    covered = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        a = rng.normal(0.5, 1.0, 60)
        low, high = paired_bootstrap(a, a + rng.normal(0.2, 0.5, 60), rng, repeats=400)
        covered += low < 0.2 < high
    assert 51 <= covered <= 60


def test_pairs_matter_not_the_spread_among_objects() -> None:
    rng = np.random.default_rng(0)
    a = rng.uniform(0, 1, 40)
    low, high = paired_bootstrap(a, a + 0.01 + rng.normal(0, 0.01, 40), rng, repeats=500)
    assert 0 < low < 0.01 < high < 0.02


def test_a_planted_gain_is_shown_and_noise_is_not() -> None:
    rng = np.random.default_rng(1)
    quality = rng.uniform(0.5, 0.8, 50)
    same = np.clip(quality + rng.normal(0, 0.05, 50), 0, 1)
    better = quality + 0.1 + rng.normal(0, 0.02, 50)
    quiet = by_metric(compare(rows(quality, "a"), rows(same, "b"), at_clicks=(1, 2), qualities=(), max_clicks=5))
    loud = by_metric(compare(rows(quality, "a"), rows(better, "b"), at_clicks=(1, 2), qualities=(0.75,), max_clicks=5))
    assert quiet["IoU&2"].low < 0 < quiet["IoU&2"].high
    assert quiet["IoU&2"].verdict == "no difference shown"
    assert loud["IoU&2"].verdict == "higher"
    assert loud["IoU&2"].low < 0.1 < loud["IoU&2"].high
    assert loud["NoC@75"].verdict == "lower"
    assert loud["NoC@75"].num_objects == 50
    assert loud["IoU&1"].mean_b - loud["IoU&1"].mean_a == pytest.approx(np.mean(0.5 * (better - quality)), abs=1e-6)


def test_the_order_of_rows_does_not_matter_and_the_seed_repeats_it() -> None:
    quality = np.random.default_rng(2).uniform(0, 1, 20)
    a, b = rows(quality, "a"), rows(quality**2, "b")
    assert compare(a, b) == compare(a[::-1], b[5:] + b[:5])


def test_sessions_that_stopped_keep_their_last_iou() -> None:
    a = [row("i0/0", [0.9]), row("i1/0", [0.2, 0.4, 0.6])]
    b = [row("i0/0", [0.1, 0.95]), row("i1/0", [0.8])]
    found = by_metric(compare(a, b, at_clicks=(3,), qualities=(0.85,), max_clicks=10))
    assert found["IoU&3"].mean_a == pytest.approx((0.9 + 0.6) / 2)
    assert found["IoU&3"].mean_b == pytest.approx((0.95 + 0.8) / 2)
    assert (found["NoC@85"].mean_a, found["NoC@85"].mean_b) == ((1 + 10) / 2, (2 + 10) / 2)


def test_different_objects_are_refused_by_name() -> None:
    a = [row(f"i{n}/0", [0.5]) for n in range(3)]
    with pytest.raises(InputError, match=r"different objects \(2 are in only one, such as .*i2/0.*max-objects"):
        compare(a, [*a[:2], row("i9/0", [0.5])])
    with pytest.raises(InputError, match="at least 2 pairs"):
        compare(a[:1], a[:1])


def test_the_table_has_a_line_a_metric() -> None:
    quality = np.linspace(0.3, 0.9, 12)
    text = table(compare(rows(quality, "a"), rows(quality + 0.05, "b"), qualities=(0.5,)))
    lines = text.splitlines()
    assert [line.split()[0] for line in lines[1:-1]] == ["IoU&1", "IoU&5", "NoC@50"]
    assert "+0.050" in lines[2]
    assert lines[2].endswith("higher")
    assert lines[-1].startswith("12 objects")
