"""Rates of several ingresses in one Redis: counted together, or separately while it does not answer."""

import asyncio
import logging
import os
import signal
import time
from collections.abc import Iterator

import pytest

from serve.core.options import Options
from serve.core.tokens import Secrets, Token, digest_of
from serve.http.rates import Client, Rates
from serve.http.shared_rates import RETRY_S, SharedRates, window_of
from serve.sessions.store_redis import PREFIX
from tests.serve.conftest import Server, encoded, picture, refused
from tests.serve.redis_server import RedisServer

ANNA, BEN = ("203.0.113.7", "anna"), ("203.0.113.7", "ben")
SECRET = "hush!hush"
IMAGE = {"content": encoded(picture()), "headers": {"Content-Type": "image/png"}}


@pytest.fixture
def mortal() -> Iterator[RedisServer]:
    with RedisServer() as running:
        yield running


@pytest.mark.parametrize(
    ("per_second", "burst", "expected"),
    [
        (50, 100, (100, 2)),
        (2, 120, (120, 60)),
        (0.5, 1, (1, 2)),
        (1 / 120, 0.5, (1, 120)),
        (0.3, 0.6, (1, 4)),
        (1.5, 3, (3, 2)),
    ],
)
def test_a_window_lets_as_many_come_at_once_as_a_bucket(
    per_second: float, burst: float, expected: tuple[int, int]
) -> None:
    window = window_of("clicks", per_second, burst)
    assert (window.amount, window.get_expiry()) == expected
    assert window.amount / window.get_expiry() <= per_second * (1 + 1e-9), "in the long run no more either"


def test_images_are_counted_across_servers(redis_url: str) -> None:
    one, other = (Server(Options(sessions=redis_url, opens_per_minute=3)) for _ in range(2))
    one.open()
    other.open()
    one.open()
    for server in (one, other):
        answer = server.client.post("/v1/sessions", **IMAGE)
        refused(answer, 429, "too_many")
        assert 50 <= int(answer.headers["retry-after"]) <= 60, "until the first is a minute old"
    alone = Server(Options(opens_per_minute=3))
    alone.open()


def test_clicks_by_requests_and_by_sockets_are_counted_together(redis_url: str) -> None:
    one, other = (Server(Options(sessions=redis_url, clicks_per_second=1)) for _ in range(2))
    session = one.open()
    one.click(session, 5, 5)
    with other.client.websocket_connect(f"ws://localhost/v1/sessions/{session}/live") as socket:  # the second
        socket.send_json({"kind": "click", "x": 6, "y": 6, "id": "a"})
        answer = socket.receive_json()
        assert (answer["code"], answer["id"]) == ("too_many", "a")
        time.sleep(answer["retry_after_s"] + 0.1)
        socket.send_json({"kind": "click", "x": 6, "y": 6})
        assert socket.receive_json()["sequence"] == 2


def test_each_token_has_its_own_rate(redis_url: str) -> None:
    tokens = tuple(Token(name=name, role="annotator", sha256=digest_of(name)) for name in ("anna", "ben"))
    one, other = (Server(Options(sessions=redis_url, opens_per_minute=1), Secrets(tokens=tokens)) for _ in range(2))
    for server, name in ((one, "anna"), (other, "ben")):
        server.client.headers["Authorization"] = f"Bearer {name}"
        server.open()
    one.client.headers["Authorization"] = "Bearer ben"
    refused(one.client.post("/v1/sessions", **IMAGE), 429, "too_many")


def test_clients_are_forgotten_in_time(redis_url: str, running_redis: RedisServer) -> None:
    rates = Rates(Options(sessions=redis_url, opens_per_minute=60))
    assert asyncio.run(rates.open(ANNA)) is None
    with running_redis.client() as client:
        keys = list(client.scan_iter(f"{PREFIX}rates*"))
        assert len(keys) == 1
        assert 0 < client.ttl(keys[0]) <= 60


def test_without_redis_each_counts_alone_and_then_together_again(
    mortal: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    now = 0.0

    def alone(client: Client) -> float:
        counted.append(client)
        return 0.0

    counted: list[Client] = []
    shared, neighbour = (SharedRates(mortal.url, lambda: now) for _ in range(2))
    take, other = (each.share("clicks", 0.5, 1, alone) for each in (shared, neighbour))

    def lines() -> list[str]:
        return [record.getMessage() for record in caplog.records]

    async def scenario() -> None:
        nonlocal now
        assert await take(ANNA) == 0
        assert 0 < await other(ANNA) <= 2
        assert await other(BEN) == 0
        mortal.kill()
        for _ in range(3):
            assert await take(ANNA) == 0
        assert counted == [ANNA] * 3
        assert len(lines()) == 1, "one line, however many come"
        assert "each process counts rates separately: Redis does not answer" in lines()[0]
        now += RETRY_S
        assert await take(BEN) == 0
        assert len(lines()) == 1, "nothing new"
        mortal.start()
        assert await take(BEN) == 0
        assert counted == [ANNA] * 3 + [BEN] * 2, "it is not asked at every click"
        now += RETRY_S
        assert await take(BEN) == 0
        assert len(counted) == 5
        assert lines()[1:] == ["rates are counted together again: Redis answers"]
        assert 0 < await take(BEN) <= 2
        assert 0 < await other(BEN) <= 2, "which had noticed nothing"

    with caplog.at_level(logging.WARNING, "maskwright.serve"):
        asyncio.run(scenario())


def test_the_server_itself_limits_while_redis_is_gone(mortal: RedisServer) -> None:
    rates = Rates(Options(sessions=mortal.url, opens_per_minute=2))
    mortal.kill()

    async def opened() -> list[bool]:
        return [await rates.open(ANNA) is None for _ in range(4)]

    assert asyncio.run(opened()) == [True, True, False, False]


def test_a_hanging_redis_delays_concurrent_requests_only_once(mortal: RedisServer) -> None:
    rates = Rates(Options(sessions=mortal.url))
    process = mortal._process
    assert process is not None

    async def clicks() -> float:
        assert await rates.click(ANNA) is None
        os.kill(process.pid, signal.SIGSTOP)
        started = time.perf_counter()
        found = await asyncio.gather(*(rates.click((f"10.0.0.{number}", "")) for number in range(40)))
        assert found == [None] * 40
        return time.perf_counter() - started

    try:
        assert asyncio.run(clicks()) < 1.5
    finally:
        os.kill(process.pid, signal.SIGCONT)


def test_passwords_are_in_no_line(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("MASKWRIGHT_REDIS_PASSWORD", SECRET)
    with RedisServer(password=SECRET) as locked:
        rates = Rates(Options(sessions=locked.url, opens_per_minute=1))
        assert asyncio.run(rates.open(ANNA)) is None
        assert asyncio.run(rates.open(ANNA)) is not None
        with locked.client() as client:
            client.config_set("requirepass", "another")
            client.client_kill_filter(_type="normal", skipme=False)
        with caplog.at_level(logging.DEBUG):
            assert asyncio.run(rates.open(ANNA)) is None, "alone"
    assert "each process counts rates separately" in caplog.text
    assert SECRET not in caplog.text
