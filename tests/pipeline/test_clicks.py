"""The robot user of evaluation, and the clicks of the training loop."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from models.click_maps import ClickBatch
from models.errors import InputError
from models.interaction import Clicks
from pipeline.clicks import POLICIES
from pipeline.clicks.oracle import oracle_click, squared_distances
from pipeline.clicks.training_clicks import TRAINING_CLICKS, click_row
from tests.pipeline.published_clicks import add_clicks, admissible


def brute_force_distances(region: np.ndarray) -> np.ndarray:
    """Return the squared distance of each pixel to the nearest one outside the region; beyond the edge is outside."""
    outside = np.argwhere(~np.pad(region, 1)) - 1
    result = np.zeros(region.shape, np.int64)
    for y, x in np.argwhere(region):
        result[y, x] = ((outside - (y, x)) ** 2).sum(1).min()
    return result


masks = hnp.arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9)))


@st.composite
def scenes(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray, Clicks]:
    hw = draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    object_mask, mask = draw(hnp.arrays(bool, hw)), draw(hnp.arrays(bool, hw))
    ignore = draw(hnp.arrays(bool, hw, fill=st.just(False)))
    pixel = st.tuples(st.integers(0, hw[0] - 1), st.integers(0, hw[1] - 1), st.booleans())
    return object_mask, ignore, mask, Clicks.of(draw(st.lists(pixel, max_size=4)))


@settings(deadline=None, max_examples=150)
@given(masks)
def test_squared_distances_are_exact(region: np.ndarray) -> None:
    np.testing.assert_array_equal(squared_distances(region), brute_force_distances(region))


def test_squared_distances_are_exact_far_from_the_border() -> None:
    region = np.ones((301, 401), bool)
    y, x = np.mgrid[:301, :401]
    expected = np.minimum(np.minimum(y + 1, 301 - y), np.minimum(x + 1, 401 - x)) ** 2
    np.testing.assert_array_equal(squared_distances(region), expected)


@settings(deadline=None, max_examples=200)
@given(scenes())
def test_the_robot_user_equals_brute_force(scene: tuple[np.ndarray, np.ndarray, np.ndarray, Clicks]) -> None:
    object_mask, ignore, mask, clicks = scene
    missed = brute_force_distances(object_mask & ~mask & ~ignore)
    false_alarm = brute_force_distances(mask & ~object_mask & ~ignore)
    for y, x in clicks.yx.astype(int):
        missed[y, x] = false_alarm[y, x] = 0
    click = oracle_click(object_mask, ignore, mask, clicks)
    assert click.positive == (missed.max() > false_alarm.max())
    depths = missed if click.positive else false_alarm
    assert (click.y, click.x) == tuple(np.argwhere(depths == depths.max())[0])


def disks(hw: tuple[int, int], *centres: tuple[int, int], radius: int = 4) -> np.ndarray:
    y, x = np.mgrid[: hw[0], : hw[1]]
    return np.logical_or.reduce([(y - cy) ** 2 + (x - cx) ** 2 <= radius**2 for cy, cx in centres])


HW = (20, 40)
NOTHING = np.zeros(HW, bool)


def test_the_first_click_is_the_middle_of_the_object() -> None:
    click = oracle_click(disks(HW, (10, 12)), NOTHING, NOTHING, Clicks.none())
    assert (click.y, click.x, click.positive) == (10, 12, True)


def test_equal_errors_give_a_negative_click() -> None:
    click = oracle_click(disks(HW, (10, 10)), NOTHING, disks(HW, (10, 30)), Clicks.none())
    assert (click.y, click.x, click.positive) == (10, 30, False)


def test_ignored_pixels_are_no_errors() -> None:
    object_mask = disks(HW, (10, 10), (10, 30))
    ignore = disks(HW, (10, 10), radius=6)
    click = oracle_click(object_mask, ignore, NOTHING, Clicks.none())
    assert (click.y, click.x) == (10, 30)


def test_a_pixel_is_not_clicked_twice() -> None:
    object_mask, clicks = disks(HW, (10, 10), radius=2), Clicks.none()
    for _ in range(int(object_mask.sum())):
        click = oracle_click(object_mask, NOTHING, NOTHING, clicks)
        assert click.positive
        assert object_mask[int(click.y), int(click.x)]
        clicks = clicks.add(click)
    assert len(np.unique(clicks.yx, axis=0)) == object_mask.sum()
    click = oracle_click(object_mask, NOTHING, NOTHING, clicks)
    assert (click.y, click.x, click.positive) == (0, 0, False)


def test_without_errors_the_click_is_negative_at_the_corner() -> None:
    mask = disks(HW, (10, 10))
    click = oracle_click(mask, NOTHING, mask, Clicks.none())
    assert (click.y, click.x, click.positive) == (0, 0, False)


@pytest.mark.parametrize("name", [name for name in POLICIES if name != "first_click_centre"])
def test_a_policy_clicks_an_error_with_its_sign_and_leaves_its_inputs_alone(name: str) -> None:
    object_mask, mask = disks(HW, (10, 12)), disks(HW, (8, 14))
    given = [object_mask.copy(), NOTHING.copy(), mask.copy()]
    click = POLICIES[name](given[0], given[1], given[2], Clicks.none(), np.random.default_rng(0))
    y, x = int(click.y), int(click.x)
    assert (object_mask & ~mask if click.positive else mask & ~object_mask)[y, x]
    for before, after in zip((object_mask, NOTHING, mask), given, strict=True):
        assert np.array_equal(before, after)


# Training.


def empty_rows(batch: int, half: int) -> ClickBatch:
    positive = torch.arange(2 * half) < half
    return ClickBatch(
        torch.full((batch, 2 * half, 2), -1.0),
        positive.expand(batch, -1),
        torch.zeros(batch, 2 * half, dtype=torch.bool),
        torch.zeros(batch, 2 * half, dtype=torch.bool),
    )


def as_batch(*maps: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.stack(maps).astype(np.float32))[:, None]


def test_clicks_fall_in_the_deeper_half_of_the_larger_error() -> None:
    target = disks(HW, (10, 12), radius=6).astype(np.float32)
    allowed, positive = admissible(np.zeros(HW, np.float32), target)
    assert positive
    assert allowed[10, 12]
    assert allowed.sum() < target.sum() / 2
    assert not (allowed & (target == 0)).any()
    allowed, positive = admissible(target, np.zeros(HW, np.float32))
    assert not positive
    assert allowed[10, 12]


def test_a_probability_on_the_threshold_is_no_error_of_either_sign() -> None:
    prob = np.full(HW, 0.49, np.float32)
    for target in (np.ones(HW, np.float32), np.zeros(HW, np.float32)):
        allowed, positive = admissible(prob, target)
        assert not allowed.any()
        assert not positive


def test_ignored_pixels_count_as_background() -> None:
    target = np.full(HW, -1, np.float32)
    allowed, positive = admissible(np.ones(HW, np.float32), target)
    assert allowed.any()
    assert not positive


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**31), st.sampled_from([None, 1, 2, 3]))
def test_added_clicks_fall_on_allowed_pixels_and_change_one_row(seed: int, number: int | None) -> None:
    rng = np.random.default_rng(seed)
    targets = [disks(HW, (10, 12)), np.zeros(HW), disks(HW, (9, 25))]
    probs = [rng.random(HW), np.zeros(HW), targets[2].astype(float)]
    before = empty_rows(3, 4)
    after = add_clicks(before, as_batch(*probs), as_batch(*targets), rng, number=number)
    assert not before.valid.any(), "the batch that was given has changed"
    assert after.valid.sum(1).tolist() == [1, 0, 0], "samples without errors keep their clicks"
    allowed, positive = admissible(probs[0].astype(np.float32), targets[0].astype(np.float32))
    row = int(after.valid[0].nonzero())
    assert after.positive[0, row] == positive
    y, x = after.yx[0, row].tolist()
    assert allowed[int(y), int(x)]
    assert (after.yx[~after.valid] == -1).all()


def test_every_allowed_pixel_is_drawn() -> None:
    rng, target = np.random.default_rng(0), disks(HW, (10, 12), radius=2)
    allowed, _ = admissible(np.zeros(HW, np.float32), target.astype(np.float32))
    drawn = np.zeros(HW, bool)
    for _ in range(200):
        after = add_clicks(empty_rows(1, 2), as_batch(NOTHING), as_batch(target), rng)
        drawn[tuple(after.yx[0, 0].int().tolist())] = True
    assert np.array_equal(drawn, allowed)


def row_of(law: str, valid: list[bool], positive: bool, number: int | None = None) -> int | None:
    """Return the row that a click takes, None if it may not take one."""
    row, may = click_row(torch.tensor([valid]), torch.tensor([positive]), TRAINING_CLICKS[law], number)
    return int(row) if bool(may) else None


@pytest.mark.parametrize(
    ("law", "expected"),
    [("cfr", ([0, 1, 2, 2], [3, 4, 5, 5])), ("emc", ([2, 1, 0, None], [5, 4, 3, None]))],
)
def test_rows_fill_up(law: str, expected: tuple[list[int | None], list[int | None]]) -> None:
    valid = [False] * 6
    for positive, rows in zip((True, False), expected, strict=True):
        for row in rows:
            assert row_of(law, valid, positive) == row
            if row is not None:
                valid[row] = True


def test_numbered_rows_count_from_the_end_of_each_half() -> None:
    assert [row_of("ritm", [True] * 48, True, t) for t in (1, 2, 3)] == [23, 22, 21]
    assert [row_of("ritm", [False] * 48, False, t) for t in (1, 2, 3)] == [47, 46, 45]
    with pytest.raises(InputError, match="1 to 24"):
        row_of("ritm", [False] * 48, False, 25)
