"""Images by URL: only from allowed hosts, pinned to an address, limited, and the token sent only to its origin."""

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest

from models.errors import InputError
from serve.core.networks import parse_address
from serve.core.options import Options
from serve.core.problems import Problem
from serve.core.tokens import Secrets
from serve.faces.fetch import Fetcher, is_public
from tests.serve.conftest import Server, encoded, picture
from tests.serve.test_faces_label_studio import brush_of, key_point, predict

PUBLIC = "93.184.216.34"
Answers = Callable[[httpx.Request], httpx.Response]


def fetcher(
    answer: Answers, addresses: dict[str, list[str]] | None = None, token: str | None = None, **options: Any
) -> Fetcher:
    """Return a fetcher of good.org and other.org on a simulated network."""
    names = {"good.org": [PUBLIC], "other.org": [PUBLIC]} | (addresses or {})

    def resolve(host: str, port: int) -> list[str]:
        if host not in names:
            raise OSError
        return names[host]

    known = Options(**({"image_hosts": ("good.org", "other.org")} | options))
    return Fetcher(known, resolve, httpx.MockTransport(answer), token)


def file(request: httpx.Request) -> httpx.Response:
    return httpx.Response(200, content=iter([b"im", b"age"]))


def code_of(fetch: Fetcher, url: str) -> str:
    with pytest.raises(Problem) as caught:
        fetch.get(url)
    return caught.value.code


@pytest.mark.check(16)
def test_the_connection_goes_to_the_address_that_was_checked() -> None:
    seen: list[httpx.Request] = []
    fetch = fetcher(lambda request: (seen.append(request), file(request))[1])
    assert fetch.get("https://good.org/a.png?b=c") == b"image"
    [request] = seen
    assert str(request.url) == f"https://{PUBLIC}/a.png?b=c"
    assert request.headers["host"] == "good.org"
    assert request.extensions["sni_hostname"] == "good.org"
    assert "authorization" not in request.headers


def test_a_file_is_fetched_once_for_many_clicks() -> None:
    seen: list[httpx.Request] = []
    fetch = fetcher(lambda request: (seen.append(request), file(request))[1])
    for _ in range(3):
        fetch.get("https://good.org/a.png")
    assert len(seen) == 1


@pytest.mark.check(14)
def test_nothing_is_fetched_without_a_list() -> None:
    assert code_of(fetcher(file, image_hosts=()), "http://good.org/a.png") == "url_fetch_disabled"
    assert code_of(fetcher(file), "/data/upload/a.png") == "url_fetch_disabled"


@pytest.mark.check(15)
@pytest.mark.parametrize(
    "url",
    [
        "http://bad.org/a.png",
        "http://good.org:8080/a.png",
        "http://good.org.bad.org/",
        "http://good.org@bad.org/",
        "http://user:word@good.org/",
        "http://bad.org\\@good.org/",
        "http://127.0.0.1/",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://2130706433/",
        "http://0177.0.0.1/",
        "http://169.254.169.254/latest/meta-data",
        "file:///etc/passwd",
        "gopher://good.org/",
        "ftp://good.org/",
        "http:///a.png",
        "http://",
        "//good.org/a.png",
        "http://good.org:99999/",
        "http://good.org/\x00",
    ],
)
def test_unlisted_urls_are_blocked(url: str) -> None:
    if url.startswith("/"):
        assert code_of(fetcher(file), url) == "url_fetch_disabled"
    else:
        assert code_of(fetcher(file), url) == "url_blocked"


@pytest.mark.check(15)
@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "224.0.0.1",
        "255.255.255.255", "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1",
        "64:ff9b::7f00:1", "2002:7f00:1::", "2001:0:1::1", "ff02::1",
    ],
)  # fmt: skip
def test_names_of_private_addresses_are_blocked(address: str) -> None:
    assert code_of(fetcher(file, {"good.org": [address]}), "http://good.org/a.png") == "url_blocked"


@pytest.mark.check(15)
def test_addresses_embedded_in_others_are_blocked() -> None:
    for text, public in (
        (PUBLIC, True),
        (f"::ffff:{PUBLIC}", True),
        ("2606:2800:220:1::1", True),
        ("::ffff:10.0.0.1", False),
    ):
        address = parse_address(text)
        assert address is not None
        assert is_public(address) is public
    assert parse_address("good.org") is None


def test_private_networks_can_be_listed() -> None:
    settings: dict[str, Any] = {"image_hosts": ("good.org:8080",), "image_networks": ("10.1.0.0/16",)}
    assert fetcher(file, {"good.org": ["::1", "10.1.2.3"]}, **settings).get("http://good.org:8080/a") == b"image"
    assert code_of(fetcher(file, {"good.org": ["10.2.0.1"]}, **settings), "http://good.org:8080/a") == "url_blocked"
    assert code_of(fetcher(file, {"good.org": ["10.1.2.3"]}, **settings), "http://good.org/a") == "url_blocked"


@pytest.mark.check(16)
def test_a_second_look_up_has_no_effect() -> None:
    looked_up: list[str] = []

    def resolve(host: str, port: int) -> list[str]:
        looked_up.append(host)
        return [PUBLIC if len(looked_up) == 1 else "127.0.0.1"]

    seen: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.url.host)
        return httpx.Response(302, headers={"Location": "/again"})

    fetch = Fetcher(Options(image_hosts=("good.org",)), resolve, httpx.MockTransport(answer))
    assert code_of(fetch, "http://good.org/a") == "url_blocked"
    assert seen == [PUBLIC]


@pytest.mark.check(16)
@pytest.mark.parametrize(
    ("location", "code"),
    [
        ("http://169.254.169.254/", "url_blocked"),
        ("//bad.org/a", "url_blocked"),
        ("file:///etc/passwd", "url_blocked"),
        ("http://[", "url_blocked"),
        ("/a", "url_failed"),
    ],
)
def test_redirects_are_checked_and_few(location: str, code: str) -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(302, headers={"Location": location})

    assert code_of(fetcher(answer), "http://good.org/a") == code
    assert len(seen) == (1 if code == "url_blocked" else 4)


@pytest.mark.check(17)
def test_the_token_goes_to_label_studio_and_nowhere_else() -> None:
    tokens: list[tuple[str, str | None]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        tokens.append((request.headers["host"], request.headers.get("authorization")))
        if request.headers["host"] == "good.org":
            return httpx.Response(302, headers={"Location": "https://other.org/b.png"})
        return file(request)

    fetch = fetcher(answer, label_studio_url="https://good.org/studio/", token="secret")
    assert fetch.get("/data/upload/a.png") == b"image"
    assert tokens == [("good.org", "Token secret"), ("other.org", None)]
    tokens.clear()
    assert fetch.get("http://good.org/a.png") == b"image"
    assert tokens[0] == ("good.org", None), "the same host without encryption is another origin"
    assert "secret" not in repr(Secrets(label_studio="secret"))


@pytest.mark.parametrize("status", [204, 304, 401, 404, 500])
def test_other_answers_are_failures(status: int) -> None:
    assert code_of(fetcher(lambda request: httpx.Response(status)), "http://good.org/a") == "url_failed"


def test_hosts_that_do_not_answer() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectTimeout("slow")

    assert code_of(fetcher(answer), "http://good.org/a") == "url_failed"
    assert code_of(fetcher(file, image_hosts=("gone.org",)), "http://gone.org/a") == "url_failed"


@pytest.mark.check(16)
def test_endless_and_slow_files_are_abandoned(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []

    def endless() -> Iterator[bytes]:
        while True:
            taken.append(1)
            yield b"x" * 1000

    fetch = fetcher(lambda request: httpx.Response(200, content=endless()), max_body_bytes=5000)
    assert code_of(fetch, "http://good.org/a") == "url_failed"
    assert len(taken) == 6
    slow = fetcher(lambda request: httpx.Response(200, content=endless()), fetch_timeout_s=0.05)
    assert code_of(slow, "http://good.org/a") == "url_failed"


@pytest.mark.parametrize("entry", ["", "http://good.org", "good.org/a", "a@good.org", "good.org:x"])
def test_invalid_lists_are_refused(entry: str) -> None:
    with pytest.raises(InputError, match="image_hosts"):
        fetcher(file, image_hosts=(entry,))


def test_invalid_settings_are_refused() -> None:
    with pytest.raises(InputError, match="image_networks"):
        fetcher(file, image_networks=("10.0.0.1/8",))
    with pytest.raises(InputError, match="label_studio_url"):
        fetcher(file, label_studio_url="localhost:8080")


def test_lists_of_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "secret")
    plain = Options(checkpoint="a")
    assert (plain.cvat_clients, plain.image_hosts) == (Options().cvat_clients, ())
    settings = Options.of(
        {"checkpoint": "a", "cvat_clients": "10.0.0.0/8, ::1", "image_hosts": "good.org:80,other.org"}
    )
    assert settings.cvat_clients == ("10.0.0.0/8", "::1")
    assert settings.image_hosts == ("good.org:80", "other.org")
    assert Secrets.of(settings).label_studio == "secret"


class Files(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        data = encoded(picture())
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def port() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Files) as files:
        thread = threading.Thread(target=files.serve_forever)
        thread.start()
        yield files.server_port
        files.shutdown()
        thread.join()


def test_over_a_socket(port: int) -> None:
    settings = Options(
        image_hosts=(f"localhost:{port}",),
        image_networks=("127.0.0.0/8",),
        label_studio_url=f"http://localhost:{port}",
    )
    server = Server(settings)
    for image in (f"http://localhost:{port}/a.png", "/data/upload/3/a.png"):
        assert brush_of(predict(server, key_point(30, 20), image=image)).any()
    assert server.predictor.num_opened == 1, "the same content is the same session"
    locked = Fetcher(Options(image_hosts=(f"localhost:{port}",)))
    assert code_of(locked, f"http://localhost:{port}/a.png") == "url_blocked"


def test_files_of_any_kind_are_accepted() -> None:
    """Label Studio answers 406 if only image/* is accepted, and files are judged by their content anyway."""

    def studio(request: httpx.Request) -> httpx.Response:
        kinds = [kind.split(";")[0].strip() for kind in request.headers["accept"].split(",")]
        return file(request) if "*/*" in kinds else httpx.Response(406)

    assert fetcher(studio).get("http://good.org/a.png") == b"image"
