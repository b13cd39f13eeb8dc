"""Properties of all robot users, and the distributions of the random ones."""

from collections import Counter
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from models.errors import InputError
from models.interaction import Click, Clicks
from pipeline.clicks import POLICIES, Policy, make_policy
from pipeline.clicks.centre import centre_click
from pipeline.clicks.oracle import oracle_click, squared_distances
from pipeline.clicks.realistic import Realistic, realistic_click
from pipeline.clicks.regions import largest_regions

HW = (40, 60)
NOTHING = np.zeros(HW, bool)
every_policy = pytest.mark.parametrize("name", list(POLICIES))


def box(y0: int, x0: int, y1: int, x1: int, hw: tuple[int, int] = HW) -> np.ndarray:
    mask = np.zeros(hw, bool)
    mask[y0:y1, x0:x1] = True
    return mask


def ask(
    name: str,
    object_mask: np.ndarray,
    mask: np.ndarray | None = None,
    *,
    ignore: np.ndarray | None = None,
    clicks: Clicks | None = None,
    seed: int = 0,
) -> Click:
    nothing = np.zeros(object_mask.shape, bool)
    return POLICIES[name](
        object_mask,
        nothing if ignore is None else ignore,
        nothing if mask is None else mask,
        Clicks.none() if clicks is None else clicks,
        np.random.default_rng(seed),
    )


def at(mask: np.ndarray, click: Click) -> bool:
    assert click.y == int(click.y)
    assert click.x == int(click.x)
    assert 0 <= click.y < mask.shape[0]
    assert 0 <= click.x < mask.shape[1]
    return bool(mask[int(click.y), int(click.x)])


@st.composite
def scenes(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray, Clicks]:
    """Masks of any kind; the clicks so far (at least one, so that no policy is at its first click) may repeat."""
    hw = draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    object_mask, mask = draw(hnp.arrays(bool, hw)), draw(hnp.arrays(bool, hw))
    ignore = draw(hnp.arrays(bool, hw, fill=st.just(False)))
    pixel = st.tuples(st.integers(0, hw[0] - 1), st.integers(0, hw[1] - 1), st.booleans())
    return object_mask, ignore, mask, Clicks.of(draw(st.lists(pixel, min_size=1, max_size=5)))


@every_policy
@settings(deadline=None, max_examples=120)
@given(scene=scenes(), seed=st.integers(0, 2**31))
def test_a_click_hits_an_unclicked_error_of_its_sign_that_counts(
    name: str, scene: tuple[np.ndarray, np.ndarray, np.ndarray, Clicks], seed: int
) -> None:
    object_mask, ignore, mask, clicks = scene
    given_masks = [each.copy() for each in (object_mask, ignore, mask)]
    click = ask(name, object_mask, mask, ignore=ignore, clicks=clicks, seed=seed)
    assert click == ask(name, object_mask, mask, ignore=ignore, clicks=clicks, seed=seed)
    for before, after in zip(given_masks, (object_mask, ignore, mask), strict=True):
        assert np.array_equal(before, after)

    left = (object_mask ^ mask) & ~ignore
    left[tuple(clicks.yx.astype(int).T)] = False
    if left.any():
        assert at(left, click)
        assert at(object_mask, click) == click.positive
    else:
        corner = Click(y=0, x=0, positive=False)
        assert click == (corner if name in ("oracle", "first_click_centre") else centre_click(object_mask, ignore))


@every_policy
@settings(deadline=None, max_examples=60)
@given(object_mask=hnp.arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))), seed=st.integers(0, 2**31))
def test_the_first_click_on_an_empty_mask_is_on_the_object(name: str, object_mask: np.ndarray, seed: int) -> None:
    click = ask(name, object_mask, seed=seed)
    assert click.positive == object_mask.any()
    assert at(object_mask, click) == click.positive


@every_policy
def test_ignored_errors_are_never_clicked(name: str) -> None:
    object_mask, ignore = box(5, 5, 25, 45), box(0, 0, 40, 30)
    for seed in range(20):
        assert not at(ignore, ask(name, object_mask, ignore=ignore, seed=seed))


@every_policy
@pytest.mark.parametrize("pixel", [(0, 0), (39, 59), (17, 23)])
def test_one_pixel_is_clicked_wherever_it_is(name: str, pixel: tuple[int, int]) -> None:
    y, x = pixel
    assert ask(name, box(y, x, y + 1, x + 1)) == Click(y=y, x=x, positive=True)
    if name != "first_click_centre":
        assert ask(name, box(10, 40, 20, 50), box(10, 40, 20, 50) ^ box(y, x, y + 1, x + 1)).positive is False


@every_policy
def test_an_object_may_fill_its_image(name: str) -> None:
    for seed in range(10):
        assert ask(name, ~NOTHING, seed=seed).positive
        false_alarm = ask(name, NOTHING, ~NOTHING, seed=seed)
        assert not false_alarm.positive
        at(NOTHING, false_alarm)


@every_policy
def test_repeated_clicks_cover_every_error(name: str) -> None:
    object_mask, clicks = box(3, 4, 6, 9), Clicks.none()
    for number in range(15):
        clicks = clicks.add(ask(name, object_mask, clicks=clicks, seed=number))
    assert len(np.unique(clicks.yx, axis=0)) == object_mask.sum() == 15
    assert clicks.positive.all()


@every_policy
def test_without_error_and_object_the_click_is_the_oracles(name: str) -> None:
    assert ask(name, NOTHING) == Click(y=0, x=0, positive=False)


def test_focuscut_equals_scipys_exact_transform() -> None:
    rng = np.random.default_rng(5)
    for _ in range(20):
        object_mask, mask = (ndimage.gaussian_filter(rng.standard_normal(HW), 4) > 0 for _ in range(2))
        padded = [np.pad(each, 1) for each in (object_mask & ~mask, mask & ~object_mask)]
        missed, false_alarm = (np.asarray(ndimage.distance_transform_edt(each))[1:-1, 1:-1] for each in padded)
        positive = bool(missed.max() > false_alarm.max())
        best = np.unravel_index(int((missed if positive else false_alarm).argmax()), HW)
        click = ask("focuscut", object_mask, mask)
        assert ((click.y, click.x), click.positive) == ((int(best[0]), int(best[1])), positive)


def test_focuscut_repeats_the_centre_when_nothing_is_wrong() -> None:
    object_mask = box(10, 10, 21, 31)
    again = Clicks.none().add(ask("focuscut", object_mask))
    assert ask("focuscut", object_mask, object_mask, clicks=again) == centre_click(object_mask, NOTHING)
    assert centre_click(object_mask, NOTHING) == Click(y=15, x=15, positive=True)


def test_first_click_centre_ignores_the_mask_once() -> None:
    object_mask, mask = box(10, 10, 21, 31), box(10, 10, 21, 25)
    first = ask("first_click_centre", object_mask, mask)
    assert first == centre_click(object_mask, NOTHING) != ask("oracle", object_mask, mask)
    clicks = Clicks.none().add(first)
    second = ask("first_click_centre", object_mask, mask, clicks=clicks)
    assert second == oracle_click(object_mask, NOTHING, mask, clicks)


def many(policy: Policy, object_mask: np.ndarray, num: int = 600) -> list[Click]:
    rng = np.random.default_rng(0)
    return [policy(object_mask, NOTHING, NOTHING, Clicks.none(), rng) for _ in range(num)]


def test_border_mix_is_the_centre_half_the_time_and_else_near_the_border() -> None:
    object_mask = box(8, 10, 33, 50)
    depths = np.sqrt(squared_distances(object_mask))
    counts = Counter((click.y, click.x) for click in many(POLICIES["border_mix"], object_mask))
    centre = centre_click(object_mask, NOTHING)
    assert 0.42 < counts.pop((centre.y, centre.x)) / 600 < 0.58
    assert len(counts) > 100
    assert all(depths[int(y), int(x)] <= depths.max() / 4 for y, x in counts)


def test_dios_clicks_keep_their_distances_if_they_can() -> None:
    hw = (140, 200)
    object_mask, nothing = box(0, 0, 120, 180, hw), np.zeros(hw, bool)
    depths, rng, clicks = np.sqrt(squared_distances(object_mask)), np.random.default_rng(3), Clicks.none()
    for number in range(40):
        click = POLICIES["dios_random"](object_mask, nothing, nothing, clicks, rng)
        apart = np.hypot(*(clicks.yx - (click.y, click.x)).T).min() if number else np.inf
        if number < 3:
            assert depths[int(click.y), int(click.x)] >= 20
            assert apart >= 40
        assert apart > 0
        clicks = clicks.add(click)


def test_dios_clicks_are_uniform_if_no_distance_can_be_kept() -> None:
    clicks = many(POLICIES["dios_random"], box(4, 4, 5, 12), 1600)
    counts = Counter(click.x for click in clicks)
    assert len(counts) == 8
    assert min(counts.values()) > 140
    assert max(counts.values()) < 260


TWO = box(5, 5, 30, 30) | box(15, 40, 30, 55)


def test_the_realistic_user_sometimes_chooses_the_second_region() -> None:
    clicks = many(POLICIES["realistic"], TWO | box(35, 57, 37, 59), 2000)
    assert 0.075 < sum(click.x >= 35 for click in clicks) / 2000 < 0.125
    assert not any(click.y >= 35 for click in clicks), "the third region is never taken"
    never = partial(realistic_click, config=Realistic(second_region=0))
    assert all(click.x < 35 for click in many(never, TWO))
    always = partial(realistic_click, config=Realistic(second_region=1))
    assert all(click.x >= 35 for click in many(always, TWO))


def test_the_realistic_user_prefers_the_middle() -> None:
    object_mask = box(5, 5, 35, 45)
    depths = np.sqrt(squared_distances(object_mask))
    uniform = depths[object_mask].mean()

    def mean_depth(**settings_of: float) -> float:
        clicks = many(partial(realistic_click, config=Realistic(**settings_of)), object_mask, 1500)
        return float(np.mean([depths[int(click.y), int(click.x)] for click in clicks]))

    anywhere, default, keen = mean_depth(power=0, jitter=0), mean_depth(), mean_depth(power=20)
    assert anywhere == pytest.approx(uniform, rel=0.06)
    assert default > 1.25 * uniform
    assert keen > default
    assert len({(click.y, click.x) for click in many(POLICIES["realistic"], object_mask)}) > 200


def test_the_realistic_user_misses_in_proportion_to_the_region() -> None:
    object_mask = box(0, 0, 40, 40)
    centre = Realistic(power=100, second_region=0)  # so large that only the deepest pixels are chosen
    spread = {}
    for jitter in (0.0, 0.05):
        config = Realistic(power=centre.power, jitter=jitter, second_region=0)
        spread[jitter] = np.std([click.y for click in many(partial(realistic_click, config=config), object_mask)])
    assert spread[0.0] < 0.7
    assert 1.7 < np.sqrt(spread[0.05] ** 2 - spread[0.0] ** 2) < 2.3  # 5 % of 40 pixels


def test_settings_reach_the_realistic_user() -> None:
    policy = make_policy("realistic", Realistic(second_region=1))
    assert policy(TWO, NOTHING, NOTHING, Clicks.none(), np.random.default_rng(0)).x >= 35
    assert make_policy("oracle", Realistic()) is POLICIES["oracle"]
    with pytest.raises(InputError, match="unknown policy 'realstic'; did you mean 'realistic'"):
        make_policy("realstic")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"power": -1.0}, r"realistic\.power is -1"),
        ({"jitter": float("nan")}, "jitter is nan"),
        ({"second_region": 1.5}, r"realistic\.second_region is 1\.5"),
    ],
)
def test_invalid_settings_of_the_realistic_user_are_refused(values: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Realistic(**values)


def test_regions_are_sorted_by_size_and_ties_are_fixed() -> None:
    object_mask, mask = box(1, 1, 4, 4) | box(20, 20, 30, 30), box(1, 50, 4, 53) | box(10, 1, 13, 4)
    regions = largest_regions(object_mask, NOTHING, mask, Clicks.none(), 9)
    places = [tuple(np.argwhere(region.pixels)[0].tolist()) for region in regions]
    assert places == [(20, 20), (1, 50), (10, 1), (1, 1)]
    assert [region.positive for region in regions] == [True, False, False, True]


def test_pixels_that_touch_by_a_corner_are_one_region() -> None:
    object_mask = box(3, 3, 5, 5) | box(5, 5, 7, 7)
    (region,) = largest_regions(object_mask, NOTHING, NOTHING, Clicks.none(), 9)
    assert np.array_equal(region.pixels, object_mask)
