"""The HTTP thread: it accepts connections at once, answers all of them, and reports why it cannot listen."""

import threading
import time

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from models.errors import InputError
from serve.http.server import answering
from tests.ports import free_port


async def slow(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        return
    import asyncio

    await asyncio.sleep(0.5 if scope["path"] == "/slow" else 0)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"done"})


def test_requests_in_flight_are_answered_and_later_ones_are_not() -> None:
    port = free_port()
    found: list[httpx.Response] = []
    with answering(slow, "127.0.0.1", port):
        assert httpx.get(f"http://127.0.0.1:{port}/", trust_env=False).text == "done"
        asking = threading.Thread(
            target=lambda: found.append(httpx.get(f"http://127.0.0.1:{port}/slow", trust_env=False))
        )
        asking.start()
        time.sleep(0.2)
    asking.join(5)
    assert [answer.text for answer in found] == ["done"]
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{port}/", trust_env=False)


def test_a_port_in_use_is_reported() -> None:
    port = free_port()
    with (
        answering(slow, "127.0.0.1", port),
        pytest.raises(InputError, match=f"cannot listen on 127.0.0.1 port {port}"),
        answering(slow, "127.0.0.1", port),
    ):
        pass
