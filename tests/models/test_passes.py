"""The passes of a click, and sessions that switch to other refinements."""

import numpy as np
import pytest

from models.predictor import Predictor
from models.refinement import Cascade, Focus, named, to_dict
from tests.training.toys import TOYS

IMAGE = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
CLICKS = [(20, 30, True), (40, 10, False), (5, 60, True)]


@pytest.mark.networks
@pytest.mark.parametrize("name", ["standard", "cfr_4", "cfr_1_all_clicks", "a_cfr_4_all_clicks", "cfr_4+focus"])
@pytest.mark.parametrize("toy", ["simpleclick", "emc segformer"])
def test_each_pass_is_a_shorter_cascade_and_the_last_is_the_mask(name: str, toy: str) -> None:
    predictor = Predictor(TOYS[toy](), name)
    session = predictor.open(IMAGE)
    assert session.passes() == []
    session.click(*CLICKS[0])
    found = session.passes()
    np.testing.assert_array_equal(found[-1][1], session.mask)
    assert found[0][0] == "first look"
    steps = 0 if predictor.refinement.part(Cascade) is None else predictor.refinement.part(Cascade).steps
    adaptive = predictor.refinement.part(Cascade) is not None and predictor.refinement.part(Cascade).adaptive
    expected = 1 + steps + (predictor.refinement.part(Focus) is not None)
    assert len(found) <= expected
    assert adaptive or len(found) == expected
    for number in range(min(steps, len(found) - 1)):
        shorter = Predictor(predictor.network, "standard" if number == 0 else f"cfr_{number}").open(IMAGE)
        shorter.click(*CLICKS[0])
        np.testing.assert_array_equal(found[number][1], shorter.mask)
    session.click(*CLICKS[1])
    np.testing.assert_array_equal(session.passes()[-1][1], session.mask)


def test_refined_session_keeps_clicks_only_if_the_threshold_is_last() -> None:
    network = TOYS["simpleclick"]()
    for name, kept in (("cfr_1", True), ("focus", False), ("progressive_merge", False)):
        session = Predictor(network, name).open(IMAGE)
        for click in CLICKS:
            session.click(*click)
        other = session.predictor.refined({"mask_threshold": 0.3, **_settings(name)})
        moved = session.refined(other)
        assert (len(moved.clicks) == len(CLICKS)) == kept
        for click in CLICKS[len(moved.clicks) :]:
            moved.click(*click)
        opened = other.open(IMAGE)
        for click in CLICKS:
            opened.click(*click)
        np.testing.assert_array_equal(moved.mask, opened.mask)


def test_reopened_session_equals_an_opened_one() -> None:
    predictor = Predictor(TOYS["simpleclick"]())
    first = predictor.open(IMAGE)
    first.click(*CLICKS[0])
    start = np.zeros(IMAGE.shape[:2], bool)
    start[10:20, 10:30] = True
    for mask in (None, start):
        again, opened = predictor.reopen(first, mask), predictor.open(IMAGE, mask)
        np.testing.assert_array_equal(again.mask, opened.mask)
        np.testing.assert_array_equal(again.click(*CLICKS[1]), opened.click(*CLICKS[1]))


def _settings(name: str) -> dict[str, object]:

    return {key: value for key, value in to_dict(named(name)).items() if key != "mask_threshold"}
