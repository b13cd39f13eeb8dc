"""More requests than the model can handle: refused at once, ended when late, and skipped if the client has left."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from models.predictor import Session
from serve.core.options import Options
from serve.engine.batching import Batched
from serve.engine.waiting import Abandoned, Claim, Turns, _current, check, in_thread
from tests.serve.asgi import Asked, until
from tests.serve.conftest import Server, refused
from tests.serve.test_batching import correct

READY = "/v1/health/ready"


@contextmanager
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[threading.Event, list[Session]]]:
    """A network in which clicks wait until the event is set; the list contains those that entered it."""
    go, entered = threading.Event(), []
    click = Session.add

    def slow(self: Session, *where: Any) -> np.ndarray:
        entered.append(self)
        assert go.wait(20)
        return click(self, *where)

    monkeypatch.setattr(Session, "add", slow)
    try:
        yield go, entered
    finally:
        go.set()


@pytest.fixture
def prepared() -> Callable[..., Any]:
    """Return a warmed-up server with so many sessions."""

    def make(num: int, **settings: Any) -> tuple[Server, list[str]]:
        server = Server(Options(**settings))
        sessions = [server.open() for _ in range(num)]
        server.engine.warm_up()
        server.predictor.num_forwards = 0
        return server, sessions

    return make


def click_on(server: Server, session: str) -> Asked:
    return Asked(server.app, "POST", f"/v1/sessions/{session}/clicks", {"x": 5, "y": 5, "sequence": 1})


@pytest.mark.check(38)
def test_one_too_many_is_refused_at_once_and_the_rest_is_answered(
    prepared: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, sessions = prepared(7, max_waiting=4)

    async def run() -> None:
        with held(monkeypatch) as (go, entered):
            accepted = [click_on(server, session) for session in sessions[:4]]
            await until(lambda: entered)
            started = time.perf_counter()
            for session in sessions[4:]:
                status, headers, problem = await click_on(server, session).answer()
                assert (status, problem["code"], headers["retry-after"]) == (503, "at_capacity", "1")
            assert time.perf_counter() - started < 3 * 0.05, "each within 50 ms"
            # What does not need the model is answered while it is busy.
            for path in ("/v1/health/live", READY, "/v1/models", f"/v1/sessions/{sessions[0]}"):
                assert (await Asked(server.app, "GET", path).answer())[0] == 200, path
            go.set()
            assert [(await each.answer())[0] for each in accepted] == [200] * 4
            assert (await click_on(server, sessions[4]).answer())[0] == 200, "there is room again"

    asyncio.run(run())
    assert server.predictor.num_forwards == 5


@pytest.mark.check(39)
def test_a_client_that_left_costs_no_forward(prepared: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    server, sessions = prepared(5)

    async def run() -> None:
        with held(monkeypatch) as (go, entered):
            first = click_on(server, sessions[0])
            await until(lambda: entered)  # before the others come: threads may overtake each other
            others = [click_on(server, session) for session in sessions[1:]]
            for each in others:
                each.leave()
            for each in others:
                status, _, problem = await each.answer()
                assert (status, problem["code"]) == (499, "client_gone")
            go.set()
            assert (await first.answer())[0] == 200

    asyncio.run(run())
    assert server.predictor.num_forwards == 1
    for session in sessions[1:]:
        assert server.client.get(f"/v1/sessions/{session}").json()["sequence"] == 0
        assert server.click(session, 5, 5, sequence=1)["num_clicks"] == 1, "and the same may be sent again"
    assert server.predictor.num_opened == 6, "images stay open: the five, and the one of the warm-up"


@pytest.mark.check(39)
def test_a_started_click_is_finished_after_the_client_left(
    prepared: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, (session,) = prepared(1)

    async def run() -> None:
        with held(monkeypatch) as (_, entered):
            asked = click_on(server, session)
            await until(lambda: entered)
            asked.leave()
            assert (await asked.answer())[0] == 499

    asyncio.run(run())
    assert server.click(session, 5, 5, sequence=1)["sequence"] == 1, "the repetition is answered as one"
    assert server.predictor.num_forwards == 1


@pytest.mark.check(40)
def test_a_request_that_takes_too_long_ends_and_frees_its_place(
    prepared: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, sessions = prepared(3, max_waiting=2, request_timeout_s=0.1)

    async def run() -> None:
        with held(monkeypatch) as (go, entered):
            late = [click_on(server, session) for session in sessions[:2]]
            await until(lambda: entered)
            started = time.perf_counter()
            for each in late:
                status, headers, problem = await each.answer()
                assert (status, problem["code"], headers["retry-after"]) == (504, "timeout", "5")
            assert time.perf_counter() - started < 1
            status, _, problem = await click_on(server, sessions[2]).answer()
            assert (status, problem["code"]) == (503, "at_capacity"), "the threads are still there"
            go.set()
        # The one that had begun is made, the one behind it is not.
        while (await (asked := click_on(server, sessions[2])).answer())[0] == 503:
            await asyncio.sleep(0.01)
        assert asked.sent[0]["status"] == 200

    asyncio.run(run())
    assert server.predictor.num_forwards == 2


@pytest.mark.check(40)
def test_a_request_that_the_server_cancels_frees_its_turn() -> None:
    async def run() -> None:
        turns, go, begun, made = Turns(2, 10), threading.Event(), threading.Event(), []
        one = asyncio.create_task(turns.run(lambda: (begun.set(), go.wait(10), check(), made.append(1))))
        await until(begun.is_set)
        one.cancel()
        with pytest.raises(asyncio.CancelledError):
            await one
        go.set()
        assert await turns.run(lambda: "next") == "next"
        assert made == []

    asyncio.run(run())


@pytest.mark.check(39)
def test_a_cancelled_call_of_a_replica_ends_its_work() -> None:
    async def run() -> None:
        go, begun, ended = threading.Event(), threading.Event(), []

        def work() -> None:
            begun.set()
            go.wait(10)
            try:
                check()
            except Abandoned as error:
                ended.append(error)

        task = asyncio.create_task(in_thread(work))
        await until(begun.is_set)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        go.set()
        await until(lambda: ended)
        assert await in_thread(lambda: 5) == 5

    asyncio.run(run())


def test_a_claim_calls_back_when_it_ends() -> None:
    claim, called = Claim(), threading.Event()
    claim.on_leave(called.set)
    assert claim.wanted
    assert not called.is_set()
    claim.leave()
    assert called.wait(5)
    late = threading.Event()
    claim.on_leave(late.set)
    assert late.is_set()
    assert not claim.wanted


@pytest.mark.check(39)
def test_batches_skip_clients_that_left() -> None:
    seen: list[list[float]] = []
    go, begun = threading.Event(), threading.Event()

    def answer(requests: list[Any]) -> list[Any]:
        seen.append([float(request.image[0, 0, 0]) for request in requests])
        begun.set()
        assert go.wait(10)
        return seen[-1]

    batched, found = Batched(answer, 8), {}
    claims = [Claim() for _ in range(4)]

    def ask(number: int) -> None:
        _current.set(claims[number])
        try:
            found[number] = batched([correct(number)])
        except Abandoned as error:
            found[number] = error

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    threads[0].start()
    assert begun.wait(10)
    for thread in threads[1:]:
        thread.start()
    while len(batched._queue) < 3:
        time.sleep(0.002)
    claims[2].leave()
    go.set()
    for thread in threads:
        thread.join(10)
    assert isinstance(found.pop(2), Abandoned)
    assert found == {0: [0.0], 1: [1.0], 3: [3.0]}
    assert sorted(value for batch in seen for value in batch) == [0.0, 1.0, 3.0]


def test_sockets_do_not_use_the_places_of_requests(
    prepared: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, (session, other) = prepared(2, max_waiting=1)
    with (
        held(monkeypatch) as (go, entered),
        server.client.websocket_connect(f"ws://localhost/v1/sessions/{session}/live") as socket,
    ):
        for _ in range(3):
            socket.send_json({"kind": "click", "x": 5, "y": 5})
        while not entered:
            time.sleep(0.002)
        assert server.client.get(READY).status_code == 200
        threading.Timer(0.05, go.set).start()
        assert server.client.get(f"/v1/sessions/{other}/mask").status_code == 200
        assert [socket.receive_json()["sequence"] for _ in range(3)] == [1, 2, 3], "none is refused"
    refused(server.client.get("/v1/sessions/x/mask"), 404, "session_unknown")
