"""The client against a real server in a thread: tokens, and live sessions."""

import socket
import threading
from collections.abc import Iterator

import numpy as np
import pytest
import uvicorn

from serve.client import Client, ServerError
from serve.core.options import Options
from serve.core.tokens import Secrets, Token, digest_of
from serve.engine.engine import Engine
from serve.http.app import create_app
from tests.serve.conftest import encoded, picture
from tests.serve.disks import DiskPredictor


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    token = Token(name="anna", role="annotator", sha256=digest_of("secret"))
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        app = create_app(Engine(DiskPredictor()), Options(clicks_per_second=1000), secrets=Secrets(tokens=(token,)))
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join(timeout=20)


@pytest.fixture
def client(address: str) -> Iterator[Client]:
    with Client(address, token="secret") as client:
        yield client


def test_tokens_of_the_client(address: str, client: Client) -> None:
    assert "secret" not in repr(client)
    for token, code in ((None, "token_missing"), ("wrong", "token_wrong")):
        with Client(address, token=token) as stranger, pytest.raises(ServerError) as caught:
            stranger.open(encoded(picture()))
        assert (caught.value.code, caught.value.status) == (code, 401)
    with client.open(encoded(picture())) as session:
        client.token = None
        with pytest.raises(ServerError, match="token_missing"):
            session.live()
        client.token = "wrong"
        with pytest.raises(ServerError, match="token_wrong"):
            session.live()


def test_live_masks_equal_those_of_requests(client: Client) -> None:
    with client.open(encoded(picture())) as one, client.open(encoded(picture())) as other, other.live() as live:
        for x, y, positive in [(30, 20, True), (33, 20, False), (10, 10, True)]:
            np.testing.assert_array_equal(live.click(x, y, positive), one.click(x, y, positive))
        np.testing.assert_array_equal(live.undo(), one.undo())
        np.testing.assert_array_equal(live.redo(), one.redo())
        assert not live.clear().any()
        assert live.last["num_redo"] == 3


def test_live_changes_and_requests_can_alternate(client: Client) -> None:
    with client.open(encoded(picture())) as session:
        session.click(30, 20)
        with session.live() as live:
            assert live.click(10, 10)[20, 30], "the first answer holds all of the mask"
        assert session.click(50, 30)[10, 10]
        with session.live() as live:
            assert live.undo()[10, 10]
            assert not live.mask[30, 50]


def test_many_clicks_without_waiting(client: Client) -> None:
    clicks = [(float(x), float(y), (x + y) % 3 > 0) for x in range(0, 60, 6) for y in range(0, 40, 8)]
    with client.open(encoded(picture())) as one, client.open(encoded(picture())) as other, other.live() as live:
        for x, y, positive in clicks:
            expected = one.click(x, y, positive)
        np.testing.assert_array_equal(live.clicks(clicks), expected)
        assert live.last["num_clicks"] == len(clicks)


def test_clicks_after_a_bad_one_are_not_made(client: Client) -> None:
    with client.open(encoded(picture())) as one, client.open(encoded(picture())) as other, other.live() as live:
        expected = one.click(5, 5)
        with pytest.raises(ServerError, match="bad_click"):
            live.clicks([(5, 5, True), (500, 5, True), (20, 20, True)])
        np.testing.assert_array_equal(live.mask, expected)
        assert other.sequence == 1
        np.testing.assert_array_equal(live.click(20, 20), one.click(20, 20))


def test_a_deleted_session_is_reported(client: Client) -> None:
    session = client.open(encoded(picture()))
    with session.live() as live:
        session.close()
        with pytest.raises(ServerError, match="session_unknown"):
            live.click(5, 5)
        with pytest.raises(ServerError, match="session_unknown"):
            live.click(5, 5)


def test_a_session_is_opened_with_the_chosen_settings(client: Client) -> None:
    with client.open(encoded(picture()), mask_threshold=0.25) as session:
        assert client.request("GET", f"/v1/sessions/{session.id}")["mask_threshold"] == 0.25
    with pytest.raises(ServerError) as caught:
        client.open(encoded(picture()), model="missing")
    assert caught.value.code == "model_unknown"
