"""A server below a path of a proxy, which strips the path or keeps it: page, /v1, sockets and /ls."""

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
from websockets.sync.client import connect

from serve.client import Client
from serve.core.options import Options
from tests.serve.browser import chromium
from tests.serve.conftest import encoded, picture
from tests.serve.processes import client, served
from tests.serve.reverse_proxy import ReverseProxy, behind
from tests.serve.test_browser import alpha, open_example, place, running, settled
from tests.serve.test_model import small_checkpoint

__all__ = ["small_checkpoint"]

PATH = "/tools/maskwright"


@pytest.fixture(params=["taken off and said", "left, and an option", "taken off, and an option"])
def proxy(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ReverseProxy]:
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples" / "scene.png").write_bytes(encoded(picture(40, 60)))
    said = "said" in request.param
    options = Options(examples=str(tmp_path / "examples"), root_path="" if said else PATH)
    with running(options) as address:
        port = urlsplit(address).port
        assert port is not None
        says = {"X-Forwarded-Prefix": PATH} if said else {}
        with behind(ReverseProxy(path=PATH, behind=port, takes_off="off" in request.param, says=says)) as proxy:
            yield proxy


def test_clients_work_below_the_path(proxy: ReverseProxy) -> None:
    address = f"http://localhost:{proxy.port}{PATH}"
    with Client(address, tries=1) as one, one.open(encoded(picture())) as session:
        mask = session.click(30, 20)
        session.undo()
        with session.live() as live:
            np.testing.assert_array_equal(live.click(30, 20), mask)
    with httpx.Client(trust_env=False) as http:
        assert http.get(f"{address}/ls/health").json()["status"] == "UP"
        document = http.get(f"{address}/openapi.json").json()
        assert document["servers"] == [{"url": PATH}]
        assert "/v1/models" in document["paths"]
        moved = http.get(f"{address}/v1/models/")
        assert moved.headers["location"] == f"http://localhost:{proxy.port}{PATH}/v1/models"
        if not proxy.takes_off:
            bare = http.get(address)
            assert (bare.status_code, bare.headers["location"]) == (307, f"{address}/")
        foreign = http.post(f"{address}/v1/sessions", headers={"Origin": "http://evil.example"})
        assert foreign.json()["code"] == "bad_origin"
        direct = f"http://localhost:{proxy.behind}"
        assert http.get(f"{direct}/api/functions").json().keys() == {"maskwright"}
        assert http.get(f"{direct}/api/functions/maskwright").status_code == 200
        assert http.post(f"{direct}/api/function_invocations", json={}).json()["code"] == "bad_request"
    assert proxy.refused == []


@pytest.mark.slow
def test_the_page_works_below_the_path(proxy: ReverseProxy, tmp_path: Path) -> None:
    with chromium(tmp_path / "profile", f"http://localhost:{proxy.port}{PATH}/") as page:
        page.eval(
            "{ const made = window.WebSocket; window.sockets = []; window.WebSocket = class extends made {"
            " constructor(...given) { super(...given); window.sockets.push(this); } }; }"
        )
        open_example(page)
        page.click(*place(page, 30, 20))
        settled(page, 1)
        page.click(*place(page, 35, 20), button="right")
        settled(page, 2)
        assert alpha(page, "mask-layer", 26, 20) > 0
        assert alpha(page, "mask-layer", 33, 20) == 0
        page.key("Enter")
        page.wait("document.querySelectorAll('#objects li').length === 1")
        (url,) = page.eval("window.sockets.filter((each) => each.readyState === 1).map((each) => each.url)")
        assert url.startswith(f"ws://localhost:{proxy.port}{PATH}/v1/sessions/")
        page.screenshot(tmp_path / "page.png")
        page.press("#undo")
        stored = page.eval("[...Object.keys(localStorage), ...Object.keys(sessionStorage)]")
        assert stored
        assert all(PATH in key for key in stored), "another server below the same origin has other keys"
        page.reload()
        page.wait("document.querySelectorAll('#objects li').length === 1")
        assert page.problems == []
    assert proxy.refused == []


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_server_behind_ray_serves_proxies_works_below_the_path(small_checkpoint: Path, tmp_path: Path) -> None:
    options = ("--proxy", "--root-path", PATH, "--opens-per-minute", "1", "--hosts", "m.example")
    with served(small_checkpoint, tmp_path, *options) as running, client(running) as http:
        said = {"X-Forwarded-Host": "m.example", "X-Forwarded-Proto": "https"}
        for path in ("", PATH):
            moved = http.get(f"{path}/v1/models/", headers=said)
            assert (moved.status_code, moved.headers["location"]) == (307, f"https://m.example{PATH}/v1/models")
        image = {"content": encoded(picture()), "headers": {"Content-Type": "image/png"}}
        found = []
        for name in ("1.1.1.1", "2.2.2.2", "1.1.1.1", "9.9.9.9, 2.2.2.2"):
            image["headers"]["X-Forwarded-For"] = name
            found.append(http.post(f"{PATH}/v1/sessions", **image).status_code)
        assert found == [201, 201, 429, 429]
        session = http.post("/v1/sessions", **image | {"headers": {"Content-Type": "image/png"}}).json()["session_id"]
        url = f"{running.address}{PATH}/v1/sessions/{session}/live".replace("http", "ws")
        with connect(url, additional_headers={"Forwarded": "for=3.3.3.3"}, proxy=None) as socket:
            socket.send(json.dumps({"kind": "click", "x": 5, "y": 5}))
            assert json.loads(socket.recv(30))["sequence"] == 1


@pytest.mark.slow
def test_pages_below_other_paths_of_one_origin_do_not_offer_each_others_work(tmp_path: Path) -> None:
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples" / "scene.png").write_bytes(encoded(picture(40, 60)))
    with (
        running(Options(examples=str(tmp_path / "examples"), root_path=PATH)) as address,
        chromium(tmp_path / "profile", f"{address}{PATH[1:]}/") as page,
    ):
        open_example(page)
        page.click(*place(page, 30, 20))
        settled(page, 1)
        page.key("Enter")
        page.wait("document.querySelectorAll('#objects li').length === 1")
        page.send("Page.navigate", url=address)  # where there might be another server
        page.wait("document.querySelectorAll('#examples button').length === 1")
        page.wait("document.querySelector('#examples img').naturalWidth === 60")
        assert page.eval("document.querySelector('#left-block').hidden")
        page.send("Page.navigate", url=f"{address}{PATH[1:]}/")
        page.wait("document.querySelectorAll('#objects li').length === 1")
        assert page.problems == []
