"""The page in a real browser, /v1 and Label Studio's calls, behind a proxy that shows the server below a path."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import uvicorn

from serve.client import Client
from serve.core.options import Options
from serve.core.tokens import Secrets, Token, digest_of
from tests.serve.browser import chromium
from tests.serve.conftest import encoded, picture
from tests.serve.reverse_proxy import ReverseProxy
from tests.serve.test_browser import alpha, open_example, place, running, settled

PREFIX = "/tools/masks"


@contextmanager
def proxied(options: Options, secrets: Secrets | None = None, **of_proxy: object) -> Iterator[tuple[ReverseProxy, str]]:
    """A server behind a proxy: the proxy, and the page's address through it."""
    with running(options, secrets=secrets) as upstream, socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        proxy = ReverseProxy(upstream.rstrip("/"), PREFIX, **of_proxy)  # pyright: ignore[reportArgumentType]
        server = uvicorn.Server(uvicorn.Config(proxy, log_level="warning", lifespan="off", proxy_headers=False))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        yield proxy, f"http://127.0.0.1:{listener.getsockname()[1]}{PREFIX}/"
        server.should_exit = True
        thread.join(timeout=20)


@pytest.fixture
def examples(tmp_path: Path) -> str:
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples" / "scene.png").write_bytes(encoded(picture(40, 60)))
    return str(tmp_path / "examples")


@pytest.mark.parametrize(
    ("strips", "root_path", "named"),
    [(True, PREFIX, {}), (False, PREFIX, {}), (True, "", {"X-Forwarded-Prefix": PREFIX})],
    ids=["taken off", "left on", "named by the proxy"],
)
def test_the_page_works_below_a_path(
    strips: bool, root_path: str, named: dict[str, str], examples: str, tmp_path: Path
) -> None:
    options = Options(examples=examples, root_path=root_path)
    with (
        proxied(options, strips=strips, named=named) as (proxy, address),
        chromium(tmp_path / "profile", address) as page,
    ):
        open_example(page)
        page.click(*place(page, 30, 20))
        settled(page, 1)
        assert alpha(page, "mask-layer", 33, 20) == pytest.approx(115, abs=3)
        page.click(*place(page, 35, 20), button="right")
        settled(page, 2)
        page.key("z", "KeyZ", 2)
        settled(page, 1)
        page.screenshot(tmp_path / "page.png")
        page.reload()
        page.wait("document.querySelector('#status-clicks').textContent === '1 click'")
        assert page.problems == []
        assert all(path.startswith(f"{PREFIX}/") for path in proxy.asked), "the page asks for nothing elsewhere"
        assert any(path.endswith("/live") for path in proxy.asked)


def test_other_clients_work_below_a_path(examples: str) -> None:
    with proxied(Options(examples=examples, root_path=PREFIX), strips=False) as (proxy, address):
        with Client(address) as client, client.open(encoded(picture())) as session:
            over_http = session.click(x=30, y=20)
            with session.live() as live:
                assert (live.click(x=35, y=20, positive=False) != over_http).any()
        with httpx.Client(base_url=address, trust_env=False) as http:
            assert http.get("ls/health").json()["status"] == "UP"
            assert http.post("ls/setup", json={}).status_code == 200
            document = http.get("openapi.json").json()
            assert document["servers"] == [{"url": PREFIX}]
            assert http.get(httpx.URL(address).join(f"{PREFIX}/v1/models")).status_code == 200
        root = proxy.upstream  # CVAT takes host and port alone
        assert list(httpx.get(f"{root}/api/functions", trust_env=False).json()) == ["maskwright"]


def test_two_servers_of_one_origin_share_nothing_in_the_browser(examples: str, tmp_path: Path) -> None:
    token = Token(name="anna", role="annotator", sha256=digest_of("the secret"))
    options = Options(examples=examples, root_path=PREFIX)
    with (
        proxied(options, Secrets(tokens=(token,)), strips=True) as (_, address),
        chromium(tmp_path / "profile", f"{address}#token=the%20secret") as page,
    ):
        open_example(page)
        page.click(*place(page, 30, 20))
        settled(page, 1)
        kept = page.eval("[...Object.keys(localStorage), ...Object.keys(sessionStorage)]")
        assert len(kept) >= 3
        assert all(f"{PREFIX}/" in key for key in kept), kept
        assert page.problems == []
