"""Sessions in a real Redis: several servers on one Redis, kills and restarts, and passwords that stay hidden."""

import logging
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import redis
from fastapi.testclient import TestClient

from models.errors import InputError
from models.interaction import Click
from models.refinement import State
from serve.core.options import Options
from serve.core.problems import Problem
from serve.core.values import SessionValue
from serve.engine.engine import Engine
from serve.http.app import create_app
from serve.sessions.open_store import open_store, settled
from serve.sessions.store_redis import PREFIX, RedisStore
from serve.start.command import Serve, check
from tests.serve.conftest import ADDRESS, Server, encoded, picture, refused
from tests.serve.disks import DiskPredictor
from tests.serve.redis_server import RedisServer

SECRET = "hush!hush"
VALUE = SessionValue(id="a", image_sha256="f" * 64, hw=(4, 6), model_version="m-1", used_at=10.0)


@pytest.fixture
def durable() -> Iterator[RedisServer]:
    with RedisServer(persistent=True) as running:
        yield running


@pytest.fixture
def locked() -> Iterator[RedisServer]:
    with RedisServer(password=SECRET) as running:
        yield running


def refused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_a_click_through_one_server_is_undone_through_another(redis_url: str) -> None:
    one, other = Server(Options(sessions=redis_url)), Server(Options(sessions=redis_url))
    session = one.open()
    first = one.click(session, 10, 20, sequence=1)["mask"]
    one.click(session, 40, 20, sequence=2)
    undone = other.change(session, "undo", sequence=3)
    assert (undone["mask"], undone["num_redo"]) == (first, 1)
    assert one.change(session, "redo", sequence=4)["num_clicks"] == 2
    assert other.client.get("/v1/health").json()["sessions"] == 1
    assert other.client.delete(f"/v1/sessions/{session}").status_code == 204
    refused(one.client.get(f"/v1/sessions/{session}"), 404, "session_unknown")


class Meeting(DiskPredictor):
    """Its clicks wait until those of another are under way too."""

    def __init__(self, barrier: threading.Barrier) -> None:
        super().__init__()
        self.barrier = barrier

    def advance(self, state: State, click: Click) -> State:
        self.barrier.wait(timeout=20)
        return super().advance(state, click)


@pytest.mark.parametrize("numbered", [True, False])
def test_one_of_two_simultaneous_clicks_through_two_servers_is_made(redis_url: str, numbered: bool) -> None:
    barrier, settings = threading.Barrier(2), Options(sessions=redis_url)
    clients = [TestClient(create_app(Engine(Meeting(barrier)), settings), ADDRESS) for _ in range(2)]
    answer = clients[0].post("/v1/sessions", content=encoded(picture()), headers={"Content-Type": "image/png"})
    address = f"/v1/sessions/{answer.json()['session_id']}"

    def click(number: int) -> tuple[int, dict]:
        body = {"x": 10 + 20 * number, "y": 20} | ({"sequence": 1} if numbered else {})
        answer = clients[number].post(f"{address}/clicks", json=body)
        return answer.status_code, answer.json()

    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(click, range(2)))
    assert sorted(status for status, _ in answers) == [200, 409]
    lost = next(body for status, body in answers if status == 409)
    assert lost["code"] == "stale_sequence"
    state = clients[0].get(address).json()
    assert (state["sequence"], len(state["clicks"])) == (1, 1)
    assert state["clicks"][0]["x"] == 10 + 20 * [status for status, _ in answers].index(200)


def test_a_killed_redis_is_unavailable_and_comes_back_with_its_sessions(durable: RedisServer) -> None:
    server = Server(Options(sessions=durable.url))
    session = server.open()
    mask = server.click(session, 10, 20, sequence=1)["mask"]
    durable.kill()
    calls = {
        "state": server.client.get(f"/v1/sessions/{session}"),
        "click": server.client.post(f"/v1/sessions/{session}/clicks", json={"x": 40, "y": 20, "sequence": 2}),
        "mask": server.client.get(f"/v1/sessions/{session}/mask"),
        "open": server.client.post("/v1/sessions", content=encoded(picture()), headers={"Content-Type": "image/png"}),
        "delete": server.client.delete(f"/v1/sessions/{session}"),
        "health": server.client.get("/v1/health"),
    }
    for answer in calls.values():
        refused(answer, 503, "unavailable")
        assert answer.headers["retry-after"] == "1"
    assert server.client.get("/v1/health/live").status_code == 200
    assert server.client.get("/v1/health/ready").status_code == 200, "the model does not depend on the store"
    with server.client.websocket_connect(f"ws://localhost/v1/sessions/{session}/live") as live:
        assert live.receive()["code"] == 1013
    durable.start()
    with server.client.websocket_connect(f"ws://localhost/v1/sessions/{session}/live") as live:
        live.send_json({"kind": "click", "x": 10, "y": 20, "sequence": 1, "id": 6})
        assert live.receive_json()["id"] == 6, "a repetition"
        durable.kill()
        live.send_json({"kind": "click", "x": 40, "y": 20, "sequence": 2, "id": 7})
        answer = live.receive_json()
        assert (answer["id"], answer["code"], answer["retry_after_s"]) == (7, "unavailable", 1)
    durable.start()
    assert server.client.get(f"/v1/sessions/{session}").json()["sequence"] == 1
    assert server.client.get(f"/v1/sessions/{session}/mask").json() == mask
    assert server.click(session, 40, 20, sequence=2)["num_clicks"] == 2
    assert Server(Options(sessions=durable.url)).change(session, "undo", sequence=3)["mask"] == mask


def test_a_kill_in_the_middle_leaves_nothing_half_done(durable: RedisServer) -> None:
    def work(number: int) -> int:
        store, done = RedisStore(durable.url), 0
        while True:
            value = replace(VALUE, id=f"{number}-{done}", image_sha256=f"{done % 5}" * 64, used_at=float(done))
            try:
                store.add(value, b"x" * 10_000)
                store.commit(replace(value, sequence=1), 0)
                if done % 3 == 0:
                    store.delete(value.id)
                store.expire(done - 10)
            except Problem as problem:
                return done if problem.code == "unavailable" else 0
            done += 1

    with ThreadPoolExecutor(4) as pool:
        workers = [pool.submit(work, number) for number in range(4)]
        threading.Event().wait(0.4)
        durable.kill()
        assert min(worker.result(timeout=30) for worker in workers) > 5
    durable.start()
    with durable.client() as client:
        ids = [name.decode() for name in client.zrange(f"{PREFIX}used", 0, -1)]
        kept = {key.decode().removeprefix(PREFIX) for key in client.scan_iter()}
        holders: dict[str, set[str]] = {}
        for name in ids:
            holders.setdefault(client.hget(f"{PREFIX}session:{name}", "image").decode(), set()).add(name)
        assert kept - {"used", "bytes", "ended", "num_ended"} == (
            {f"session:{name}" for name in ids}
            | {f"image:{sha256}" for sha256 in holders}
            | {f"holders:{sha256}" for sha256 in holders}
        )
        for sha256, names in holders.items():
            assert {name.decode() for name in client.smembers(f"{PREFIX}holders:{sha256}")} == names
        assert RedisStore(durable.url).totals() == (len(ids), 10_000 * len(ids))


def test_the_password_comes_from_the_url_or_the_environment(
    locked: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="MASKWRIGHT_REDIS_PASSWORD"):
        open_store(locked.url)
    monkeypatch.setenv("MASKWRIGHT_REDIS_PASSWORD", SECRET)
    open_store(locked.url).add(VALUE, b"image")
    monkeypatch.setenv("MASKWRIGHT_REDIS_PASSWORD", "another")
    assert open_store(locked.url.replace("unix://", f"unix://:{SECRET}@")).totals() == (1, 5)


@pytest.mark.check(29)
def test_the_password_is_in_no_text(locked: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    url = locked.url.replace("unix://", f"unix://:{SECRET}@")
    store, args = RedisStore(url), Options(checkpoint="a", sessions=url)
    texts = [repr(store), repr(args), repr(args)]
    wrong = [
        url.replace(SECRET, f"{SECRET}2"),  # not the password
        f"redis://:{SECRET}@127.0.0.1:{refused_port()}/0",  # no server there
        f"redis://:{SECRET}/@127.0.0.1:6379/0",  # a slash, so that the password is read as a port
        f"redis://127.0.0.1:6379/0?password={SECRET}",
        f"redis://127.0.0.1:6379/0?{SECRET}=1",
        f"amqp://:{SECRET}@127.0.0.1/0",
    ]
    for each in wrong:
        with pytest.raises(InputError) as refusal:
            open_store(each)
        texts.append(f"{refusal.value}")
        assert refusal.value.__suppress_context__ or refusal.value.__context__ is None
    locked.kill()
    with caplog.at_level(logging.DEBUG), pytest.raises(Problem) as problem:
        store.totals()
    texts += [str(problem.value), caplog.text]
    assert "sessions in unix://" in caplog.text
    assert not [text for text in texts if "hush" in text]


def test_a_command_repeated_by_an_old_redis_is_not_shown(redis_url: str) -> None:
    store = RedisStore(redis_url)
    store._secrets = [SECRET]
    shown = store._text_of(
        redis.ResponseError(f"unknown command `HELLO`, with args beginning with: `3` `AUTH` `{SECRET}`")
    )
    assert shown.startswith("ResponseError: unknown command")
    assert SECRET not in shown


def test_a_redis_that_may_drop_keys_is_refused(redis_url: str, running_redis: RedisServer) -> None:
    with running_redis.client() as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        try:
            with pytest.raises(InputError, match="noeviction"):
                open_store(redis_url)
        finally:
            client.config_set("maxmemory-policy", "noeviction")


@pytest.mark.check(45)
def test_a_full_redis_is_unavailable(redis_url: str, running_redis: RedisServer) -> None:
    server = Server(Options(sessions=redis_url))
    with running_redis.client() as client:
        client.config_set("maxmemory", "1mb")
        try:
            answer = server.client.post(
                "/v1/sessions", content=encoded(picture()), headers={"Content-Type": "image/png"}
            )
            refused(answer, 503, "unavailable")
        finally:
            client.config_set("maxmemory", "0")
    assert server.client.get("/v1/health").json()["sessions"] == 0
    server.open()


def test_the_command_line_takes_a_url_as_it_is(redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert settled("redis://host:6379/1") == "redis://host:6379/1"
    assert settled("here.db") == str(tmp_path / "here.db")
    check(Serve(checkpoint=("a",), port=refused_port(), sessions=redis_url))
    nowhere = f"redis://127.0.0.1:{refused_port()}/0"
    with pytest.raises(InputError, match="start Redis there"):
        check(Serve(checkpoint=("a",), port=refused_port(), sessions=nowhere))
    monkeypatch.setenv("RAY_ADDRESS", "ray://elsewhere:10001")
    check(Serve(checkpoint=("a",), port=refused_port(), sessions=nowhere))  # the ingress will ask, where it runs
    settings = Options.of({"checkpoint": "a", "sessions": nowhere, "idle_minutes": "5"})
    assert (settings.sessions, settings.idle_timeout_s) == (nowhere, 300)


def test_the_name_over_tcp_contains_host_port_and_database() -> None:
    port = refused_port()
    with RedisServer("--port", str(port), "--bind", "127.0.0.1"):
        store = RedisStore(f"redis://127.0.0.1:{port}/3")
        assert repr(store) == f"RedisStore(redis://127.0.0.1:{port} (db 3))"
        store.add(VALUE, b"image")
        assert RedisStore(f"redis://127.0.0.1:{port}/4").totals() == (0, 0)
        assert RedisStore(f"redis://127.0.0.1:{port}?db=3").totals() == (1, 5)
