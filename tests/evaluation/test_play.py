from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from models import steps
from models.interaction import Click, Clicks
from models.predictor import open_state
from pipeline.boundaries import assd, biou
from pipeline.clicks import POLICIES
from pipeline.evaluation.play import Played, play
from tests.evaluation.fakes import answering, no_network

HW = (24, 30)
IMAGE = np.zeros((*HW, 3), np.uint8)
TRUTH = np.zeros(HW, bool)
TRUTH[4:20, 6:24] = True
NOTHING = np.zeros(HW, bool)


def played(
    masks: Callable[[int], np.ndarray],
    *,
    truth: np.ndarray = TRUTH,
    ignore: np.ndarray = NOTHING,
    start: np.ndarray | None = None,
    max_clicks: int = 5,
    target_iou: float = 0.9,
    costly_at: Sequence[int] | None = None,
    min_gain: float | None = None,
) -> Played:
    game = play(
        open_state(IMAGE, start),
        answering(masks),
        truth,
        ignore,
        POLICIES["oracle"],
        rng=np.random.default_rng(0),
        max_clicks=max_clicks,
        target_iou=target_iou,
        mask_threshold=0.49,
        costly_at=costly_at,
        min_gain=min_gain,
    )
    return steps.run(game, no_network)


def part(columns: int) -> np.ndarray:
    mask = TRUTH.copy()
    mask[:, 6 + columns :] = False
    return mask


def test_a_perfect_predictor_needs_one_click_inside_the_object() -> None:
    result = played(lambda number: TRUTH)
    assert result.ious == (1.0,)
    assert np.array_equal(result.mask, TRUTH)
    ((y, x, positive),) = result.clicks.rows()
    assert positive
    assert TRUTH[int(y), int(x)]


def test_a_hopeless_predictor_gets_all_clicks() -> None:
    result = played(lambda number: NOTHING, max_clicks=4)
    assert result.ious == (0.0,) * 4
    assert len(result.clicks) == 4
    assert len({(y, x) for y, x, _ in result.clicks.rows()}) == 4


def test_clicking_stops_at_the_first_mask_that_is_good_enough() -> None:
    result = played(lambda number: part(6 * number), target_iou=2 / 3)
    assert result.ious == (1 / 3, 2 / 3)
    assert np.array_equal(result.mask, part(12))


def test_a_target_that_is_met_exactly_counts_as_reached() -> None:
    truth = np.zeros(HW, bool)
    truth[0, :10] = True
    mask = truth.copy()
    mask[0, 9] = False
    assert played(lambda number: mask, truth=truth, target_iou=0.9).ious == (0.9,)


def test_ignored_pixels_do_not_count_and_are_not_clicked() -> None:
    ignore = np.zeros(HW, bool)
    ignore[:, 15:] = True
    wrong_there = TRUTH | ignore
    assert played(lambda number: wrong_there, ignore=ignore).ious == (1.0,)
    clicked = played(lambda number: NOTHING, ignore=ignore, truth=TRUTH & ~ignore, max_clicks=3).clicks
    assert not any(ignore[int(y), int(x)] for y, x, _ in clicked.rows())


def test_an_object_that_is_ignored_everywhere_counts_as_failed() -> None:
    result = played(lambda number: NOTHING, ignore=np.ones(HW, bool), max_clicks=2)
    assert result.ious == (0.0, 0.0)


def test_the_first_click_corrects_the_mask_that_is_given() -> None:
    everything = np.ones(HW, bool)
    ((y, x, positive),) = played(lambda number: TRUTH, start=everything).clicks.rows()
    assert not positive
    assert not TRUTH[int(y), int(x)]


def test_given_clicks_are_seen_but_do_not_count() -> None:
    given = Clicks.of([(11, 13, True), (12, 14, True), (0, 0, False)])
    steps_seen: list[int] = []

    def masks(number: int) -> np.ndarray:
        steps_seen.append(number)
        return NOTHING

    game = play(
        replace(open_state(IMAGE), clicks=given),
        answering(masks),
        TRUTH,
        NOTHING,
        POLICIES["oracle"],
        rng=np.random.default_rng(0),
        max_clicks=2,
        target_iou=0.9,
        mask_threshold=0.49,
        costly_at=(1,),
    )
    result = steps.run(game, no_network)
    assert steps_seen == [4, 5]
    assert len(result.clicks) == len(result.ious) == len(result.measured["biou"]) == 2
    assert not set(given.rows()) & set(result.clicks.rows())
    assert played(lambda number: NOTHING).clicks.rows()[0] in given.rows()


def test_a_click_that_gains_too_little_is_the_last() -> None:
    columns = [6, 12, 12, 18, 18]
    assert len(played(lambda number: part(columns[number - 1]), min_gain=0.01, target_iou=1.0).ious) == 3
    assert len(played(lambda number: part(columns[number - 1]), min_gain=0.0, target_iou=1.01).ious) == 5
    assert len(played(lambda number: part(12), start=part(12), min_gain=0.01).ious) == 1


def test_the_robot_sees_the_thresholded_mask_and_its_clicks() -> None:
    seen: list[tuple[np.ndarray, int]] = []
    given, drawn = np.random.default_rng(0), []

    def policy(
        truth: np.ndarray, ignore: np.ndarray, mask: np.ndarray, clicks: Clicks, rng: np.random.Generator
    ) -> Click:
        seen.append((mask, len(clicks)))
        drawn.append(rng)
        return Click(y=1, x=2)

    game = play(
        open_state(IMAGE),
        answering(lambda number: 0.5 * part(number)),
        TRUTH,
        NOTHING,
        policy,
        rng=given,
        max_clicks=3,
        target_iou=1.0,
        mask_threshold=0.49,
    )
    steps.run(game, no_network)
    assert [count for _, count in seen] == [0, 1, 2]
    assert all(rng is given for rng in drawn)
    for number, (mask, _) in enumerate(seen):
        assert np.array_equal(mask, part(number))


def test_borders_are_measured_after_the_named_clicks_and_the_last_one() -> None:
    result = played(lambda number: part(4 * number), costly_at=(2, 9), max_clicks=4, target_iou=1.0)
    assert len(result.ious) == len(result.measured["biou"]) == len(result.measured["assd"]) == 4
    assert [value is not None for value in result.measured["biou"]] == [False, True, False, True]
    for number in (2, 4):
        assert result.measured["biou"][number - 1] == biou(part(4 * number), TRUTH)
        assert result.measured["assd"][number - 1] == assd(part(4 * number), TRUTH)
    stopped = played(lambda number: part(18) if number == 3 else part(2), costly_at=(1, 5), target_iou=0.9)
    assert stopped.measured["biou"] == (biou(part(2), TRUTH), None, 1.0)
    assert stopped.measured["assd"][1:] == (None, 0.0)


def test_borders_are_not_measured_by_default() -> None:
    result = played(lambda number: NOTHING, max_clicks=2)
    assert result.measured["biou"] == result.measured["assd"] == (None, None)


def test_borders_of_two_empty_masks_have_no_value() -> None:
    result = played(lambda number: NOTHING, ignore=np.ones(HW, bool), max_clicks=1, costly_at=(1,))
    assert result.measured["biou"] == result.measured["assd"] == (None,)
