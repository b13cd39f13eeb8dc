"""Click-independent features: computed separately they give identical answers, and they are computed once per view."""

import copy
import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from models.click_maps import collate_clicks
from models.exemplar import exemplar_of
from models.geometry import Box, whole
from models.inference import prepare
from models.interaction import Click, Clicks
from models.networks.base import Network, SplitNetwork
from models.predictor import SESSION_FRAMES, Predictor, open_state
from models.refinement import Refinement, named, why_not
from models.refinement.frames import Frame, Frames
from models.steps import Answer, Start
from tests.models.tiny import HW, TINY_NETWORKS, click_list, more, photo, views

pytestmark = pytest.mark.networks
STARTING = ["emc segformer", "icmformer", "icmformer swin", "icmformerpp", "sam", "mobile_sam", "sam2", "lite"]
CLICKS = [(60, 70, True), (20, 30, False), (80, 90, True)]


@pytest.fixture(scope="module", params=STARTING)
def network(request: pytest.FixtureRequest) -> Any:
    return TINY_NETWORKS[request.param]()


class Recorded:
    """Answers requests and records them."""

    def __init__(self, answer: Answer) -> None:
        self.answer, self.kinds = answer, []

    def __call__(self, requests: list[Any]) -> list[Any]:
        self.kinds += [type(request).__name__ for request in requests]
        return self.answer(requests)

    def taken(self) -> list[str]:
        kinds, self.kinds = self.kinds, []
        return kinds


def recorded(network: Any, refinement: Refinement) -> tuple[Predictor, Recorded]:
    predictor = Predictor(network, refinement)
    predictor.answer = answer = Recorded(predictor.answer)
    return predictor, answer


def at_once(network: Any, refinement: Refinement) -> Predictor:
    """Return a predictor that ignores that its network can start without clicks."""
    traits = network.traits
    try:
        network.traits = dataclasses.replace(traits, starts=False)
        return Predictor(network, refinement)
    finally:
        network.traits = traits


@pytest.mark.parametrize("name", TINY_NETWORKS)
def test_traits_say_whether_a_network_starts(name: str) -> None:
    network = TINY_NETWORKS[name]()
    assert network.traits.starts == (type(network).start is not Network.start) == (name in STARTING)


@pytest.mark.parametrize("prepared", [False, True])
def test_a_started_network_answers_bit_for_bit_the_same(network: Network, prepared: bool) -> None:
    if prepared:
        network = prepare(copy.deepcopy(network))
    rng = np.random.default_rng(0)
    for batch in (1, 2):
        image, prev_mask = views(batch, HW)
        others = more(network, batch)
        with torch.inference_mode():
            started = network.start(image, **others)
            assert all(len(part) == batch for part in started)
            for num in (1, 4):
                clicks = collate_clicks([click_list(rng, num, HW) for _ in range(batch)])
                if isinstance(network, SplitNetwork):
                    encode: Any = network.encode
                    apart, together = (encode(image, prev_mask, clicks, **k) for k in ({"started": started}, {}))
                    assert torch.equal(apart.features, together.features)
                    assert torch.equal(apart.low_logits, together.low_logits)
                else:
                    apart = network(image, prev_mask, clicks, **others, started=started).mask_logits
                    assert torch.equal(apart, network(image, prev_mask, clicks, **others).mask_logits)


@pytest.mark.parametrize("name", ["standard", "flip", "zoom_in_flip", "focuscut", "every_click_encoded"])
def test_sessions_that_look_ahead_end_with_the_very_same_probabilities(network: Any, name: str) -> None:
    refinement = named(name)
    if reasons := why_not(refinement, network.traits):
        pytest.skip(reasons[0])
    used = prepare(copy.deepcopy(network)) if name in ("standard", "flip") else network
    plain, (ahead, answer) = at_once(used, refinement), recorded(used, refinement)
    image, mask = photo((120, 150))
    for start in (None, mask):
        expected, session = plain.open(image, start), ahead.open(image, start)
        session.look_ahead()
        assert set(answer.taken()) == {"Start"}
        for click in CLICKS[: 2 if start is None else 1]:
            assert np.array_equal(session.click(*click), expected.click(*click))
            asked = answer.taken()
            if name in ("standard", "flip"):
                assert "Start" not in asked


def test_undo_and_the_next_object_reuse_kept_views(network: Any) -> None:
    predictor, answer = recorded(network, Refinement())
    image, mask = photo((120, 150))
    session = predictor.open(image)
    session.look_ahead()
    kept = sum(session.memory.values())
    assert kept > 0
    session.click(*CLICKS[0])
    session.undo()
    session.click(*CLICKS[2])
    other = predictor.reopen(session, mask)
    other.look_ahead()
    other.click(*CLICKS[1])
    assert answer.taken().count("Start") == 1
    assert sum(session.states[0].frames.memory.values()) == kept


def test_another_example_starts_again() -> None:
    """Negative clicks inside the current mask are pseudo negatives, so the network's view of the exemplar changes."""
    predictor, answer = recorded(TINY_NETWORKS["icmformerpp"](), Refinement())
    image, mask = photo((120, 150))
    session = predictor.open(image, exemplar=(mask, Clicks.of([(60, 75, True), (5, 5, False)])))
    session.look_ahead()
    assert answer.taken() == ["Start"]
    session.click(*CLICKS[0])
    assert answer.taken() == ["Segment"]
    first = session.states[-1]
    full = dataclasses.replace(first, mask_prob=torch.ones_like(first.mask_prob))  # pyright: ignore[reportArgumentType]
    predictor.advance(full, Click(y=30, x=30))
    assert answer.taken() == ["Start", "Segment"]
    predictor.reopen(session, exemplar=(~mask, Clicks.of([(5, 5, True)]))).look_ahead()
    assert answer.taken() == ["Start"]


def test_examples_are_compared_by_network_input() -> None:
    image, mask = photo((60, 70))
    predictor = Predictor(TINY_NETWORKS["icmformerpp"]())
    one, same, other = (
        predictor.open(image, exemplar=(mask, Clicks.of([(30, x, True)]))).states[0].example for x in (35, 35, 36)
    )
    assert one is not same
    frame = Frame(example=one)
    assert frame.shows(same)
    assert not frame.shows(other)
    assert not frame.shows(None)
    assert Frame().shows(None)
    assert not Frame().shows(one)


@pytest.mark.parametrize("box", [None, Box(10, 89, 20, 119)])
def test_the_pixels_of_a_view_are_kept_exactly(box: Box | None) -> None:
    rng = np.random.default_rng(0)
    state = open_state(photo((120, 150))[0])
    for hw in ((64, 64), (120, 150), (200, 210)):
        for _ in range(2):
            masked = dataclasses.replace(state, mask_prob=torch.from_numpy(rng.random((1, 120, 150), np.float32)))
            again = masked.view(box or whole(state.hw), hw)
            fresh = dataclasses.replace(masked, frames=Frames()).view(box or whole(state.hw), hw)
            assert torch.equal(again.image, fresh.image)
            assert torch.equal(again.prev_mask, fresh.prev_mask)
            assert again.image.stride() == fresh.image.stride()


def test_session_keeps_few_views_and_only_smaller_ones() -> None:
    state = Predictor(TINY_NETWORKS["ritm"]()).open(photo((120, 150))[0]).states[0]
    state.view(whole(state.hw), state.hw)
    assert sum(state.frames.memory.values()) == 0
    for side in (30, 40, 50, 60):
        state.view(whole(state.hw), (side, side))
    assert sum(state.frames.memory.values()) == 4 * 3 * (50**2 + 60**2)
    assert SESSION_FRAMES == 2


def test_starts_of_one_kind_share_a_forward(network: Any) -> None:
    images, _ = views(2, HW)
    requests = [Start(image, None) for image in images]
    assert requests[0].kind == requests[1].kind
    assert requests[0].kind != Start(images[0], exemplar_of(photo(HW)[1], Clicks.none())).kind
    answers = Predictor(network).answer(requests)  # pyright: ignore[reportArgumentType]
    for image, parts in zip(images, answers, strict=True):
        with torch.inference_mode():
            for part, alone in zip(parts, network.start(image[None]), strict=True):
                torch.testing.assert_close(part, alone[0], rtol=1e-4, atol=1e-4)
