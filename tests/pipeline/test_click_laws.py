"""Properties of all methods that draw first clicks, and the distances of DIOS's and FocusCut's."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from models.errors import InputError
from pipeline.clicks.centre import centre_click
from pipeline.clicks.click_rows import TrainingClicks
from pipeline.clicks.dios_clicks import DiosClicksConfig, dios_clicks
from pipeline.clicks.random_clicks import CLICK_LAWS, FIRST_LAWS, RandomClicksConfig, random_clicks
from pipeline.clicks.spaced import draw_spaced, pixels_around, pixels_inside
from pipeline.clicks.walk_clicks import WalkClicksConfig, walk, walk_clicks

LAWS = pytest.mark.parametrize("law", sorted(CLICK_LAWS))
NEAR = 0.02
"""Distances to a mask are OpenCV's of 5x5 steps."""


def blobs(seed: int, hw: tuple[int, int], amount: float) -> np.ndarray:
    """Return smooth patches that cover about this fraction of the image; with many seeds they touch its edge."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).random(hw), 4, mode="wrap")
    return noise > np.quantile(noise, 1 - amount) if amount else np.zeros(hw, bool)


def split(clicks: TrainingClicks) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    half = len(clicks.valid) // 2
    parts = [clicks.yx[rows][clicks.valid[rows]] for rows in (np.s_[:half], np.s_[half:])]
    return tuple([(int(y), int(x)) for y, x in part] for part in parts)  # pyright: ignore[reportReturnType]


@LAWS
@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    hw=st.tuples(st.integers(2, 90), st.integers(2, 90)),
    amount=st.sampled_from([0.0, 0.02, 0.3, 0.9, 1.0]),
    num_masks=st.integers(0, 2),
    capacity=st.integers(1, 24),
    permute=st.booleans(),
)
def test_clicks_lie_on_their_side_and_fit_the_rows(
    law: str, seed: int, hw: tuple[int, int], amount: float, num_masks: int, capacity: int, permute: bool
) -> None:
    masks = [mask for number in range(num_masks) if (mask := blobs(seed + number, hw, amount)).any()]
    others = blobs(seed + 9, hw, 0.2)
    config = RandomClicksConfig(law=law, max_clicks=capacity, permute_order=permute)
    clicks = random_clicks(masks, others, np.random.default_rng(seed), config)
    assert clicks.yx.shape == (2 * capacity, 2)
    assert clicks.valid.shape == clicks.order.shape == (2 * capacity,)
    assert (clicks.yx.dtype, clicks.valid.dtype, clicks.order.dtype) == (np.float32, np.bool_, np.int16)
    for half in np.split(clicks.valid, 2):
        assert half.tolist() == sorted(half.tolist(), reverse=True)
    assert (clicks.yx[~clicks.valid] == -1).all()
    assert (clicks.order[~clicks.valid] == -1).all()
    used = clicks.order[clicks.valid].tolist()
    # Each click is a first click: one per object, and objects may overlap.
    unordered = [0 if law in FIRST_LAWS else 100] * len(used)
    assert sorted(used) == (list(range(2, 2 + len(used))) if permute and law not in FIRST_LAWS else unordered)
    target = np.logical_or.reduce(masks) if masks else np.zeros(hw, bool)
    positive, negative = split(clicks)
    assert all(0 <= y < hw[0] and 0 <= x < hw[1] for y, x in positive + negative)
    assert all(target[pixel] for pixel in positive)
    assert not any(target[pixel] for pixel in negative)
    assert bool(positive) == bool(target.any())
    again = random_clicks(masks, others, np.random.default_rng(seed), config)
    assert np.array_equal(again.yx, clicks.yx)
    assert np.array_equal(again.order, clicks.order)
    if law not in ("ritm", *FIRST_LAWS):
        assert len(set(positive + negative)) == len(positive + negative)


@LAWS
def test_draws_differ_and_have_both_signs(law: str) -> None:
    mask, others = np.zeros((300, 300), bool), np.zeros((300, 300), bool)
    mask[80:200, 60:190], others[40:260, 220:280] = True, True
    config = RandomClicksConfig(law=law)
    drawn = [split(random_clicks([mask], others, np.random.default_rng(seed), config)) for seed in range(40)]
    assert len({str(clicks) for clicks in drawn}) > 30
    if law in FIRST_LAWS:
        assert {(len(positive), len(negative)) for positive, negative in drawn} == {(1, 0)}
        return
    assert len({len(positive) for positive, _ in drawn}) >= 4
    assert len({len(negative) for _, negative in drawn}) >= 4


def test_an_unknown_law_is_refused_by_name() -> None:
    with pytest.raises(InputError, match=r"unknown click law 'dio'; did you mean 'dios'"):
        RandomClicksConfig(law="dio")


def gaps(pixels: list[int], width: int) -> np.ndarray:
    yx = np.stack(np.divmod(np.array(pixels, int), width), axis=1)
    return np.hypot(*(yx[:, None] - yx[None]).transpose(2, 0, 1))[np.triu_indices(len(pixels), 1)]


def distances_in(mask: np.ndarray) -> np.ndarray:
    return np.asarray(ndimage.distance_transform_edt(np.pad(mask, 1)))[1:-1, 1:-1].ravel()


def distances_out(mask: np.ndarray) -> np.ndarray:
    return np.asarray(ndimage.distance_transform_edt(~mask)).ravel()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([0.01, 0.2, 0.7]), st.sampled_from([0.5, 3.0, 12.0]))
def test_pixels_inside_and_around_are_those_of_the_distance(seed: int, amount: float, margin: float) -> None:
    mask = blobs(seed, (70, 90), amount)
    inside, around = np.zeros(mask.size, bool), np.zeros(mask.size, bool)
    inside[pixels_inside(mask, margin)] = True
    around[pixels_around(mask, margin, 20)] = True
    for found, distances, most in ((inside, distances_in(mask), np.inf), (around, distances_out(mask), 20.0)):
        sure = (distances >= margin * (1 + NEAR)) & (distances <= most * (1 - NEAR))
        maybe = (distances >= margin * (1 - NEAR)) & (distances <= most * (1 + NEAR)) & (distances > 0)
        assert not (sure & ~found).any()
        assert not (found & ~maybe).any()


def test_spaced_draws_are_uniform_and_stop_if_no_pixel_is_far_enough() -> None:
    line = np.arange(30)
    for seed in range(30):
        drawn = draw_spaced(line, 50, 10, 100, np.random.default_rng(seed), taken=[0])
        assert 1 <= len(drawn) <= 3
        assert gaps([0, *drawn], 100).min() >= 10
        assert not (np.abs(line[:, None] - np.array([0, *drawn])) >= 10).all(axis=1).any()
    counts = np.bincount(
        [draw_spaced(line, 1, 26, 100, np.random.default_rng(seed), taken=[0])[0] for seed in range(1200)],
        minlength=30,
    )
    assert not counts[:26].any()
    assert counts[26:].min() > 230
    assert draw_spaced(line[:0], 3, 1, 100, np.random.default_rng(0)) == []


def test_dios_keeps_its_distances_by_strategy() -> None:
    hw, config = (200, 240), DiosClicksConfig()
    target, other = np.zeros(hw, bool), np.zeros(hw, bool)
    target[60:140, 60:130], other[20:180, 180:230] = True, True
    inside, outside, in_other = distances_in(target), distances_out(target), distances_in(other)
    seen: set[str] = set()
    for seed in range(200):
        positive, negative = dios_clicks(target, other, np.random.default_rng(seed), config)
        assert 1 <= len(positive) <= 5
        assert (inside[positive] >= config.margin * (1 - NEAR)).all()
        assert len(positive) == 1 or gaps(positive, hw[1]).min() >= config.spacing
        if len(negative) < 2:
            continue
        apart = gaps(negative, hw[1]).min() >= config.spacing
        if (in_other[negative] > 0).all():
            seen.add("others")
            assert len(negative) <= config.max_on_other
            assert (in_other[negative] >= config.margin * (1 - NEAR)).all()
            assert apart
            continue
        assert (outside[negative] >= config.margin * (1 - NEAR)).all()
        assert (outside[negative] <= config.reach * (1 + NEAR)).all()
        assert len(negative) <= 10
        # The third strategy spreads clicks evenly: no two of ten are near each other.
        even = len(negative) == config.num_covering and gaps(negative, hw[1]).min() > 30
        seen.add("covering" if even else "around")
        assert apart or even
    assert seen == {"others", "covering", "around"}


def test_dios_covers_the_surroundings_where_plain_draws_leave_gaps() -> None:
    target = np.zeros((160, 160), bool)
    target[70:90, 70:90] = True
    config = DiosClicksConfig(max_around=0)
    for seed in range(20):
        _, negative = dios_clicks(target, np.zeros_like(target), np.random.default_rng(seed), config)
        if negative:
            y, x = np.divmod(negative, 160)
            angles = np.sort(np.arctan2(np.array(y) - 79.5, np.array(x) - 79.5))
            assert np.diff(np.append(angles, angles[0] + 2 * np.pi)).max() < np.pi / 2


def test_dios_halves_its_margin_on_thin_objects() -> None:
    thin = np.zeros((50, 60), bool)
    thin[20, 5:50] = True
    for seed in range(20):
        positive, _ = dios_clicks(thin, np.zeros_like(thin), np.random.default_rng(seed), DiosClicksConfig())
        assert positive
        assert thin.ravel()[positive].all()


def test_walks_begin_at_the_centre_and_keep_their_distances() -> None:
    mask, config = blobs(3, (300, 340), 0.25), WalkClicksConfig()
    inside, outside = distances_in(mask), distances_out(mask)
    middle = centre_click(mask, np.zeros_like(mask))
    counts = []
    for seed in range(60):
        positive, negative = walk_clicks(mask, np.random.default_rng(seed), config)
        counts.append((len(positive) - 1, len(negative)))
        assert positive[0] == middle.y * mask.shape[1] + middle.x
        assert (inside[positive[1:]] >= 5 * (1 - NEAR)).all()
        assert (outside[negative] >= 15 * (1 - NEAR)).all()
        assert (outside[negative] <= 80 * (1 + NEAR)).all()
        for pixels, spacing in ((positive, 7), (negative, 10)):
            assert len(pixels) < 2 or gaps(pixels, mask.shape[1]).min() >= spacing
    assert max(map(max, counts)) == 10
    assert min(map(min, counts)) == 0


def test_walks_stay_on_allowed_pixels() -> None:
    mask, allowed = np.zeros((200, 200), bool), np.zeros((200, 200), bool)
    mask[40:160, 40:160], allowed[:, 100:] = True, True
    numbers = [walk(mask, allowed, [], np.random.default_rng(seed), WalkClicksConfig()) for seed in range(30)]
    assert sum(len(pixels) for pair in numbers for pixels in pair) > 100
    assert all(pixel % 200 >= 100 for pair in numbers for pixels in pair for pixel in pixels)


@pytest.mark.parametrize(
    ("config", "values", "message"),
    [
        (WalkClicksConfig(), {"max_negative": -1}, "max_negative is -1"),
        (WalkClicksConfig(), {"positive_margins": ()}, r"positive_margins is \(\)"),
        (WalkClicksConfig(), {"negative_spacings": (0.0,)}, "negative_spacings is"),
        (WalkClicksConfig(), {"reach": 0.0}, "reach is 0.0"),
        (DiosClicksConfig(), {"max_positive": 0}, "max_positive is 0"),
        (DiosClicksConfig(), {"spacing": 0.0}, "spacing is 0.0"),
        (DiosClicksConfig(), {"margin": 50.0}, "margin, which is 50.0"),
    ],
)
def test_wrong_settings_say_what_is_wrong(
    config: WalkClicksConfig | DiosClicksConfig, values: dict[str, float], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        replace(config, **values)
