from dataclasses import dataclass

import numpy as np
import pytest

from models.errors import InputError
from pipeline.clicks.random_clicks import RandomClicksConfig, TrainingClicks, border_ring, draw_count, random_clicks
from pipeline.data.objects import other_objects, select_object
from pipeline.data.sample import Sample, pack_objects

NUM_DRAWS = 4000
DEFAULT = RandomClicksConfig()
PLAIN = RandomClicksConfig(max_clicks=12, prob_gamma=0.7, merge_objects_prob=0)


def rectangle(hw: tuple[int, int], top: int, left: int, height: int, width: int) -> np.ndarray:
    mask = np.zeros(hw, bool)
    mask[top : top + height, left : left + width] = True
    return mask


def three_rectangles() -> Sample:
    """Three objects apart from each other."""
    hw = (120, 160)
    boxes = (10, 10, 50, 50), (70, 20, 40, 30), (20, 90, 80, 50)
    masks = [(str(i), "", rectangle(hw, *box)) for i, box in enumerate(boxes)]
    return pack_objects("s", np.zeros((*hw, 3), np.uint8), masks)


@dataclass
class Statistics:
    positive: np.ndarray
    negative: np.ndarray


def count(config: RandomClicksConfig, seed: int) -> Statistics:
    """Histograms of click counts; positive clicks lie on the target, negative ones beside it."""
    sample, rng, most = three_rectangles(), np.random.default_rng(seed), config.max_clicks
    found = Statistics(np.zeros(most + 1, int), np.zeros(most + 1, int))
    for _ in range(NUM_DRAWS):
        chosen = select_object(sample, rng, config.merge_objects_prob, config.max_merged)
        others = other_objects(sample, chosen.target)
        clicks = random_clicks(chosen.masks, others, rng, config)
        y, x = clicks.yx[:most][clicks.valid[:most]].astype(int).T
        assert chosen.target[y, x].all()
        y, x = clicks.yx[most:][clicks.valid[most:]].astype(int).T
        assert not chosen.target[y, x].any()
        found.positive[clicks.valid[:most].sum()] += 1
        found.negative[clicks.valid[most:].sum()] += 1
    return found


@pytest.fixture(scope="module", params=["coco", "plain"])
def drawn(request: pytest.FixtureRequest) -> tuple[RandomClicksConfig, Statistics]:
    config = {"coco": DEFAULT, "plain": PLAIN}[request.param]
    return config, count(config, 0)


def laws(config: RandomClicksConfig) -> tuple[np.ndarray, np.ndarray]:
    """Return the expected shares of the numbers of positive and negative clicks (docs/PAPERS.md, RITM: training)."""
    most = config.max_clicks
    one_or_more = config.prob_gamma ** np.arange(most)
    positive = np.append(0, one_or_more / one_or_more.sum()) * (1 - config.merge_objects_prob)
    negative = config.prob_gamma ** np.arange(most + 1)
    negative /= negative.sum()
    for more, share in enumerate(negative):
        positive[min(2 + more, most)] += config.merge_objects_prob * share
    return positive, negative


def assert_same_law(counts: np.ndarray, shares: np.ndarray) -> None:
    """Chi-square below mean + 4 sigma, cells that expect fewer than 8 pooled."""
    expected = shares * counts.sum()
    assert not counts[expected == 0].any()
    rare = expected < 8
    observed = np.append(counts[~rare], counts[rare].sum())
    expected = np.append(expected[~rare], expected[rare].sum())
    kept = expected > 0
    freedom = kept.sum() - 1
    assert freedom >= 5
    chi_square = ((observed - expected)[kept] ** 2 / expected[kept]).sum()
    assert chi_square < freedom + 4 * np.sqrt(2 * freedom)


def test_counts_follow_the_distribution(drawn: tuple[RandomClicksConfig, Statistics]) -> None:
    config, found = drawn
    positive, negative = laws(config)
    assert_same_law(found.positive, positive)
    assert_same_law(found.negative, negative)


def draw(config: RandomClicksConfig, seed: int, masks: list[np.ndarray], others: np.ndarray) -> TrainingClicks:
    return random_clicks(masks, others, np.random.default_rng(seed), config)


def test_rows_are_packed_and_unused_ones_marked() -> None:
    mask = rectangle((30, 40), 5, 5, 10, 12)
    for seed in range(50):
        clicks = draw(RandomClicksConfig(max_clicks=5), seed, [mask], np.zeros_like(mask))
        assert (clicks.yx.shape, clicks.valid.shape, clicks.order.shape) == ((10, 2), (10,), (10,))
        assert (clicks.yx.dtype, clicks.valid.dtype, clicks.order.dtype) == (np.float32, np.bool_, np.int16)
        for half in (clicks.valid[:5], clicks.valid[5:]):
            assert half.tolist() == sorted(half.tolist(), reverse=True)
        assert clicks.valid[0]
        assert (clicks.order[clicks.valid] == 100).all()
        assert (clicks.order[~clicks.valid] == -1).all()
        assert (clicks.yx[~clicks.valid] == -1).all()
        assert (clicks.yx[clicks.valid] >= 0).all()


def test_permuted_order_numbers_both_signs_from_two_on() -> None:
    mask = rectangle((30, 40), 5, 5, 10, 12)
    config = RandomClicksConfig(permute_order=True)
    mixed = 0
    for seed in range(40):
        order = draw(config, seed, [mask], np.zeros_like(mask)).order
        used = order[order >= 0].tolist()
        assert sorted(used) == list(range(2, 2 + len(used)))
        mixed += used != sorted(used)
    assert mixed > 20


def test_erosion_keeps_clicks_inside_but_spares_small_objects() -> None:
    config = RandomClicksConfig(erode_prob=1)
    large, small = rectangle((40, 40), 10, 10, 20, 20), rectangle((40, 40), 10, 10, 9, 9)  # 3 x 3 pixels would remain
    assert rectangle((40, 40), 13, 13, 14, 14).sum() > config.min_eroded_area
    seen_at_border = False
    for seed in range(60):
        clicks = draw(config, seed, [large], np.zeros_like(large))
        y, x = clicks.yx[: config.max_clicks][clicks.valid[: config.max_clicks]].T
        assert ((y >= 13) & (y < 27) & (x >= 13) & (x < 27)).all()
        clicks = draw(config, seed, [small], np.zeros_like(small))
        y, x = clicks.yx[: config.max_clicks][clicks.valid[: config.max_clicks]].T
        seen_at_border |= bool(((y < 13) | (x < 13)).any())
    assert seen_at_border


def test_merged_objects_are_each_clicked() -> None:
    a, b = rectangle((40, 40), 2, 2, 15, 15), rectangle((40, 40), 20, 20, 8, 8)
    for seed in range(40):
        clicks = draw(DEFAULT, seed, [a, b], np.zeros_like(a))
        (ya, xa), (yb, xb) = clicks.yx[:2].astype(int)
        assert a[ya, xa]
        assert b[yb, xb]


def test_an_empty_target_gets_only_negative_clicks_in_the_same_distribution() -> None:
    clicks = [draw(DEFAULT, seed, [], np.zeros((30, 30), bool)) for seed in range(1500)]
    assert not any(c.valid[: DEFAULT.max_clicks].any() for c in clicks)
    counts = np.bincount([c.valid.sum() for c in clicks], minlength=DEFAULT.max_clicks + 1)
    assert_same_law(counts, laws(DEFAULT)[1])


def test_a_target_that_fills_the_image_gets_no_negative_clicks() -> None:
    full = np.ones((20, 20), bool)
    assert not any(draw(DEFAULT, s, [full], ~full).valid[DEFAULT.max_clicks :].any() for s in range(20))


@pytest.mark.parametrize("box", [(20, 30, 10, 12), (0, 0, 9, 9), (55, 60, 5, 20), (0, 0, 60, 80)])
def test_the_ring_is_the_pixels_within_reach(box: tuple[int, int, int, int]) -> None:
    mask = rectangle((60, 80), *box)
    reach = int(np.ceil(0.1 * np.sqrt(mask.sum())))
    top, left, height, width = box
    grown = np.zeros_like(mask)
    grown[max(0, top - reach) : top + height + reach, max(0, left - reach) : left + width + reach] = True
    assert np.array_equal(border_ring(mask, 0.1), grown & ~mask)


def test_counts_stay_in_their_range() -> None:
    rng = np.random.default_rng(0)
    drawn = {draw_count(2, 5, 0.9, rng) for _ in range(500)}
    assert drawn == {2, 3, 4, 5}
    assert {draw_count(1, 1, 0.5, rng) for _ in range(9)} == {1}


def test_merging_takes_up_to_the_given_number() -> None:
    sample, rng = three_rectangles(), np.random.default_rng(0)
    sizes = {len(select_object(sample, rng, 1, 3).masks) for _ in range(60)}
    assert sizes == {2, 3}
    chosen = select_object(sample, rng, 1, 2)
    assert np.array_equal(chosen.target, chosen.masks[0] | chosen.masks[1])
    assert {len(select_object(sample, rng, 0, 2).masks) for _ in range(20)} == {1}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"max_clicks": 0}, "max_clicks is 0"),
        ({"prob_gamma": 0.0}, "prob_gamma is 0.0"),
        ({"erode_prob": -0.1}, "erode_prob is -0.1"),
        ({"border_weight": -1.0}, "border_weight"),
        ({"expand_ratio": -1.0}, "expand_ratio is -1.0"),
    ],
)
def test_wrong_settings_say_what_is_wrong(values: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        RandomClicksConfig(**values)  # pyright: ignore[reportArgumentType]
