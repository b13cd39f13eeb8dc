"""Sessions of split networks, initial masks, exemplars, progressive merge."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from models import steps
from models.errors import InputError
from models.exemplar import exemplar_of
from models.interaction import Click, Clicks
from models.predictor import Predictor, answer_with, open_state
from models.refinement import Flip, ProgressiveMerge, Refinement, Split, State, ZoomIn, build, named
from models.refinement.progressive_merge import own_change
from models.steps import Correct, Encode, Segment
from tests.models.tiny import TINY_NETWORKS, photo

pytestmark = pytest.mark.networks
SPLITS = [name for name in TINY_NETWORKS if name.startswith("emc")]
CLICKS = [(60, 70, True), (20, 30, False), (80, 90, True)]


@pytest.fixture(scope="module", params=TINY_NETWORKS)
def network(request: pytest.FixtureRequest) -> Any:
    return TINY_NETWORKS[request.param]()


@pytest.fixture(scope="module", params=SPLITS)
def halves(request: pytest.FixtureRequest) -> Any:
    return TINY_NETWORKS[request.param]()


class Recorded:
    """Answers requests and records them."""

    def __init__(self, network: Any) -> None:
        self.answer = answer_with(network)
        self.kinds: list[str] = []

    def __call__(self, requests: list[Any]) -> list[Any]:
        self.kinds += [type(request).__name__ for request in requests]
        return self.answer(requests)


def asked(
    network: Any, refinement: Refinement, hw: tuple[int, int] = (120, 150), mask: np.ndarray | None = None
) -> Any:
    answer, state = Recorded(network), open_state(photo(hw)[0], mask)
    step, kinds = build(refinement, network.traits), []
    for y, x, positive in CLICKS:
        state = steps.run(step(state.with_click(Click(y=y, x=x, positive=positive))), answer)
        kinds.append(answer.kinds)
        answer.kinds = []
    return state, kinds


def heavy(network: Any) -> list[str]:
    """Return the kinds of requests of a first look before the correction."""
    return ["Start", "Encode"] if network.traits.starts else ["Encode"]


def test_the_heavy_half_runs_once(halves: Any) -> None:
    _, kinds = asked(halves, Refinement())
    assert kinds == [[*heavy(halves), "Correct"], ["Correct"], ["Correct"]]


def test_mirror_image_has_a_separate_memory(halves: Any) -> None:
    state, kinds = asked(halves, Refinement((Flip(),)))
    assert [sorted(kind) for kind in kinds] == [
        sorted(2 * [*heavy(halves), "Correct"]),
        *[["Correct", "Correct"]] * 2,
    ]
    straight, mirror = state.memory.content
    assert not torch.equal(straight[0], mirror[0])


def test_cascade_corrects_again_and_does_not_encode(halves: Any) -> None:
    _, kinds = asked(halves, named("cfr_2_all_clicks"))
    assert kinds == [[*heavy(halves), *["Correct"] * 3], ["Correct"] * 3, ["Correct"] * 3]


def test_every_click_may_be_encoded(halves: Any) -> None:
    _, kinds = asked(halves, named("every_click_encoded"))
    assert kinds == [[*heavy(halves), "Correct"], *[["Encode", "Correct"]] * 2]


def test_zoom_in_encodes_where_the_view_changes(halves: Any) -> None:
    zoom = Refinement((ZoomIn(skip_clicks=-1, min_crop_size=32, recompute_iou=1.0),))
    small = np.zeros((300, 400), bool)
    small[100:140, 100:150] = True
    state, kinds = asked(halves, zoom, (300, 400), small)
    assert kinds[0] == [*heavy(halves), "Correct"]
    assert state.memory.box == state.zoom_box
    with pytest.raises(InputError, match="encode 'once'"):
        build(Refinement((*zoom.parts, Split(encode="once"))), halves.traits)


def test_base_cascade_needs_a_previous_mask() -> None:
    vit, hrnet = TINY_NETWORKS["emc vit"](), TINY_NETWORKS["emc hrnet"]()
    once, kinds = asked(vit, Refinement((Split(base_steps=2),)))
    assert kinds[0] == ["Encode"] * 3 + ["Correct"]
    plain, _ = asked(vit, Refinement())
    assert not torch.equal(once.mask_prob, plain.mask_prob)
    with pytest.raises(InputError, match="takes no previous mask"):
        build(Refinement((Split(base_steps=1),)), hrnet.traits)


def test_lost_memory_is_rebuilt_from_the_mask(halves: Any) -> None:
    """Replaying all clicks rebuilds it exactly; the last mask alone rebuilds it approximately, as for a given mask."""
    predictor = Predictor(halves)
    image, _ = photo((120, 150))
    session, replayed = predictor.open(image), predictor.open(image)
    for click in CLICKS[:2]:
        session.click(*click)
        replayed.click(*click)
    assert np.array_equal(session.click(*CLICKS[2]), replayed.click(*CLICKS[2]))
    assert sum(session.memory.values()) > 0
    session.undo()
    assert np.array_equal(session.click(*CLICKS[2]), replayed.mask_prob)


def test_split_is_refused_for_networks_without_halves() -> None:
    ritm = TINY_NETWORKS["ritm"]()
    with pytest.raises(InputError, match="no heavy and light half"):
        build(Refinement((Split(),)), ritm.traits)


def test_every_network_starts_from_a_given_mask(network: Any) -> None:
    """The mask changes the first answer, also of split networks whose heavy half may not see it."""
    predictor = Predictor(network)
    image, object_mask = photo((120, 150))
    with_mask, without = predictor.open(image, object_mask), predictor.open(image)
    assert np.array_equal(with_mask.mask, object_mask)
    first = with_mask.click(60, 75)
    assert first.shape == object_mask.shape
    assert not np.array_equal(first, without.click(60, 75))


def test_a_given_mask_is_where_corrections_start(halves: Any) -> None:
    """The correction gets the mask itself, with its probabilities clamped away from 0 and 1."""
    image, object_mask = photo((384, 384))
    step = build(Refinement(), halves.traits)
    running = step(open_state(image, object_mask).with_click(Click(y=190, x=190)))
    _, (encode,) = steps.advance(running, None)
    if halves.traits.starts:
        _, (encode,) = steps.advance(running, ("started",))
    assert isinstance(encode, Encode)
    h, w = (side // 4 for side in encode.image.shape[1:])
    _, (correct,) = steps.advance(running, ((torch.zeros(3, h, w), torch.zeros(1, h, w)),))
    assert isinstance(correct, Correct)
    prob = torch.sigmoid(correct.low_logits)
    assert prob.min() == pytest.approx(0.01, abs=1e-5)
    assert prob.max() == pytest.approx(0.99, abs=1e-5)
    assert (prob > 0.5).float().mean() == pytest.approx(object_mask.mean(), abs=0.01)


def test_honoured_says_whether_the_mask_follows_the_click() -> None:
    state = State(image=torch.zeros(3, 4, 4), mask_prob=torch.full((1, 4, 4), 0.2))
    assert state.honoured(0.49)
    assert not dataclasses.replace(state, clicks=Clicks.of([(1, 1, True)])).honoured(0.49)
    assert dataclasses.replace(state, clicks=Clicks.of([(1, 1, True), (3.9, 2, False)])).honoured(0.49)


def test_progressive_merge_changes_only_the_clicked_part() -> None:
    before, after = torch.zeros(1, 5, 9), torch.zeros(1, 5, 9)
    before[:, 1:4, 1:4] = 1
    after[:, 1:4, 1:5] = 0.8  # grown to the right
    after[:, 0, 8] = 0.9  # and a part far away
    assert own_change(before, after, np.array([2, 4]), 0.49).sum() == 3
    assert own_change(before, after, np.array([0, 8]), 0.49).sum() == 1
    assert own_change(before, after, np.array([2, 2]), 0.49).sum() == 0, "nothing changed there"


def test_progressive_merge_is_for_given_masks(network: Any) -> None:
    image, object_mask = photo((120, 150))
    predictor = Predictor(network, Refinement((ProgressiveMerge(),)))
    free, plain = predictor.open(image), Predictor(network).open(image)
    assert np.array_equal(free.click(60, 75), plain.click(60, 75))
    session = predictor.open(image, object_mask)
    session.click(5, 5, False)
    changed = session.mask != object_mask
    assert changed[5, 5] or not changed.any()


def test_an_exemplar_shows_what_to_find() -> None:
    network = TINY_NETWORKS["icmformerpp"]()
    predictor = Predictor(network, Refinement((Flip(),)))
    image, object_mask = photo((120, 150))
    made = Clicks.of([(60, 75, True), (5, 5, False)])
    with_one, without = predictor.open(image, exemplar=(object_mask, made)), predictor.open(image)
    first = with_one.click(30, 40)
    assert not np.array_equal(first, without.click(30, 40))
    assert with_one.states[-1].example is with_one.states[0].example
    with pytest.raises(InputError, match="takes no exemplar"):
        Predictor(TINY_NETWORKS["icmformer"]()).open(image, exemplar=(object_mask, made))
    with pytest.raises(InputError, match="size of the image"):
        predictor.open(image[:50], exemplar=(object_mask, made))


def test_negative_clicks_are_true_outside_other_objects() -> None:
    mask, others = np.zeros((40, 50), bool), np.zeros((40, 50), bool)
    mask[5:15, 5:15], others[20:30, 20:30] = True, True
    made = Clicks.of([(8, 8, True), (25, 25, False), (35, 45, False)])
    known = exemplar_of(mask, made, others)
    assert known.true_negative == Clicks.of([(35, 45, False)])
    assert known.pseudo_negative == Clicks.of([(25, 25, False)])
    unknown = exemplar_of(mask, made)
    assert len(unknown.true_negative) == 2
    assert unknown.sorted_by_mask
    found = unknown.sorted_by(torch.from_numpy(others)[None].float())
    assert (found.true_negative, found.pseudo_negative) == (known.true_negative, known.pseudo_negative)
    with pytest.raises(InputError, match="empty"):
        exemplar_of(np.zeros((4, 4), bool), Clicks.none())


def test_requests_of_one_kind_share_a_forward() -> None:
    image, clicks = torch.zeros(3, 8, 8), Clicks.none()
    plain, close = Segment(image, image[:1], clicks), Segment(image, image[:1], clicks, focus=True)
    assert plain.kind == Segment(image, image[:1], clicks).kind
    assert len({plain.kind, close.kind, Encode(image, image[:1], clicks).kind}) == 3
