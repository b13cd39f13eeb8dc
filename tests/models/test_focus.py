"""Close-ups around clicks, and the square zoom beside them."""

import dataclasses
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import Tensor

from models import steps
from models.errors import InputError
from models.geometry import Box, whole
from models.interaction import Click, Clicks
from models.networks.base import Traits
from models.predictor import answer_with, open_state
from models.refinement import (
    FAST_RATIO,
    REFINEMENTS,
    Cascade,
    Flip,
    Focus,
    ProgressiveMerge,
    Refinement,
    SquareZoom,
    State,
    build,
    named,
    to_dict,
)
from models.refinement import why_not as reasons_against
from models.refinement.flip import flip
from models.refinement.focus import focus, view_hw
from models.refinement.focus_range import focus_range
from models.refinement.patches import Masking, cut, whole_pixels
from models.refinement.progressive_focus import next_ratio
from models.refinement.square_zoom import square_box
from models.refinement.state import Step, segment
from models.steps import Segment, Steps
from tests.models.tiny import TINY_NETWORKS, photo
from tests.parity.toy_network import ToyAnswer

ANY_SIZE = Traits(size=None, zoom_size=None)
EAGER = Focus(min_area_ratio=1.0, size=96)
"""Every click whose change is smaller than the mask corrects a detail."""
VARIANTS = {
    "standard": Refinement((EAGER,)),
    "fast": Refinement((dataclasses.replace(EAGER, fixed_ratio=FAST_RATIO, iterative=False),)),
    "newest": Refinement((dataclasses.replace(EAGER, clicks="newest"),)),
    "flip": Refinement((Flip(), EAGER)),
    "cascade": Refinement((Cascade(steps=2, on_first_clicks=None), EAGER)),
    "square zoom": Refinement((SquareZoom(), EAGER), mask_threshold=0.5),
    "square zoom, flip": Refinement((SquareZoom(), Flip(), EAGER)),
    "merge": Refinement((ProgressiveMerge(), EAGER)),
}
EVERY = pytest.mark.parametrize("refinement", VARIANTS.values(), ids=list(VARIANTS))
CLICKS = [(60, 70, True), (75, 40, False), (95.5, 80.25, True)]


class Recording(ToyAnswer):
    """The toy network, which records its requests."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[Segment] = []

    def __call__(self, requests: list[Segment]) -> list[Tensor]:
        self.requests += requests
        return super().__call__(requests)

    @property
    def close_ups(self) -> list[Segment]:
        return [request for request in self.requests if request.focus]


def session(
    step: Step, image: np.ndarray, clicks: Iterable[tuple[float, float, bool]], mask: np.ndarray | None = None
) -> Steps[State]:
    state = open_state(image, mask)
    for y, x, positive in clicks:
        state = yield from step(state.with_click(Click(y=y, x=x, positive=positive)))
    return state


def played(
    refinement: Refinement,
    clicks: Iterable[tuple[float, float, bool]] = tuple(CLICKS),
) -> tuple[State, Recording]:
    answer = Recording()
    state = steps.run(session(build(refinement, ANY_SIZE), photo((130, 150))[0], clicks), answer, max_batch=64)
    return state, answer


def prob_of(state: object) -> Tensor:
    assert isinstance(state, State)
    assert state.mask_prob is not None
    return state.mask_prob


@EVERY
def test_a_session_is_the_same_each_time_and_its_states_are_values(refinement: Refinement) -> None:
    step, image = build(refinement, ANY_SIZE), photo((130, 150))[0]
    states = [open_state(image)]
    for y, x, positive in CLICKS:
        states.append(steps.run(step(states[-1].with_click(Click(y=y, x=x, positive=positive))), ToyAnswer()))
    prob = prob_of(states[-1])
    assert prob.shape == (1, 130, 150)
    assert prob.dtype == torch.float32
    assert ((prob >= 0) & (prob <= 1)).all()
    # Undo returns to an older state, so the same click gives the same result again.
    again = steps.run(step(states[-2].with_click(Click(y=95.5, x=80.25))), ToyAnswer())
    assert torch.equal(prob_of(again), prob)
    assert again.focus_clicks == states[-1].focus_clicks
    assert again.counts == states[-1].counts
    assert states[-1].counts.focus_views > states[1].counts.focus_views == 0


@EVERY
def test_one_session_and_many_give_the_same_states(refinement: Refinement) -> None:
    images = [photo((120 + 7 * i, 150), seed=i)[0] for i in range(3)]
    step = build(refinement, ANY_SIZE)
    alone = [steps.run(session(step, image, CLICKS), ToyAnswer()) for image in images]
    with ThreadPoolExecutor(2) as pool:
        tasks = (session(step, image, CLICKS) for image in images)
        many = dict(steps.run_many(tasks, ToyAnswer(), pool, in_flight=4, max_batch=8))
    for number, state in enumerate(alone):
        other = many[number]
        assert torch.equal(prob_of(other), prob_of(state))
        assert isinstance(other, State)
        assert (other.focus_clicks, other.counts) == (state.focus_clicks, state.counts)


@pytest.mark.networks
@pytest.mark.parametrize("name", list(TINY_NETWORKS))
def test_every_family_takes_close_ups_or_says_why_not(name: str) -> None:
    network = TINY_NETWORKS[name]()
    refinement = Refinement((Flip(), Focus(min_area_ratio=1.0, turns=2)))
    if network.traits.exemplar:
        with pytest.raises(InputError, match="does not show the exemplar"):
            build(refinement, network.traits)
        return
    answer, (image, disk) = answer_with(network), photo((120, 150))
    whole_loop = steps.run(session(build(refinement, network.traits), image, CLICKS[:2]), answer, max_batch=8)
    assert torch.isfinite(prob_of(whole_loop)).all()

    def grown(state: State) -> Steps[State]:
        """Answer with a known mask and a small change at the click, so that it corrects a detail."""
        yield from ()
        prob = disk.astype(np.float32)
        prob[55:64, 70:79] = 1 - prob[55:64, 70:79]
        return dataclasses.replace(state, mask_prob=torch.from_numpy(prob)[None])

    config, masking = Focus(turns=2), Masking(threshold=0.5, binary=network.traits.prev_mask == "binary")
    step = focus(grown, flip(segment), config, masking, hw=view_hw(config, network.traits))
    state = open_state(image, disk).with_click(Click(y=59, x=74))
    after, again = (steps.run(step(state), answer, max_batch=8) for _ in range(2))
    assert after.counts.focus_views >= 1
    assert torch.isfinite(prob_of(after)).all()
    assert torch.equal(prob_of(after), prob_of(again))


def test_close_ups_share_forwards_and_fast_mode_needs_one_per_click() -> None:
    _, standard = played(VARIANTS["standard"])
    _, fast = played(VARIANTS["fast"])
    # Three looks at the whole image, and two clicks with close-ups: at most three turns each, or one forward each.
    assert 3 + 2 < standard.num_forwards <= 3 + 2 * 3
    assert fast.num_forwards == 3 + 2
    assert len(fast.close_ups) == 3 * (1 + 2)


def test_the_fast_mode_sees_the_unrefined_mask_and_fixed_radii() -> None:
    fixed = dataclasses.replace(EAGER, fixed_ratio=FAST_RATIO)
    batched, answer = played(Refinement((dataclasses.replace(fixed, iterative=False),)), CLICKS[:2])
    one_by_one, other = played(Refinement((fixed,)), CLICKS[:2])
    first, second = answer.close_ups[:2], other.close_ups[:2]
    assert torch.equal(first[0].prev_mask, second[0].prev_mask)
    assert torch.equal(first[1].image, second[1].image), "the same radii"
    assert not torch.equal(first[1].prev_mask, second[1].prev_mask), "one saw what the first close-up answered"
    assert batched.counts == one_by_one.counts


def test_the_newest_click_alone_or_all() -> None:
    every, _ = played(VARIANTS["standard"])
    newest, _ = played(VARIANTS["newest"])
    assert every.counts.focus_clicks == len(every.focus_clicks) == 2
    assert [click.number for click in every.focus_clicks] == [1, 2]
    assert newest.counts.focus_views < every.counts.focus_views


def test_nothing_changes_outside_the_close_ups() -> None:
    clicks = CLICKS[:2]
    plain, _ = played(Refinement(), clicks)
    close, answer = played(Refinement((dataclasses.replace(EAGER, turns=1),)), clicks)
    assert len(answer.close_ups) == 1
    radius = int(close.focus_clicks[0].distance * 1.75)
    (y, x) = (int(place) for place in clicks[1][:2])
    same = (prob_of(plain) == prob_of(close))[0]
    rows, columns = slice(max(y - radius, 0), y + radius + 1), slice(max(x - radius, 0), x + radius + 1)
    assert not same[rows, columns].all()
    same[rows, columns] = True
    assert same.all()


@pytest.mark.parametrize("place", [(0, 0), (129, 149), (0, 149), (64, 0), (128.9, 148.9)])
@pytest.mark.parametrize("positive", [True, False])
def test_close_up_at_the_border_is_black_outside_the_image(place: tuple[float, float], positive: bool) -> None:
    state, answer = played(VARIANTS["standard"], [CLICKS[0], (*place, positive)])
    assert torch.isfinite(prob_of(state)).all()
    for request in answer.close_ups:
        assert request.image.shape == (3, 96, 96)
        assert bool((request.image == 0).all(0).any())
        middle = request.clicks.yx - 48
        assert np.abs(middle).max(1).min() <= 8, "the click is in the middle"


def test_a_close_up_may_be_larger_than_the_image() -> None:
    refinement = Refinement((dataclasses.replace(EAGER, margin=50.0, turns=1),))
    state, answer = played(refinement, CLICKS[:2])
    assert len(answer.close_ups) == 1
    assert torch.isfinite(prob_of(state)).all()
    assert len(answer.close_ups[0].clicks) == 2


def test_a_session_that_begins_with_a_mask_focuses_from_its_first_click_on() -> None:
    image, mask = photo((130, 150))
    step, answer = build(Refinement((EAGER,)), ANY_SIZE), Recording()
    state = steps.run(session(step, image, CLICKS[:1], mask), answer)
    assert state.counts.focus_distance > 0
    without = steps.run(session(step, image, CLICKS[:1]), answer)
    assert without.counts.focus_distance == 0


def test_cascade_counts_its_passes() -> None:
    state, _ = played(VARIANTS["cascade"])
    assert state.counts.cascade_passes == 2 * len(CLICKS)


def test_square_zoom_runs_twice_only_at_the_first_click() -> None:
    state, answer = played(Refinement((SquareZoom(),)), CLICKS[:2])
    assert answer.num_forwards == 3
    assert state.zoom_box is not None
    first, second = answer.requests[:2]
    assert (first.prev_mask == 0).all()
    assert (second.prev_mask > 0).any()


def test_square_zoom_keeps_a_box_that_holds_the_object_and_leaves_one_that_does_not() -> None:
    image, mask = np.zeros((200, 300, 3), np.uint8), np.zeros((200, 300), bool)
    mask[20:60, 30:70] = True
    step = build(Refinement((SquareZoom(),)), ANY_SIZE)
    state = open_state(image, mask).with_click(Click(y=40, x=50))
    done, (request,) = steps.advance(step(state), None)
    assert not done
    assert request.image.shape == (3, 100, 100), "half the image's shorter side"
    near = dataclasses.replace(state, zoom_box=Box(5, 104, 10, 109))
    far = dataclasses.replace(state, zoom_box=Box(100, 199, 100, 199))
    for start, kept in ((near, True), (far, False)):
        running = step(start)
        _, (request,) = steps.advance(running, None)
        done, after = steps.advance(running, (torch.zeros(1, *request.image.shape[1:]),))
        assert done
        assert (after.zoom_box == start.zoom_box) == kept


def test_square_boxes_hold_the_mask_and_stay_inside() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        hw = tuple(rng.integers(1, 40, 2).tolist())
        mask = rng.random(hw) < 0.05
        yx = rng.uniform(0, 1, (2, 2)) * (np.array(hw) - 1)
        box = square_box(mask, yx, 0.4)
        if box is None:
            assert not mask.any()
            continue
        rows, columns = box.slices()
        assert mask[rows, columns].sum() == mask.sum()
        assert 0 <= box.top <= yx[:, 0].min()
        assert yx[:, 1].astype(int).max() <= box.right < hw[1]
        assert box.bottom < hw[0]


def test_focus_range_of_masks_without_a_detail() -> None:
    empty, full = np.zeros((20, 30), bool), np.ones((20, 30), bool)
    assert focus_range(empty, empty, (3, 4), 0.2) == (5, False), "no pixel of another label anywhere"
    assert focus_range(full, full, (3, 4), 0.2) == (5, False)
    assert focus_range(empty, full, (3, 4), 0.2) == (25, False), "everything changed: no detail"
    corner = empty.copy()
    corner[0, 0] = True
    assert focus_range(corner, corner, (3, 14), 0.2) == (14, True)
    diagonal = np.eye(20, 30, dtype=bool)
    assert focus_range(empty, diagonal, (3, 3), 0.2) == (5, True), "diagonal neighbours are no neighbours"


def test_next_ratio_ignores_thin_changes() -> None:
    before = np.zeros((384, 384), bool)
    thin, thick = before.copy(), before.copy()
    thin[192, 100:300] = True
    assert next_ratio(before, thin, growth=1.1, erosion=2.0) is None
    thick[187:198, 192:289] = True
    assert next_ratio(before, thick, growth=1.0, erosion=2.0) == pytest.approx(95 / 192)
    assert next_ratio(before, ~before, growth=1.1, erosion=2.0) == pytest.approx(1.1)


def test_patches_and_their_clicks() -> None:
    image = np.arange(12).reshape(3, 4)
    assert cut(image, Box(-1, 1, 2, 4)).tolist() == [[0, 0, 0], [2, 3, 0], [6, 7, 0]]
    clicks = Clicks.of([(10, 10, True), (14.75, 10, False), (15, 10, False), (5, 19.5, True)])
    moved = whole_pixels(clicks, Box(5, 14, 10, 19), (20, 20))
    assert moved == Clicks.of([(11, 1, True), (19, 1, False), (1, 19, True)])
    assert whole_pixels(clicks, whole((30, 30)), (30, 30)).yx[1].tolist() == [15, 10]


@pytest.mark.parametrize("refinement", [*VARIANTS.values(), REFINEMENTS["focuscut"]])
def test_settings_survive_json(refinement: Refinement) -> None:
    assert named(to_dict(refinement)) == refinement


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"focus": {"clicks": "some"}}, "clicks"),
        ({"focus": {"turns": 0}}, "focus.turns is 0: expected a whole number >= 1"),
        ({"focus": {"margin": 0}}, "focus.margin is 0: expected a number > 0"),
        ({"focus": {"size": 3}}, "focus.size is 3: expected a whole number >= 8"),
        ({"focus": {"turn": 3}}, "did you mean 'turns'"),
        ({"square_zoom": {"expansion": -1}}, "square_zoom.expansion is -1: expected a number >= 0"),
        ({"square_zoom": {}, "zoom_in": {}}, "square_zoom and zoom_in exclude each other"),
        ({"square_zoom": {}, "limit_longest_side": 300}, "square_zoom and limit_longest_side exclude each other"),
    ],
)
def test_invalid_settings_are_refused(given: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        named(given)


def test_close_ups_of_unsupported_size_are_refused() -> None:
    fixed, strided = Traits(size=(96, 96), zoom_size=(96, 96)), Traits(size=None, zoom_size=None, multiple=32)
    close = Refinement((Focus(size=100),))
    assert "only views of size" in reasons_against(close, fixed)[0]
    assert "multiples of 32" in reasons_against(close, strided)[0]
    assert reasons_against(Refinement((Focus(),)), fixed) == []
    assert reasons_against(Refinement((Focus(),)), strided) == []
    exemplar = dataclasses.replace(fixed, exemplar=True)
    assert len(reasons_against(REFINEMENTS["focuscut"], exemplar)) == 2
