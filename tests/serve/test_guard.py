"""Requests into which a browser may be tricked."""

from collections.abc import Callable

import pytest
from starlette.testclient import WebSocketDenialResponse

from serve.http.guard import is_ours, is_same, split_host
from tests.serve.conftest import Server, refused


@pytest.mark.parametrize(
    ("host", "hosts", "expected"),
    [
        ("localhost", (), True),
        ("localhost:8000", (), True),
        ("LOCALHOST:8000", (), True),
        ("localhost.:8000", (), True),
        ("127.0.0.1:8000", (), True),
        ("127.9.9.9", (), True),
        ("[::1]:8000", (), True),
        ("", (), False),
        ("evil.example", (), False),
        ("localhost.evil.example", (), False),
        ("127.0.0.1.evil.example", (), False),
        ("evil.example@localhost", (), False),
        ("localhost/evil.example", (), False),
        ("localhost:port", (), False),
        ("localhost:99999", (), False),
        ("2130706433", (), False),
        ("192.168.1.5:8000", (), False),
        ("192.168.1.5:8000", ("192.168.1.5",), True),
        ("192.168.1.5:8000", ("0.0.0.0",), True),
        ("[fd00::5]:8000", ("::",), True),
        ("evil.example", ("0.0.0.0",), False),
        ("masks.example:8000", ("masks.example",), True),
        ("other.masks.example", ("masks.example",), False),
        ("anything.example", ("*",), True),
        ("", ("*",), False),
    ],
)
def test_names_of_the_server(host: str, hosts: tuple[str, ...], expected: bool) -> None:
    assert is_ours(split_host(host)[0], frozenset(hosts)) is expected


@pytest.mark.parametrize(
    ("origin", "host", "expected"),
    [
        ("http://localhost:8000", "localhost:8000", True),
        ("http://localhost", "localhost", True),
        ("http://localhost", "localhost:80", True),
        ("https://masks.example", "masks.example", True),
        ("https://masks.example", "masks.example:443", True),
        ("http://[::1]:8000", "[::1]:8000", True),
        ("http://localhost:8001", "localhost:8000", False),
        ("http://127.0.0.1:8000", "localhost:8000", False),
        ("http://evil.example", "localhost", False),
        ("null", "localhost", False),
        ("", "localhost", False),
        ("file://localhost", "localhost", False),
        ("http://localhost@evil.example", "localhost", False),
        ("http://", "", False),
    ],
)
def test_same_origin(origin: str, host: str, expected: bool) -> None:
    assert is_same(origin, host) is expected


@pytest.mark.check(27)
def test_rebound_names_are_refused_everywhere(server: Server) -> None:
    for path in ("/", "/v1/health", "/openapi.json", "/web/app.js"):
        for host in ("evil.example", "evil.example:80", "", "localhost, evil.example"):
            refused(server.client.get(path, headers={"Host": host}), 421, "bad_host")
    twice = server.client.get("/", headers=[("Host", "localhost"), ("Host", "evil.example")])
    refused(twice, 421, "bad_host")


def test_the_option_adds_hosts(make_server: Callable[..., Server]) -> None:
    server = make_server(hosts=("Masks.Example",))
    assert server.client.get("/v1/health", headers={"Host": "masks.example:8000"}).status_code == 200
    assert server.client.get("/v1/health", headers={"Host": "localhost"}).status_code == 200


@pytest.mark.check(27)
def test_pages_of_other_sites_change_nothing(make_server: Callable[..., Server]) -> None:
    server = make_server(origins=("https://tools.example:8443/",))
    session = server.open()
    click = {"x": 5, "y": 5}
    address = f"/v1/sessions/{session}/clicks"
    for origin in ("http://evil.example", "null", "http://localhost:81", "https://tools.example"):
        refused(server.client.post(address, json=click, headers={"Origin": origin}), 403, "bad_origin")
        refused(server.client.delete(f"/v1/sessions/{session}", headers={"Origin": origin}), 403, "bad_origin")
        assert server.client.get("/v1/health", headers={"Origin": origin}).status_code == 200, "it cannot read it"
    assert server.predictor.num_forwards == 0
    for origin in ("http://localhost", "https://tools.example:8443"):
        assert server.client.post(address, json=click, headers={"Origin": origin}).status_code == 200


@pytest.mark.check(27)
def test_websockets_of_other_sites_are_refused(server: Server) -> None:
    address = f"ws://localhost/v1/sessions/{server.open()}/live"
    for url, headers, code in (
        (address, {"Origin": "http://evil.example"}, "bad_origin"),
        (address.replace("localhost", "evil.example"), {}, "bad_host"),
    ):
        with (
            pytest.raises(WebSocketDenialResponse) as caught,
            server.client.websocket_connect(url, headers=headers),
        ):
            raise AssertionError
        assert caught.value.json()["code"] == code
    with server.client.websocket_connect(address, headers={"Origin": "http://localhost"}) as socket:
        socket.send_json({"kind": "click", "x": 5, "y": 5})
        assert socket.receive_json()["sequence"] == 1
