"""Changes over a WebSocket: the same masks as over HTTP, in order, with nothing lost."""

import asyncio
import json
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import WebSocketTestSession
from starlette.websockets import WebSocketDisconnect

from serve.core.options import Options
from serve.engine.waiting import Turns
from serve.http.live import MAX_WAITING, Command, Done, Live, Patches, read_command
from serve.sessions.sessions import Outcome
from tests.serve.conftest import Server, mask_of

CLICKS = [(30, 20, True), (33, 20, False), (10, 10, True), (50, 30, True)]


async def allowed(_: Any) -> None:
    """Allow every message."""


def live(server: Server, session: str, query: str = "") -> Any:
    return server.client.websocket_connect(f"ws://localhost/v1/sessions/{session}/live{query}")


def send(socket: WebSocketTestSession, kind: str = "click", **rest: Any) -> None:
    socket.send_json({"kind": kind, **rest})


def plain(answer: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in answer.items() if key not in ("id", "milliseconds")}


def hold(server: Server, monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Keep the network from answering until the event is set."""
    go, walk = threading.Event(), server.engine.walk

    def wait(*values: Any) -> Any:
        assert go.wait(20)
        return walk(*values)

    monkeypatch.setattr(server.engine, "walk", wait)
    return go


def test_answers_equal_those_over_http(server: Server) -> None:
    over_http, over_socket = server.open(), server.open()
    with live(server, over_socket) as socket:
        for number, (x, y, positive) in enumerate(CLICKS, start=1):
            send(socket, x=x, y=y, positive=positive, sequence=number, id=f"c{number}")
            answer = socket.receive_json()
            assert answer["id"] == f"c{number}"
            assert plain(answer) == plain(server.click(over_http, x, y, positive, sequence=number))
        for kind in ("undo", "undo", "redo", "clear", "redo"):
            send(socket, kind)
            answer = socket.receive_json()
            assert answer["id"] is None
            assert plain(answer) == plain(server.change(over_http, kind))


def test_messages_in_flight_are_answered_in_order(server: Server) -> None:
    session = server.open()
    with live(server, session) as socket:
        for number in range(20):
            send(socket, x=number, y=number, id=number)
        answers = [socket.receive_json() for _ in range(20)]
    assert [(answer["id"], answer["sequence"]) for answer in answers] == [(n, n + 1) for n in range(20)]
    assert all("mask" in answer for answer in answers)


def test_superseded_clicks_are_made_but_their_masks_are_omitted(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, other = server.open(), server.open()
    last: dict[str, Any] = {}
    for number in range(10):
        last = server.click(other, 5 * number, 20)
    go = hold(server, monkeypatch)
    with live(server, session) as socket:
        for number in range(10):
            send(socket, x=5 * number, y=20, id=number, latest=True)
        time.sleep(0.3)
        go.set()
        answers = [socket.receive_json() for _ in range(10)]
    assert [answer["num_clicks"] for answer in answers] == list(range(1, 11)), "none is lost"
    assert ["mask" in answer for answer in answers] == [False] * 9 + [True]
    assert all(answer["superseded"] for answer in answers[:-1])
    assert answers[-1]["mask"] == last["mask"]


def test_a_superseded_mask_is_sent_if_the_change_after_it_fails(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = server.open()
    go = hold(server, monkeypatch)
    with live(server, session) as socket:
        send(socket, x=30, y=20, id=1, latest=True)
        send(socket, x=3000, y=20, id=2, latest=True)
        time.sleep(0.3)
        go.set()
        first, second, third = (socket.receive_json() for _ in range(3))
    assert (first["id"], "mask" in first, second["id"], second["code"]) == (1, False, 2, "bad_click")
    assert (third["id"], third["sequence"]) == (1, 1)
    assert mask_of(third)[20, 30]


def test_messages_that_are_not_changes_supersede_nothing(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    go = hold(server, monkeypatch)
    with live(server, server.open()) as socket:
        send(socket, x=30, y=20, latest=True)
        socket.send_text("{")
        time.sleep(0.3)
        go.set()
        assert "mask" in socket.receive_json()
        assert socket.receive_json()["code"] == "bad_json"


def test_bits_rebuild_every_mask(server: Server) -> None:
    over_http, over_socket = server.open(), server.open()
    mask = np.zeros((40, 60), bool)
    with live(server, over_socket, "?mask=bits") as socket:
        for x, y, positive in [*CLICKS, (50, 30, True)]:
            send(socket, x=x, y=y, positive=positive)
            answer = socket.receive_json()
            assert "mask" not in answer
            patch = answer["patch"]
            assert patch["size"] == [40, 60]
            x0, y0, width, height = patch["bbox_xywh"]
            if patch["num_bytes"]:
                bits = socket.receive_bytes()
                assert len(bits) == patch["num_bytes"] == (width * height + 7) // 8
                box = np.unpackbits(np.frombuffer(bits, np.uint8), count=width * height).reshape(height, width)
                mask[y0 : y0 + height, x0 : x0 + width] = box
            np.testing.assert_array_equal(mask, mask_of(server.click(over_http, x, y, positive)))
        assert patch == {"bbox_xywh": [0, 0, 0, 0], "num_bytes": 0, "size": [40, 60]}, "nothing changed"


def test_patches_contain_only_changes() -> None:
    rng = np.random.default_rng(0)
    patches, known = Patches(), np.zeros((37, 53), bool)
    for _ in range(50):
        y, x = int(rng.integers(37)), int(rng.integers(53))
        mask = known.copy()
        mask[y : y + 5, x : x + 9] ^= rng.random(mask[y : y + 5, x : x + 9].shape) < 0.5
        (x0, y0, width, height), bits = patches.of(mask)
        assert height <= 5
        assert width <= 9
        box = np.unpackbits(np.frombuffer(bits, np.uint8), count=width * height).reshape(height, width)
        known[y0 : y0 + height, x0 : x0 + width] = box
        np.testing.assert_array_equal(known, mask)


@pytest.mark.parametrize(
    ("text", "code", "pointer", "name"),
    [
        ("{", "bad_json", None, None),
        ("[" * 20_000, "bad_json", None, None),
        ('{"kind": "click", "x": 1, "x": 2, "y": 1}', "bad_json", None, None),
        ("[]", "bad_request", "", None),
        ('{"id": 7}', "bad_request", "/kind", 7),
        ('{"kind": "dance", "id": "a"}', "bad_request", "/kind", "a"),
        ('{"kind": "undo", "x": 1}', "bad_click", "/x", None),
        ('{"kind": "click", "x": 1, "id": 7}', "bad_click", "/y", 7),
        ('{"kind": "click", "x": NaN, "y": 1}', "bad_click", "/x", None),
        ('{"kind": "click", "x": 60, "y": 1}', "bad_click", "/x", None),
        ('{"kind": "click", "x": 1, "y": 1, "id": {}}', "bad_request", None, None),
        ('{"kind": "click", "x": 1, "y": 1, "more": 1}', "bad_request", "/more", None),
        ('{"kind": "click", "x": 1, "y": 1, "sequence": 5}', "stale_sequence", "/sequence", None),
        (" " * 70_000, "body_too_large", None, None),
    ],
)
def test_bad_messages_are_answered_and_the_socket_stays(
    server: Server, text: str, code: str, pointer: str | None, name: object
) -> None:
    with live(server, server.open()) as socket:
        socket.send_text(text)
        answer = socket.receive_json()
        assert (answer["code"], answer["id"]) == (code, name)
        assert {"type", "title", "status", "detail", "instance"} <= set(answer)
        if pointer is not None:
            assert answer["pointer"] == pointer
        send(socket, x=5, y=5)
        assert socket.receive_json()["sequence"] == 1


def test_binary_messages_are_read_as_json() -> None:
    data = json.dumps({"kind": "undo", "id": 3}).encode()
    assert read_command(data, 100) == read_command(data.decode(), 100)
    problem = read_command(b"\xff\xfe", 100).problem
    assert problem is not None
    assert problem.code == "bad_json"


def closed_with(socket: WebSocketTestSession) -> int:
    with pytest.raises(WebSocketDisconnect) as caught:
        socket.receive_json()
    return caught.value.code


def test_unknown_and_expired_sessions(server: Server) -> None:
    with live(server, "nothing") as socket:
        assert closed_with(socket) == 4404
    session, deleted = server.open(), server.open()
    with live(server, deleted) as socket:
        send(socket, "clear")
        assert socket.receive_json()["sequence"] == 1
        server.client.delete(f"/v1/sessions/{deleted}")
        send(socket, x=5, y=5)
        assert socket.receive_json()["code"] == "session_unknown"
        assert closed_with(socket) == 4404
    with live(server, session) as socket:
        send(socket, "clear")
        assert socket.receive_json()["sequence"] == 1
        server.now = 4000
        send(socket, x=5, y=5, id=1)
        answer = socket.receive_json()
        assert (answer["code"], answer["id"]) == ("session_expired", 1)
        assert closed_with(socket) == 4410
    with live(server, session) as socket:
        assert closed_with(socket) == 4410


def test_idle_sockets_are_closed(make_server: Callable[..., Server]) -> None:
    server = make_server(idle_minutes=0.2 / 60)
    with live(server, server.open()) as socket:
        assert closed_with(socket) == 4410


def test_the_number_of_sockets_is_limited(make_server: Callable[..., Server]) -> None:
    server = make_server(max_live=1)
    session = server.open()
    with live(server, session), live(server, session) as second:
        assert closed_with(second) == 1013
    with live(server, session) as third:
        send(third, x=5, y=5)
        assert third.receive_json()["sequence"] == 1


def test_failures_show_nothing_and_change_nothing(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    session = server.open()
    with live(server, session) as socket:
        server.predictor.fail_with = RuntimeError("CUDA error in /home/somebody/secret.py")
        send(socket, x=5, y=5, sequence=1)
        answer = socket.receive_json()
        assert answer["code"] == "internal"
        assert "secret" not in str(answer)
        assert answer["instance"] in caplog.text
        server.predictor.fail_with = None
        server.predictor.nan = True
        send(socket, x=5, y=5, sequence=1)
        assert socket.receive_json()["code"] == "model_nan"
        server.predictor.nan = False
        send(socket, x=5, y=5, sequence=1)
        assert socket.receive_json()["sequence"] == 1


def test_received_changes_are_made_after_the_client_left(server: Server) -> None:
    click = {"type": "websocket.receive", "text": '{"kind": "click", "x": 5, "y": 5}'}
    waiting = [click] * 5 + [{"type": "websocket.disconnect"}]

    class Leaving:
        """A client that sends five clicks and leaves when the first answer arrives."""

        async def receive(self) -> dict[str, Any]:
            return waiting.pop(0)

        async def send_text(self, text: str) -> None:
            raise WebSocketDisconnect(1006)

    made: list[int] = []

    def apply(command: Command) -> Done:
        made.append(len(made) + 1)
        outcome = Outcome(mask=np.zeros((4, 6), bool), clicks=(), num_redo=0, sequence=len(made))
        return Done(id=None, outcome=outcome, model_version="", milliseconds=0.0)

    connection = Live(Leaving(), "rle", allowed, Options(), Turns(2, 10))  # pyright: ignore[reportArgumentType]
    asyncio.run(connection.serve(apply))
    assert made == [1, 2, 3, 4, 5]


def test_more_messages_than_the_queue_holds_are_all_made(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    go = hold(server, monkeypatch)
    count = MAX_WAITING + 20
    with live(server, server.open()) as socket:
        for number in range(count):
            send(socket, x=number % 60, y=5, id=number)
        time.sleep(0.2)
        go.set()
        assert [socket.receive_json()["id"] for _ in range(count)] == list(range(count))


@pytest.mark.networks
@given(st.one_of(st.text(), st.binary(), st.recursive(st.none() | st.floats() | st.text(), st.lists).map(json.dumps)))
def test_any_message_is_a_change_or_a_problem(data: str | bytes) -> None:
    command = read_command(data, 1000)
    assert (command.change is None) != (command.problem is None)


def test_a_reader_that_fails_ends_the_socket(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        closed = 0

        async def receive(self) -> dict[str, Any]:
            raise OSError("gone")

        async def close(self, code: int, reason: str) -> None:
            self.closed = code

    broken = Broken()
    connection = Live(broken, "rle", allowed, Options(), Turns(2, 10))  # pyright: ignore[reportArgumentType]
    asyncio.run(connection.serve(lambda _: pytest.fail("nothing came")))
    assert broken.closed == 4410
    assert "reading from a live socket failed" in caplog.text
