"""Rates: buckets on a clock that a test sets, and the answers to clients."""

from collections.abc import Callable

import pytest

from serve.core.options import Options
from serve.core.tokens import Token, digest_of
from serve.http import rates
from serve.http.rates import Buckets
from tests.serve.conftest import Server, encoded, picture, refused


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_bucket_holds_a_burst_and_refills() -> None:
    clock = Clock()
    buckets = Buckets(per_second=10, burst=3, clock=clock)
    assert [buckets.take("a") for _ in range(3)] == [0, 0, 0]
    assert buckets.take("a") == pytest.approx(0.1)
    assert buckets.take("a") == pytest.approx(0.1), "what is refused costs nothing"
    assert buckets.take("b") == 0, "each has its own"
    clock.now += 0.05
    assert buckets.take("a") == pytest.approx(0.05)
    clock.now += 0.05
    assert buckets.take("a") == 0
    clock.now += 1000
    assert [buckets.take("a") == 0 for _ in range(4)] == [True] * 3 + [False]


def test_no_more_than_the_rate_in_the_long_run() -> None:
    clock = Clock()
    buckets = Buckets(per_second=50, burst=100, clock=clock)
    taken = 0
    for _ in range(10_000):
        clock.now += 0.001
        taken += buckets.take("a") == 0
    assert taken == pytest.approx(100 + 10 * 50, abs=2)


def test_a_clock_set_back_blocks_no_client() -> None:
    clock = Clock()
    buckets = Buckets(per_second=1, burst=1, clock=clock)
    assert buckets.take("a") == 0
    clock.now = 0
    assert buckets.take("a") == pytest.approx(1)
    clock.now = 1
    assert buckets.take("a") == 0


def test_the_number_of_remembered_clients_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "MAX_CLIENTS", 10)
    buckets = Buckets(per_second=1, burst=1, clock=Clock())
    for number in range(100):
        assert buckets.take(number) == 0
    assert len(buckets._levels) == 10
    assert buckets.take(99) > 0


@pytest.mark.check(32)
def test_clicks_that_come_too_fast(make_server: Callable[..., Server]) -> None:
    server = make_server(clicks_per_second=2)
    session = server.open()
    for number in range(4):
        server.click(session, number, 5)
    answer = server.client.post(f"/v1/sessions/{session}/clicks", json={"x": 5, "y": 5})
    refused(answer, 429, "too_many")
    assert int(answer.headers["retry-after"]) == 1
    refused(server.client.post(f"/v1/sessions/{session}/undo"), 429, "too_many")
    refused(server.client.get(f"/v1/sessions/{session}/mask"), 429, "too_many")
    assert server.client.get(f"/v1/sessions/{session}").json()["sequence"] == 4
    server.now = 1
    assert server.click(session, 6, 6)["sequence"] == 5


@pytest.mark.check(32)
def test_images_that_come_too_fast(make_server: Callable[..., Server]) -> None:
    server = make_server(opens_per_minute=3)
    for _ in range(3):
        session = server.open()
    options = {"content": encoded(picture()), "headers": {"Content-Type": "image/png"}}
    answer = server.client.post("/v1/sessions", **options)
    refused(answer, 429, "too_many")
    assert answer.headers["retry-after"] == "20"
    refused(server.client.post("/v1/predict", json={}), 429, "too_many")
    assert server.click(session, 5, 5)["sequence"] == 1
    server.now = 20
    server.open()


@pytest.mark.check(32)
def test_each_token_has_its_own_rate(make_server: Callable[..., Server]) -> None:
    tokens = tuple(Token(name=name, role="annotator", sha256=digest_of(name)) for name in ("anna", "ben"))
    server = make_server(tokens=tokens, opens_per_minute=1)
    server.client.headers["Authorization"] = "Bearer anna"
    server.open()
    options = {"content": encoded(picture()), "headers": {"Content-Type": "image/png"}}
    refused(server.client.post("/v1/sessions", **options), 429, "too_many")
    server.client.headers["Authorization"] = "Bearer ben"
    server.open()


@pytest.mark.check(32)
def test_messages_that_come_too_fast(make_server: Callable[..., Server]) -> None:
    server = make_server(clicks_per_second=2)
    with server.client.websocket_connect(f"ws://localhost/v1/sessions/{server.open()}/live") as socket:
        for number in range(5):
            socket.send_json({"kind": "click", "x": 5, "y": 5, "id": number})
        answers = [socket.receive_json() for _ in range(5)]
        assert [answer.get("sequence") for answer in answers[:3]] == [1, 2, 3], "the socket itself was one"
        for number, answer in enumerate(answers[3:], start=3):
            assert (answer["code"], answer["id"], answer["retry_after_s"]) == ("too_many", number, 1)
        server.now = 10
        socket.send_json({"kind": "click", "x": 5, "y": 5})
        assert socket.receive_json()["sequence"] == 4


@pytest.mark.networks
def test_no_limit(make_server: Callable[..., Server]) -> None:
    server = make_server(clicks_per_second=0, opens_per_minute=0)
    for _ in range(200):
        session = server.open()
    for _ in range(150):
        server.change(session, "clear")


def test_the_default_rates_are_the_documented_ones() -> None:
    assert (Options().clicks_per_second, Options().opens_per_minute) == (50, 120)
