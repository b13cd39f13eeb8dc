import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from models.errors import InputError
from pipeline.evaluation.measures import MEASURES
from pipeline.metrics import (
    at_click,
    clicks_to,
    iou,
    iou_at,
    mean_of_known,
    miou_after,
    noc,
    nof,
    nofi,
    num_at_max,
    seconds_per_click,
)

HW = (6, 7)
masks = hnp.arrays(bool, HW)
NOTHING = np.zeros(HW, bool)
curves = st.lists(st.floats(0, 1, width=32), min_size=1, max_size=20)


@given(masks, masks, masks)
def test_iou_against_counting(mask: np.ndarray, object_mask: np.ndarray, ignore: np.ndarray) -> None:
    counted = [(m, o) for m, o, i in zip(mask.flat, object_mask.flat, ignore.flat, strict=True) if not i]
    union = sum(bool(m or o) for m, o in counted)
    ours = iou(mask, object_mask, ignore)
    assert math.isnan(ours) if union == 0 else ours == sum(bool(m and o) for m, o in counted) / union


@given(masks)
def test_iou_of_a_mask_with_itself_and_with_its_complement(mask: np.ndarray) -> None:
    assert iou(mask, ~mask, NOTHING) == 0
    if mask.any():
        assert iou(mask, mask, NOTHING) == 1


def test_iou_of_two_empty_masks_is_nan() -> None:
    assert math.isnan(iou(NOTHING, NOTHING, NOTHING))
    assert math.isnan(iou(~NOTHING, ~NOTHING, ~NOTHING))


@pytest.mark.parametrize(
    ("ious", "quality", "expected"),
    [([0.5, 0.9, 0.8, 0.95], 0.9, 2), ([0.95], 0.9, 1), ([0.5, 0.6], 0.9, 20), ([0.1] * 19 + [0.9], 0.9, 20)],
)
def test_clicks_to_a_quality(ious: list[float], quality: float, expected: int) -> None:
    assert clicks_to(ious, quality, 20) == expected


def test_qualities_are_compared_in_float32() -> None:
    """0.8500000000000001 is what np.arange makes of 0.85: in float32 they are the same."""
    assert clicks_to([float(np.float32(0.85))], 0.8500000000000001, 20) == 1
    assert nof([[float(np.float32(0.85))]], 0.8500000000000001) == 0


@given(st.lists(curves, min_size=1, max_size=5), st.floats(0.125, 1, width=32))
def test_averages_and_counts_agree(sessions: list[list[float]], quality: float) -> None:
    counts = [clicks_to(ious, quality, 20) for ious in sessions]
    assert noc(sessions, quality) == pytest.approx(np.mean(counts))
    assert 1 <= noc(sessions, quality) <= 20
    assert nof(sessions, quality) <= num_at_max(sessions, quality) == counts.count(20)
    assert num_at_max(sessions, quality) - nof(sessions, quality) == sum(
        len(ious) == 20 and ious[-1] >= quality > max(ious[:-1]) for ious in sessions
    )


@given(st.lists(curves, min_size=1, max_size=5), st.floats(0.125, 0.875, width=32))
def test_more_quality_takes_more_clicks(sessions: list[list[float]], quality: float) -> None:
    assert noc(sessions, quality) <= noc(sessions, quality + 0.05)
    assert nof(sessions, quality) <= nof(sessions, quality + 0.05)


def test_a_session_solved_at_the_last_click_is_at_the_maximum_but_no_failure() -> None:
    sessions = [[0.1] * 19 + [0.9], [0.1] * 20, [0.9]]
    assert num_at_max(sessions, 0.85) == 2
    assert nof(sessions, 0.85) == 1
    assert noc(sessions, 0.85) == pytest.approx((20 + 20 + 1) / 3)


def test_a_shorter_maximum_cuts_sessions() -> None:
    sessions = [[0.1, 0.2, 0.9]]
    assert clicks_to(sessions[0], 0.85, 3) == 3
    assert noc(sessions, 0.85, max_clicks=2) == 2
    assert nof(sessions, 0.85, max_clicks=2) == 1


def test_iou_after_k_clicks_keeps_the_last_one_of_a_session_that_stopped() -> None:
    sessions = [[0.2, 0.4, 0.95], [0.91]]
    assert iou_at(sessions, 1) == pytest.approx((0.2 + 0.91) / 2)
    assert iou_at(sessions, 3) == iou_at(sessions, 20) == pytest.approx((0.95 + 0.91) / 2)


@pytest.mark.parametrize("measure", [lambda s: noc(s, 0.9), lambda s: iou_at(s, 1)])
def test_no_sessions_is_an_error_and_not_nan(measure) -> None:
    with pytest.raises(InputError, match="no objects"):
        measure([])


def test_a_hundred_clicks_are_counted_like_twenty() -> None:
    sessions = [[0.1] * 49 + [0.91] * 51, [0.1] * 99 + [0.91], [0.1] * 100]
    assert noc(sessions, 0.9, max_clicks=100) == pytest.approx((50 + 100 + 100) / 3)
    assert (nof(sessions, 0.9, max_clicks=100), num_at_max(sessions, 0.9, max_clicks=100)) == (1, 2)
    assert (nof(sessions, 0.9), noc(sessions, 0.9)) == (3, 20)
    titles = [MEASURES[name].title(*of) for name, *of in (("noc", 0.9), ("noc", 0.9, 100), ("nof", 0.85, 100))]
    assert titles == ["NoC@90", "NoC100@90", "NoF100@85"]


def test_an_item_fails_if_one_of_its_objects_does_and_counts_once() -> None:
    sessions = [[0.1] * 20, [0.2] * 20, [0.95], [0.95], [0.1] * 19 + [0.9]]
    assert nofi(["a", "a", "a", "b", "c"], sessions, 0.9) == 1
    assert nofi(list("abcde"), sessions, 0.9) == nof(sessions, 0.9) == 2
    assert nofi(list("abcde"), sessions, 0.9, max_clicks=19) == 3
    with pytest.raises(ValueError, match="zip"):
        nofi(["a"], sessions, 0.9)


def test_further_clicks_are_counted_from_what_was_given() -> None:
    sessions = [[0.2, 0.4, 0.6, 0.8], [0.3, 0.9]]
    assert miou_after(sessions, 1) == iou_at(sessions, 1)
    assert miou_after(sessions, 2, num_given=1) == iou_at(sessions, 3) == pytest.approx((0.6 + 0.9) / 2)


def test_values_known_after_some_clicks() -> None:
    sessions: list[list[float | None]] = [[0.5, None, 0.7], [0.9], [None, None], [], [math.nan]]
    means = {k: mean_of_known(at_click(values, k) for values in sessions) for k in (1, 2, 3, 20)}
    assert means == pytest.approx({1: (0.5 + 0.9) / 2, 2: 0.9, 3: (0.7 + 0.9) / 2, 20: (0.7 + 0.9) / 2})
    assert mean_of_known(at_click(values, 1) for values in ([None], [])) is None


def test_seconds_per_click_are_shared_among_all_clicks() -> None:
    assert seconds_per_click(6.0, [[0.5, 0.9], [0.9]]) == 2.0
    assert seconds_per_click(6.0, []) == 6.0
