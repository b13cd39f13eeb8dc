"""Rates that ingresses count together in a Redis, and each alone while there is none."""

import asyncio
import logging
import time
from collections.abc import Callable

import pytest

from serve.http.rates import Buckets
from serve.http.shared_rates import RETRY_S, SharedRates, window_of
from tests.serve.conftest import Server, encoded, picture, refused
from tests.serve.redis_server import RedisServer

ANNA, BEN = ("1.1.1.1", "anna"), ("1.1.1.1", "ben")


def limited(url: str, per_second: float, burst: float, clock: Callable[[], float] = time.monotonic) -> Callable:
    """What one ingress lets through; each has a loop of its own, as processes have."""
    alone = Buckets(per_second, burst, clock)
    take = SharedRates(url, clock).share("clicks", per_second, burst, alone.take)
    return lambda client=ANNA: asyncio.run(take(client))


def test_two_ingresses_count_together(redis_url: str) -> None:
    one, other = limited(redis_url, 0.02, 4), limited(redis_url, 0.02, 4)
    assert [one(), other(), one(), other()] == [0, 0, 0, 0]
    for each in (one, other):
        assert 190 < each() <= 200, "until the oldest of the window is old enough"
    assert [one(BEN), other(("2.2.2.2", "anna"))] == [0, 0], "others are not concerned"


def test_what_is_refused_costs_nothing_and_the_window_moves(redis_url: str) -> None:
    take = limited(redis_url, 2, 4)
    assert [take() for _ in range(4)] == [0, 0, 0, 0]
    waits = [take() for _ in range(5)]
    assert all(0 < wait <= 2 for wait in waits)
    time.sleep(waits[-1] + 0.02)
    assert take() == 0


@pytest.mark.parametrize(
    ("per_second", "burst", "amount", "seconds"),
    [(50, 100, 100, 2), (2, 120, 120, 60), (0.5, 1, 1, 2), (0.3, 0.6, 1, 4), (1.7, 3.4, 3, 2), (1 / 60, 1, 1, 60)],
)
def test_windows_let_through_no_more_than_buckets(per_second: float, burst: float, amount: int, seconds: int) -> None:
    window = window_of("clicks", per_second, burst)
    assert (window.amount, window.get_expiry()) == (amount, seconds)
    assert amount / seconds <= per_second + 1e-9
    assert amount <= max(burst, 1)


def test_a_redis_that_goes_and_comes_back(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0

    def clock() -> float:
        return now

    with caplog.at_level(logging.WARNING, "maskwright.serve"), RedisServer() as redis:
        one, other = (limited(redis.url, 0.01, 2, clock) for _ in range(2))
        assert [one(), other()] == [0, 0]
        assert one() > 0
        redis.kill()
        assert [one(), one()] == [0, 0], "alone, with a bucket that was full"
        assert one() > 0
        assert len(caplog.messages) == 1
        assert "each process alone" in caplog.text
        redis.start()
        assert one() > 0, "it is not asked again at once"
        now += RETRY_S
        assert [one(), one()] == [0, 0], "Redis forgot with its process"
        assert one() > 0
        assert len(caplog.messages) == 2
        assert "shared again" in caplog.messages[-1]
        assert redis.folder.name not in caplog.text


def test_servers_on_one_redis_share_their_rates(make_server: Callable[..., Server], redis_url: str) -> None:
    body = {"content": encoded(picture()), "headers": {"Content-Type": "image/png"}}
    one, other = (make_server(sessions=redis_url, opens_per_minute=2) for _ in range(2))
    assert [each.client.post("/v1/sessions", **body).status_code for each in (one, other)] == [201, 201]
    answer = other.client.post("/v1/sessions", **body)
    refused(answer, 429, "too_many")
    assert 50 < int(answer.headers["retry-after"]) <= 60
    refused(one.client.post("/v1/predict", json={}), 429, "too_many")


def test_messages_of_sockets_count_too(make_server: Callable[..., Server], redis_url: str) -> None:
    one, other = (make_server(sessions=redis_url, clicks_per_second=2) for _ in range(2))
    session = one.open()
    with one.client.websocket_connect(f"ws://localhost/v1/sessions/{session}/live") as socket:
        for number in range(3):
            socket.send_json({"kind": "click", "x": 5, "y": 5, "id": number})
            assert socket.receive_json()["sequence"] == number + 1, "the socket itself was one"
        answer = other.client.post(f"/v1/sessions/{session}/clicks", json={"x": 5, "y": 5})
        refused(answer, 429, "too_many")
        assert int(answer.headers["retry-after"]) in (1, 2)
