"""The forwarding headers of proxies, and which of them the server trusts."""

import time
from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from models.errors import InputError
from serve.core.networks import parse_networks
from serve.core.options import Options
from serve.http.forwarded import UNKNOWN, Forwarded, below, read
from tests.serve.conftest import ADDRESS, Server, encoded, picture, refused

NEAR, CLIENT = "127.0.0.1", "203.0.113.7"
PROXIES = parse_networks(("127.0.0.0/8", "10.0.0.0/24", "fd00::/8"), "proxies")


def said(peer: str = NEAR, *headers: tuple[str, str]) -> Forwarded:
    return read([(name.lower().encode(), value.encode("latin-1")) for name, value in headers], peer, PROXIES)


@pytest.mark.parametrize(
    ("text", "client"),
    [
        (CLIENT, (CLIENT, 0)),
        (f"{CLIENT}:4711", (CLIENT, 4711)),
        ("2001:db8::1", ("2001:db8::1", 0)),
        ("[2001:db8::1]:4711", ("2001:db8::1", 4711)),
        ("::ffff:203.0.113.7", (CLIENT, 0)),
        (f"6.6.6.6, {CLIENT}", (CLIENT, 0)),
        (f"6.6.6.6, {CLIENT}, 10.0.0.9, fd00::1", (CLIENT, 0)),
        ("10.0.0.9, 127.0.0.1", ("10.0.0.9", 0)),
        ("unknown", (UNKNOWN, 0)),
        (f"{CLIENT}, rubbish", (UNKNOWN, 0)),
        ("127.0.0.1:99999", (NEAR, 0)),
        ("127.1", (UNKNOWN, 0)),
    ],
)
def test_the_client_is_the_first_from_the_right_that_is_no_proxy(text: str, client: tuple[str, int]) -> None:
    assert said(NEAR, ("X-Forwarded-For", text)).client == client
    if "::" not in text.replace("[2001:db8::1]", ""):  # there, IPv6 stands in brackets
        nodes = ", ".join(f'for="{each}"' for each in text.split(", "))
        assert said(NEAR, ("Forwarded", nodes)).client == client


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("for=203.0.113.7;proto=https;host=m.example", Forwarded(client=(CLIENT, 0), scheme="https", host="m.example")),
        (
            'FOR="203.0.113.7:99" ; Proto=HTTPS; host="m.example:8443";by=_us',
            Forwarded(client=(CLIENT, 99), scheme="https", host="m.example:8443"),
        ),
        ('for="[2001:db8::1]:_x"', Forwarded(client=("2001:db8::1", 0))),
        ("for=_gazonk", Forwarded(client=("_gazonk", 0))),
        ("for=_gazonk:80, for=10.0.0.9", Forwarded(client=("_gazonk", 80))),
        ("for=203.0.113.7;proto=https, for=10.0.0.9;proto=http", Forwarded(client=(CLIENT, 0), scheme="https")),
        ("proto=wss;host=m.example", Forwarded(scheme="https", host="m.example")),
        (r'for="203.0.113.\7"', Forwarded(client=(CLIENT, 0))),
        ('for=203.0.113.7;secret="a,b;c=d"', Forwarded(client=(CLIENT, 0))),
        (" ,, for=203.0.113.7", Forwarded(client=(CLIENT, 0))),
        ("for=203.0.113.7;proto=gopher;host=a@b", Forwarded(client=(CLIENT, 0))),
        ('for="203.0.113.7', Forwarded(client=(UNKNOWN, 0))),
        ("for=203.0.113.7;for=10.0.0.9", Forwarded(client=(UNKNOWN, 0))),
        ("for 203.0.113.7", Forwarded(client=(UNKNOWN, 0))),
        ("", Forwarded()),
    ],
)
def test_the_standard_header(text: str, expected: Forwarded) -> None:
    assert said(NEAR, ("Forwarded", text)) == expected


def test_the_other_headers() -> None:
    hops = ("X-Forwarded-For", f"{CLIENT}, 10.0.0.9")
    found = said(NEAR, hops, ("X-Forwarded-Proto", "https"), ("X-Forwarded-Host", "m.example"))
    assert found == Forwarded(client=(CLIENT, 0), scheme="https", host="m.example")
    each = said(NEAR, hops, ("X-Forwarded-Proto", "https, http"), ("X-Forwarded-Host", "m.example, inner"))
    assert each == found, "what the first proxy said, as of the client"
    lines = said(NEAR, ("X-Forwarded-For", CLIENT), ("X-Forwarded-For", "10.0.0.9"))
    assert lines.client == (CLIENT, 0)
    assert said(NEAR, ("X-Forwarded-Prefix", "/masks/")) == Forwarded(prefix="/masks")
    for prefix in ("/", "masks", "//evil.example", "/a/../b", "/a b", "/a?b"):
        assert said(NEAR, ("X-Forwarded-Prefix", prefix)) == Forwarded(), prefix


def test_headers_from_untrusted_addresses_are_ignored() -> None:
    headers = [("Forwarded", "for=1.2.3.4;proto=https;host=m.example"), ("X-Forwarded-For", "1.2.3.4")]
    for peer in (CLIENT, "10.0.1.1", "", "testclient", "_hidden"):
        assert said(peer, *headers, ("X-Forwarded-Prefix", "/masks")) == Forwarded()


def test_the_client_is_unknown_if_two_headers_differ() -> None:
    """A proxy writes one header and passes on the other, as its client wrote it."""
    ours, theirs = ("X-Forwarded-For", CLIENT), ("Forwarded", "for=127.0.0.1;proto=https;host=m.example")
    assert said(NEAR, ours, theirs) == Forwarded(client=(UNKNOWN, 0))
    assert said(NEAR, ("X-Forwarded-For", NEAR), ("Forwarded", f"for={CLIENT}")) == Forwarded(client=(UNKNOWN, 0))
    both = said(NEAR, ours, ("Forwarded", f'for="{CLIENT}:99";proto=https'))
    assert both == Forwarded(client=(CLIENT, 99), scheme="https")
    split = said(NEAR, ours, ("Forwarded", "proto=https;host=m.example"))
    assert split == Forwarded(client=(CLIENT, 0), scheme="https", host="m.example")


NAMES = ["forwarded", *(f"x-forwarded-{name}" for name in ("for", "proto", "host", "prefix", "port"))]


@given(st.lists(st.tuples(st.sampled_from(NAMES), st.text(st.characters(max_codepoint=255), max_size=60)), max_size=6))
def test_malformed_headers_never_raise(headers: list[tuple[str, str]]) -> None:
    found = said(NEAR, *headers)
    assert found.scheme in (None, "http", "https")
    assert found.client is None or found.client[0]


@pytest.mark.parametrize("text", [" " * 60_000 + "x", '"' + "\\" * 60_000, "a=b;" * 15_000 + "(", "for=," * 12_000])
def test_long_headers_cost_no_time(text: str) -> None:
    started = time.perf_counter()
    for name in NAMES:
        said(NEAR, (name, text))
    assert time.perf_counter() - started < 2


@pytest.mark.parametrize(
    ("prefix", "root", "path", "expected"),
    [
        ("", "", "/v1/models", ("", "/v1/models")),
        ("/m", "", "/v1/models", ("/m", "/m/v1/models")),  # the proxy took it off
        ("/m", "", "/m/v1/models", ("/m", "/m/v1/models")),  # it did not
        ("/m", "", "/m", ("/m", "/m")),
        ("/m", "", "/mask", ("/m", "/m/mask")),
        ("/m", "", "/api/functions", ("/m", "/m/api/functions")),  # CVAT's, at the root
        ("/m", "/m", "/m/v1/models", ("/m", "/m/v1/models")),
        ("/m", "/app", "/app/v1/models", ("/m/app", "/m/app/v1/models")),
        ("", "/app", "/app/v1/models", ("/app", "/app/v1/models")),
    ],
)
def test_root_paths(prefix: str, root: str, path: str, expected: tuple[str, str]) -> None:
    assert below(prefix, root, path) == expected


def test_invalid_options_are_refused() -> None:
    for proxies in ("*", "0.0.0.0/0", "10.0.0.0/8,::/0"):
        with pytest.raises(InputError, match="every client could claim any address"):
            Options(proxies=proxies)  # pyright: ignore[reportArgumentType] - options come as text
    with pytest.raises(InputError, match=r"proxies: .*expected networks"):
        Options(proxies=("proxy.example",))
    assert Options(proxies="10.0.0.0/8,127.0.0.1").proxies == ("10.0.0.0/8", "127.0.0.1")  # pyright: ignore[reportArgumentType]
    for root in ("masks", "/a b", "//a", "/a/..", "/v1", "/ls/x", "/api", "/ä"):
        with pytest.raises(InputError, match="root_path is"):
            Options(root_path=root)
    assert [Options(root_path=root).root_path for root in ("", "/", "/masks/", "/a/b")] == ["", "", "/masks", "/a/b"]


def client_of(server: Server, peer: str = NEAR) -> TestClient:
    return TestClient(server.app, ADDRESS, raise_server_exceptions=False, client=(peer, 50_000))


def test_rates_are_those_of_the_client(make_server: Callable[..., Server]) -> None:
    server = make_server(opens_per_minute=1)
    body = {"content": encoded(picture()), "headers": {"Content-Type": "image/png"}}

    def opened(http: TestClient, client: str) -> int:
        http.headers["X-Forwarded-For"] = client
        return http.post("/v1/sessions", **body).status_code

    near, far = client_of(server), client_of(server, "198.51.100.1")
    assert [opened(near, client) for client in ("1.1.1.1", "2.2.2.2", "1.1.1.1", "9.9.9.9, 2.2.2.2")] == [
        201, 201, 429, 429,
    ]  # fmt: skip
    assert [opened(far, client) for client in ("3.3.3.3", "4.4.4.4")] == [201, 429], "a stranger says what it likes"


def test_rates_of_sockets_are_those_of_the_client(make_server: Callable[..., Server]) -> None:
    server = make_server(clicks_per_second=1)
    http = client_of(server)

    def answer(session: str, client: str) -> dict:
        address = f"ws://localhost/v1/sessions/{session}/live"
        with http.websocket_connect(address, headers={"Forwarded": f"for={client}"}) as socket:
            socket.send_json({"kind": "click", "x": 5, "y": 5})
            return socket.receive_json()

    session = server.open()
    assert answer(session, "1.1.1.1")["sequence"] == 1
    assert answer(session, "2.2.2.2")["sequence"] == 2, "another client has a bucket that is full"


def test_cvat_and_metrics_are_for_the_client_that_is_behind_the_proxy(server: Server) -> None:
    near = client_of(server)
    assert near.get("/api/functions").status_code == 200
    for header in ({"X-Forwarded-For": CLIENT}, {"Forwarded": "for=unknown"}, {"X-Forwarded-For": "?"}):
        refused(near.get("/api/functions", headers=header), 403, "address_refused")
    forged = {"X-Forwarded-For": CLIENT, "Forwarded": "for=127.0.0.1"}
    refused(near.get("/api/functions", headers=forged), 403, "address_refused")


def test_the_forwarded_host_and_the_proxys_host_must_both_be_accepted(make_server: Callable[..., Server]) -> None:
    server = make_server(hosts=("masks.example",), proxies=("10.0.0.0/24",))
    proxy, stranger = client_of(server, "10.0.0.9"), client_of(server, CLIENT)
    named = {"X-Forwarded-Host": "masks.example"}
    assert proxy.get("/v1/health", headers=named).status_code == 200
    refused(proxy.get("/v1/health", headers={"X-Forwarded-Host": "evil.example"}), 421, "bad_host")
    refused(proxy.get("/v1/health", headers=named | {"Host": "evil.example"}), 421, "bad_host")
    session, click = server.open(), {"x": 5, "y": 5}
    address, page = f"/v1/sessions/{session}/clicks", {"Origin": "https://masks.example"}
    refused(stranger.post(address, json=click, headers=named | page), 403, "bad_origin")
    refused(proxy.post(address, json=click, headers=page), 403, "bad_origin")
    assert proxy.post(address, json=click, headers=named | page).status_code == 200


@pytest.mark.parametrize("taken_off", [True, False])
@pytest.mark.parametrize("said_by", ["option", "header"])
def test_below_a_path(make_server: Callable[..., Server], taken_off: bool, said_by: str) -> None:
    server = make_server(root_path="/masks" if said_by == "option" else "", hosts=("m.example",))
    http = client_of(server)
    http.headers |= {"X-Forwarded-Prefix": "/masks"} if said_by == "header" else {}
    http.headers |= {"X-Forwarded-Host": "m.example", "X-Forwarded-Proto": "https"}
    front = "" if taken_off else "/masks"
    page = http.get(f"{front}/")
    assert 'src="web/app.js"' in page.text
    assert http.get(f"{front}/web/app.js").headers["content-type"].startswith("text/javascript")
    models = http.get(f"{front}/v1/models")
    assert (models.status_code, models.headers["cache-control"]) == (200, "no-store")
    assert http.get(f"{front}/ls/health").json()["status"] == "UP"
    assert http.get(f"{front}/openapi.json").json()["servers"] == [{"url": "/masks"}]
    moved = http.get(f"{front}/v1/models/", follow_redirects=False)
    assert moved.headers["location"] == "https://m.example/masks/v1/models"
    refused(http.get("/masksv1/models"), 404, "not_found")
    session = server.open()
    with http.websocket_connect(f"ws://localhost{front}/v1/sessions/{session}/live") as socket:
        socket.send_json({"kind": "click", "x": 5, "y": 5})
        assert socket.receive_json()["sequence"] == 1
    assert http.get("/api/functions").status_code == 200, "CVAT takes host and port alone"


def test_the_page_without_its_last_slash_redirects(make_server: Callable[..., Server]) -> None:
    server = make_server(root_path="/masks")
    moved = client_of(server).get("/masks", follow_redirects=False)
    assert (moved.status_code, moved.headers["location"]) == (307, "http://localhost/masks/")
