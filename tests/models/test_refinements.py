"""Properties of all refinements."""

import dataclasses
import functools
import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from models import steps
from models.errors import InputError
from models.interaction import Click, Clicks
from models.networks.base import Network, Traits
from models.predictor import answer_with, open_state
from models.refinement import REFINEMENTS, Cascade, Flip, Refinement, Split, State, ZoomIn, build, named, to_dict
from models.refinement.cascade import num_changed
from models.refinement.flip import mirrored
from models.refinement.state import Step, View
from models.steps import Steps
from pipeline.clicks.oracle import oracle_click
from tests.models.tiny import HW, TINY_NETWORKS, photo, tiny_network
from tests.parity.toy_network import ToyAnswer

ANY_SIZE = Traits(size=None, zoom_size=None)
REFINEMENTS_AND_MORE = {
    **REFINEMENTS,
    "two clicks": Refinement((Flip(),), max_network_clicks=2),
}
EVERY = pytest.mark.parametrize("refinement", REFINEMENTS_AND_MORE.values(), ids=list(REFINEMENTS_AND_MORE))


@pytest.fixture(scope="module")
def network() -> Network:
    return tiny_network()


@functools.cache
def suited(split: bool) -> Network:
    """Return a network that supports a refinement of this kind."""
    return TINY_NETWORKS["emc vit"]() if split else tiny_network()


def session(step: Step, image: np.ndarray, clicks: Iterable[tuple[float, float, bool]]) -> Steps[State]:
    """Answer the clicks one after the other."""
    state = open_state(image)
    for y, x, positive in clicks:
        state = yield from step(state.with_click(Click(y=y, x=x, positive=positive)))
    return state


def play(step: Step, image: np.ndarray, object_mask: np.ndarray, num: int) -> Steps[Clicks]:
    """Let the robot user make `num` clicks."""
    state, ignore = open_state(image), np.zeros(object_mask.shape, bool)
    for _ in range(num):
        mask = state.prev_mask()[0].numpy() > 0.49
        click = oracle_click(object_mask, ignore, mask, state.clicks)
        state = yield from step(state.with_click(click))
    return state.clicks


CLICKS = [(60, 70, True), (20.5, 30.25, False), (80, 90, True)]


@EVERY
def test_a_mask_is_a_probability_per_pixel_and_always_the_same(refinement: Refinement) -> None:
    network = suited(refinement.part(Split) is not None)
    image, _ = photo((120, 150))
    step, answer = build(refinement, network.traits), answer_with(network)
    first, second = (steps.run(session(step, image, CLICKS[:2]), answer) for _ in range(2))
    prob = first.mask_prob
    assert prob is not None
    assert prob.shape == (1, 120, 150)
    assert prob.dtype == torch.float32
    assert ((prob >= 0) & (prob <= 1)).all()
    assert second.mask_prob is not None
    assert torch.equal(prob, second.mask_prob)
    assert first.clicks == Clicks.of(CLICKS[:2])


@EVERY
def test_one_session_and_many_give_bit_equal_masks(refinement: Refinement) -> None:
    network = suited(refinement.part(Split) is not None)
    images = [photo((90 + 7 * i, 110), seed=i)[0] for i in range(2)]
    step, answer = build(refinement, network.traits), answer_with(network)
    alone = [steps.run(session(step, image, CLICKS[:2]), answer) for image in images]
    with ThreadPoolExecutor(2) as pool:
        tasks = (session(step, image, CLICKS[:2]) for image in images)
        many = dict(steps.run_many(tasks, answer, pool, in_flight=4, max_batch=1))
    for number, state in enumerate(alone):
        other = many[number]
        assert isinstance(other, State)
        assert other.mask_prob is not None
        assert state.mask_prob is not None
        assert torch.equal(other.mask_prob, state.mask_prob)


@pytest.mark.parametrize("refinement", [r for r in REFINEMENTS_AND_MORE.values() if r.part(Split) is None])
def test_batches_give_the_same_clicks(refinement: Refinement) -> None:
    scenes = [photo((100 + 4 * (i % 2), 120), seed=i) for i in range(3)]
    step = build(refinement, Traits(size=(96, 96), zoom_size=(96, 96)))
    alone = [steps.run(play(step, image, mask, 3), ToyAnswer()) for image, mask in scenes]
    with ThreadPoolExecutor(2) as pool:
        tasks = (play(step, image, mask, 3) for image, mask in scenes)
        answer = ToyAnswer()
        many = dict(steps.run_many(tasks, answer, pool, in_flight=4, max_batch=4))
    assert [many[i] for i in range(len(scenes))] == alone


def test_batches_of_a_real_network_differ_by_rounding_at_most(network: Network) -> None:
    images = [photo((100, 120), seed=i)[0] for i in range(4)]
    step, answer = build(REFINEMENTS["flip"], network.traits), answer_with(network)
    with ThreadPoolExecutor(1) as pool:
        many = dict(steps.run_many((session(step, i, CLICKS) for i in images), answer, pool, in_flight=8, max_batch=8))
    for number, image in enumerate(images):
        batched, alone = many[number], steps.run(session(step, image, CLICKS), answer)
        assert isinstance(batched, State)
        assert batched.mask_prob is not None
        assert alone.mask_prob is not None
        torch.testing.assert_close(batched.mask_prob, alone.mask_prob, rtol=0, atol=1e-3)


def test_mirroring_twice_is_the_identity() -> None:
    view = View(
        image=torch.rand(3, 8, 11), prev_mask=torch.rand(1, 8, 11), clicks=Clicks.of([(1, 2.25, True), (7, 0, False)])
    )
    once, twice = mirrored(view), mirrored(mirrored(view))
    assert once.clicks.yx[:, 1].tolist() == [7.75, 10]
    assert not torch.equal(once.image, view.image)
    assert torch.equal(twice.image, view.image)
    assert torch.equal(twice.prev_mask, view.prev_mask)
    assert twice.clicks == view.clicks


def test_flip_makes_a_session_symmetric() -> None:
    image, _ = photo((60, 80))
    clicks = [(20, 30, True), (50, 10, False)]
    mirror = [(y, 79 - x, positive) for y, x, positive in clicks]
    step = build(REFINEMENTS["flip"], ANY_SIZE)
    one = steps.run(session(step, image, clicks), ToyAnswer(), max_batch=2).mask_prob
    other = steps.run(session(step, image[:, ::-1], mirror), ToyAnswer(), max_batch=2).mask_prob
    assert one is not None
    assert other is not None
    torch.testing.assert_close(one, other.flip(-1), rtol=0, atol=1e-6)


def forwards(refinement: Refinement, num_clicks: int) -> int:
    answer = ToyAnswer()
    steps.run(session(build(refinement, ANY_SIZE), photo((60, 80))[0], CLICKS[:num_clicks]), answer, max_batch=2)
    return answer.num_forwards


def test_refinements_run_the_expected_number_of_forwards() -> None:
    assert forwards(REFINEMENTS["standard"], 3) == 3
    assert forwards(REFINEMENTS["flip"], 3) == 3, "both halves share a forward"
    assert forwards(REFINEMENTS["cfr_4"], 1) == 5
    assert forwards(REFINEMENTS["cfr_4"], 3) == 7, "only the first click is refined by default"
    assert forwards(REFINEMENTS["cfr_1_all_clicks"], 3) == 6
    assert 2 <= forwards(REFINEMENTS["a_cfr_4"], 1) <= 5
    assert forwards(Refinement((Cascade(steps=4, adaptive=True, pixels=10**6),)), 1) == 2
    assert forwards(Refinement((Cascade(steps=0),)), 2) == 2


def test_only_the_first_clicks_reach_the_network() -> None:
    seen: list[int] = []

    class Recording(ToyAnswer):
        def __call__(self, requests):
            seen.extend(len(request.clicks) for request in requests)
            return super().__call__(requests)

    step = build(Refinement(max_network_clicks=2), ANY_SIZE)
    state = steps.run(session(step, photo((60, 80))[0], CLICKS), Recording())
    assert seen == [1, 2, 2]
    assert len(state.clicks) == 3


def test_zoom_in_views_the_object_and_clears_the_rest() -> None:
    image, _ = photo((300, 400))
    mask = np.zeros((300, 400), bool)
    mask[200:220, 300:330] = True
    zoom = Refinement((ZoomIn(skip_clicks=0, min_crop_size=40, size=96),))
    state = open_state(image, mask).with_click(Click(y=210, x=310))
    after = steps.run(build(zoom, ANY_SIZE)(state), ToyAnswer())
    assert after.zoom_box is not None
    rows, columns = after.zoom_box.slices()
    assert max(after.zoom_box.hw) < 60
    assert after.mask_prob is not None
    outside = after.mask_prob[0].clone()
    outside[rows, columns] = 0
    assert (outside == 0).all()
    assert after.mask_prob[0, 210, 310] > 0


def test_zoom_in_without_skipped_clicks_views_the_first_object_again() -> None:
    """The second look at a click sees the box of the object just found, and the mask from before the click."""
    zoom = ZoomIn(skip_clicks=0, min_crop_size=40, size=96)
    step = build(Refinement((zoom,)), ANY_SIZE)
    state = open_state(photo((300, 400))[0]).with_click(Click(y=210, x=310))
    running = step(state)
    done, (first,) = steps.advance(running, None)
    assert first.image.shape == (3, 300, 400)
    found = torch.full((1, 300, 400), -9.0)
    found[:, 200:220, 300:330] = 9
    done, (second,) = steps.advance(running, (found,))
    assert not done
    assert max(second.image.shape) == 96
    assert (second.prev_mask == 0).all()
    done, answered = steps.advance(running, (torch.full((1, *second.image.shape[1:]), 9.0),))
    assert done
    assert answered.zoom_box is not None
    rows, columns = answered.zoom_box.slices()
    above = answered.mask_prob[0] > 0.5
    assert above[rows, columns].all()
    assert above.sum() == above[rows, columns].sum()
    assert above.sum() < 60 * 60


def test_a_network_of_one_size_zooms_from_the_first_click_on() -> None:
    step = build(REFINEMENTS["zoom_in"], Traits(size=HW, zoom_size=HW))
    state = steps.run(session(step, photo((100, 150))[0], CLICKS[:1]), ToyAnswer())
    assert state.zoom_box == (0, 99, 0, 149)


@pytest.mark.parametrize(("hw", "view_hw"), [((120, 150), (80, 100)), ((60, 90), (60, 90)), ((101, 7), (100, 7))])
def test_limit_longest_side_shrinks_large_images_only(hw: tuple[int, int], view_hw: tuple[int, int]) -> None:
    step = build(Refinement(limit_longest_side=100), ANY_SIZE)(open_state(photo(hw)[0]).with_click(Click(y=5, x=5)))
    done, requests = steps.advance(step, None)
    assert not done
    assert requests[0].image.shape == (3, *view_hw)
    done, state = steps.advance(step, (torch.zeros(1, *view_hw),))
    assert done
    assert state.mask_prob.shape == (1, *hw)


def test_limit_longest_side_is_refused_for_a_network_of_one_size(network: Network) -> None:
    with pytest.raises(InputError, match="limit_longest_side"):
        build(Refinement(limit_longest_side=100), network.traits)


def test_num_changed_counts_pixels_that_cross_the_threshold() -> None:
    before = State(image=torch.zeros(3, 1, 4), mask_prob=torch.tensor([[[0.1, 0.48, 0.5, 0.9]]]))
    after = dataclasses.replace(before, mask_prob=torch.tensor([[[0.2, 0.5, 0.48, 0.6]]]))
    assert num_changed(before, after, 0.49) == 2


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (None, Refinement()),
        ("a_cfr_7", Refinement((Cascade(steps=7, adaptive=True),))),
        ("flip_cfr_2_all_clicks", Refinement((Flip(), Cascade(steps=2, on_first_clicks=None)))),
        ("zoom_in_flip_cfr_3", Refinement((ZoomIn(), Flip(), Cascade(steps=3)))),
        ({"flip": True, "zoom_in": {"size": [448, 448]}}, Refinement((Flip(), ZoomIn(size=(448, 448))))),
        (Refinement((Flip(),)), Refinement((Flip(),))),
        ("zoom_in+a_cfr_2", Refinement((ZoomIn(), Cascade(steps=2, adaptive=True)))),
        ("flip+flip+base_cfr_2", Refinement((Flip(), Split(base_steps=2)))),
    ],
)
def test_names_and_dicts(name, expected: Refinement) -> None:
    assert named(name) == expected


@pytest.mark.parametrize("name", list(REFINEMENTS))
def test_every_refinement_survives_json(name: str, tmp_path: Path) -> None:
    path = tmp_path / "refinement.json"
    path.write_text(json.dumps(to_dict(REFINEMENTS[name])))
    assert named(str(path)) == named(name) == REFINEMENTS[name]


def test_a_file_that_holds_no_object_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "refinement.json"
    for text in ("[1]", '["flip"]', "3", "{"):
        path.write_text(text)
        with pytest.raises(InputError, match="is not a refinement"):
            named(str(path))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("cfr_1+cfr_4", "several of its names set cascade"),
        ("flip+zoom_inn", "did you mean 'zoom_in'"),
        ("zoom_inn", "did you mean 'zoom_in'"),
        ("nowhere.json", "no refinement file"),
        ({"flipp": True}, "did you mean 'flip'"),
        ({1: 2}, "unknown setting of Refinement '1'"),
        ({"cascade": {"stepps": 1}}, "did you mean 'steps'"),
        ({"cascade": 3}, "expected an object"),
        ({"cascade": {"steps": -1}}, "cascade.steps is -1: expected a whole number >= 0"),
        ({"mask_threshold": 1.5}, "mask_threshold is 1.5: expected a number > 0 and < 1"),
        ({"zoom_in": {}, "limit_longest_side": 800}, "exclude each other"),
        ({"zoom_in": {"expansion": 0}}, "zoom_in.expansion is 0: expected a number > 0"),
    ],
)
def test_invalid_settings_are_refused(given, message: str) -> None:
    with pytest.raises(InputError, match=message):
        named(given)
