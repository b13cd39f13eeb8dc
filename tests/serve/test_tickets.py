"""Click-independent features stay with the heavy half, and sessions hold tickets for them."""

from typing import Any

import pytest
import torch

from models.click_maps import collate_clicks
from models.interaction import Clicks
from models.predictor import Predictor
from models.steps import Encode, Start
from serve.on_ray.halves import Encoded, encoder, halves
from serve.on_ray.tickets import Kept, Ticket, by_ticket, regardless
from tests.serve.conftest import picture
from tests.training.toys import TOYS

CLICKS = [(30, 20, True), (5, 5, False)]


@pytest.fixture(scope="module")
def network() -> Any:
    return TOYS["emc segformer"]().eval()


class Two:
    """A process with sessions and one with the heavy half, simulated in this one; their messages are recorded."""

    def __init__(self, network: Any, max_bytes: int = 1 << 24) -> None:
        own = Predictor(network)
        self.kept = Kept(own.answer, max_bytes)
        self.sent: list[tuple[list[Any], list[Ticket], str | None]] = []
        self.predictor = Predictor(network)
        self.version_there = self.predictor.model_version
        self.predictor.answer = halves(regardless(own.answer), by_ticket(self.send), own=self.predictor.model_version)

    def send(self, requests: list[Any], tickets: list[Ticket], route: str | None, model_version: str) -> Encoded:
        self.sent.append((requests, tickets, route))
        return encoder(lambda asked: self.kept(asked, tickets), self.version_there)(requests, model_version)


def test_tickets_are_sent_in_place_of_features_and_answers_are_the_same(network: Any) -> None:
    two, image = Two(network), picture()
    plain, session = Predictor(network).open(image), two.predictor.open(image)
    session.look_ahead()
    for click in CLICKS:
        assert (session.click(*click) == plain.click(*click)).all()
    (starts, tickets, at), (encodes, none, then) = two.sent
    assert isinstance(starts[0], Start)
    assert isinstance(encodes[0], Encode)
    assert at == then == tickets[0].route
    assert not none
    assert encodes[0].started == tickets[0]
    assert (two.kept.num_found, two.kept.num_missed) == (1, 0)


def test_an_unknown_ticket_loses_no_answer(network: Any) -> None:
    two, image = Two(network), picture()
    plain, session = Predictor(network).open(image), two.predictor.open(image)
    session.look_ahead()
    two.kept = Kept(Predictor(network).answer, 1 << 24)  # another process took over
    assert (session.click(*CLICKS[0]) == plain.click(*CLICKS[0])).all()
    assert (two.kept.num_found, two.kept.num_missed) == (0, 1)


@pytest.mark.parametrize("rolls_at_start", [False, True])
def test_halves_of_two_versions_pass_no_tickets(network: Any, rolls_at_start: bool) -> None:
    two, image = Two(network), picture()
    same = two.version_there
    plain, session = Predictor(network).open(image), two.predictor.open(image)
    two.version_there = "another" if rolls_at_start else same
    session.look_ahead()
    two.version_there = same if rolls_at_start else "another"
    assert (session.click(*CLICKS[0]) == plain.click(*CLICKS[0])).all()
    assert (two.kept.num_found, two.kept.num_missed) == (0, 0), "of one version was asked what the other had begun"
    started = two.sent[-1][0][0].started
    assert started is None if rolls_at_start else isinstance(started, Ticket)


def test_mirror_images_have_separate_tickets(network: Any) -> None:
    two = Two(network)
    session = two.predictor.refined("flip").open(picture())
    session.look_ahead()
    session.click(*CLICKS[0])
    assert len({ticket for _, tickets, _ in two.sent for ticket in tickets}) == 2
    assert two.kept.num_found == 2


def test_kept_features_are_bounded(network: Any) -> None:
    image = torch.zeros(3, 64, 64)
    size = sum(part.nbytes for part in Predictor(network).answer([Start(image)])[0])
    kept = Kept(Predictor(network).answer, 2 * size)
    tickets = [Ticket("route", number) for number in range(3)]
    for ticket in tickets:
        kept([Start(image)], [ticket])
    for ticket in reversed(tickets):
        kept([Encode(image, image[:1], Clicks.of([(3, 3, True)]), ticket)], [])
    assert (kept.num_found, kept.num_missed) == (2, 1)


def test_all_requests_of_a_call_start_over_if_one_ticket_is_unknown(network: Any) -> None:
    image, clicks = torch.rand(3, 64, 64), Clicks.of([(3, 3, True)])
    kept = Kept(Predictor(network).answer, 1 << 24)
    kept([Start(image)], [Ticket("a", 0)])
    answers = kept([Encode(image, image[:1], clicks, Ticket("a", number)) for number in (0, 1)], [])
    with torch.inference_mode():
        whole = network.encode(image[None], image[None, :1], collate_clicks([clicks]))
    for features, _ in answers:
        torch.testing.assert_close(features, whole.features[0], rtol=1e-4, atol=1e-4)
