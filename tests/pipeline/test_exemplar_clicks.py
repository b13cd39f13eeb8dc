import numpy as np
import pytest

from pipeline.clicks.centre import centre_click
from pipeline.clicks.exemplar_clicks import MAX_CLICKS, exemplar_clicks

HW = (300, 400)
NONE = np.zeros(HW, bool)


def box(top: int, bottom: int, left: int, right: int) -> np.ndarray:
    mask = NONE.copy()
    mask[top:bottom, left:right] = True
    return mask


LARGE, OTHER, SMALL = box(40, 240, 40, 240), box(100, 220, 270, 390), box(5, 8, 5, 9)


def drawn(mask: np.ndarray, others: np.ndarray = NONE, seed: int = 0, ignore: np.ndarray = NONE) -> tuple[list, list]:
    rows = exemplar_clicks(mask, others, np.random.default_rng(seed), ignore).rows()
    pixels = [(int(y), int(x), positive) for y, x, positive in rows]
    return [p[:2] for p in pixels if p[2]], [p[:2] for p in pixels if not p[2]]


@pytest.mark.networks
@pytest.mark.parametrize("mask", [LARGE, SMALL, ~SMALL, box(0, 300, 0, 400)], ids=["large", "small", "most", "all"])
def test_clicks_have_their_sign_and_the_first_is_in_the_middle(mask: np.ndarray) -> None:
    for seed in range(40):
        positive, negative = drawn(mask, OTHER, seed)
        middle = centre_click(mask, NONE)
        assert positive[0] == (middle.y, middle.x)
        assert all(mask[pixel] for pixel in positive)
        assert not any(mask[pixel] for pixel in negative)
        assert len(set(positive + negative)) == len(positive + negative) <= MAX_CLICKS
        assert drawn(mask, OTHER, seed) == (positive, negative)


def test_a_few_clicks_keep_their_distances() -> None:
    few = 0
    for seed in range(60):
        positive, negative = drawn(LARGE, OTHER, seed)
        if len(positive) <= 4:
            few += len(positive) > 1
            assert all(box(59, 221, 59, 221)[pixel] for pixel in positive[1:])
            for number, pixel in enumerate(positive):
                assert all(np.hypot(pixel[0] - y, pixel[1] - x) >= 40 for y, x in positive[:number])
        if len(negative) <= 3:
            for number, pixel in enumerate(negative):
                assert all(np.hypot(pixel[0] - y, pixel[1] - x) >= 20 for y, x in negative[:number])
    assert few > 5


@pytest.mark.networks
def test_negative_clicks_are_near_the_object_or_on_the_others() -> None:
    near = box(0, 281, 0, 281)
    on_others = [
        [bool(OTHER[pixel] and not near[pixel]) for pixel in drawn(LARGE, OTHER, seed)[1]] for seed in range(60)
    ]
    assert any(map(any, on_others))
    for seed in range(60):
        assert all(near[pixel] or OTHER[pixel] for pixel in drawn(LARGE, OTHER, seed)[1])
        assert all(near[pixel] for pixel in drawn(LARGE, NONE, seed)[1])


def test_counts_vary_and_ignored_pixels_are_not_clicked() -> None:
    assert len({tuple(map(len, drawn(LARGE, OTHER, seed))) for seed in range(40)}) > 20
    ignore = box(0, 300, 0, 150)
    for seed in range(20):
        assert not any(ignore[pixel] for part in drawn(LARGE, OTHER, seed, ignore) for pixel in part)
    assert drawn(LARGE, OTHER, ignore=~NONE) == ([], [])


GOLDEN = [
    (LARGE, 6, "139,139 150,74 215,64 96,184", "170,361 142,315 192,327 25,3 261,39"),
    (LARGE, 9, "139,139 203,220 72,157 166,189", "272,111 6,260 194,369 35,1 180,0"),
    (SMALL, 6, "6,6 6,8 7,7 5,7", "170,361 142,315 192,327 27,0 16,45"),
    (~SMALL, 9, "149,149 248,311 45,349 177,358", "6,7 6,6 7,8 5,5 5,8"),
]


@pytest.mark.parametrize(("mask", "seed", "positive", "negative"), GOLDEN)
def test_clicks_of_a_seed_equal_stored_ones(mask: np.ndarray, seed: int, positive: str, negative: str) -> None:
    """Evaluations with exemplars draw these clicks: other clicks would give other results."""
    found = [" ".join(f"{y},{x}" for y, x in part) for part in drawn(mask, OTHER, seed)]
    assert found == [positive, negative]
