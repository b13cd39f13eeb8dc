"""The page in a real browser, on the fake predictor: an annotator's actions, and what the canvases then show."""

import contextlib
import io
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvicorn
from PIL import Image

from serve.core.options import Options
from serve.core.tokens import Secrets, Token, digest_of
from serve.engine.engine import Engine
from serve.engine.fleet import Fleet
from serve.http.app import create_app
from tests.serve.browser import Page, chromium
from tests.serve.conftest import encoded, picture
from tests.serve.disks import DiskPredictor

pytestmark = pytest.mark.slow

ALT, CTRL, SHIFT = 1, 2, 8


@contextlib.contextmanager
def running(options: Options, model: Engine | Fleet | None = None, secrets: Secrets | None = None) -> Iterator[str]:
    """Run a server, by default on the fake predictor; yields the page's address."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        app = create_app(model or Engine(DiskPredictor()), options, secrets=secrets)
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        server.should_exit = True
        thread.join(timeout=20)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    examples = tmp_path_factory.mktemp("examples")
    (examples / "scene.png").write_bytes(encoded(picture(40, 60)))
    with running(Options(examples=str(examples))) as address:
        yield address


@pytest.fixture
def page(address: str, tmp_path: Path) -> Iterator[Page]:
    with chromium(tmp_path / "profile", address) as opened:
        yield opened
        assert opened.problems == []


def open_example(page: Page) -> None:
    page.wait("document.querySelectorAll('#examples button').length === 1")
    page.press("#examples button")
    page.wait("document.querySelector('#stage').classList.contains('loaded')")
    page.wait("document.querySelector('#zoom').textContent === '800%'")


def place(page: Page, x: int, y: int) -> tuple[float, float]:
    """Return the place of image pixel (x, y) in the window, in which the image is centred at eight times its size."""
    edges = page.eval("Object.values(document.querySelector('#stage').getBoundingClientRect().toJSON())")
    x0, y0, width, height = edges[:4]
    left, top = x0 + (width - 60 * 8) / 2, y0 + (height - 40 * 8) / 2
    return left + (x + 0.5) * 8, top + (y + 0.5) * 8


def alpha(page: Page, layer: str, x: int, y: int) -> int:
    """Return the opacity (0 to 255) of a layer at image pixel (x, y)."""
    across, down = place(page, x, y)
    return page.eval(
        f"(() => {{ const l = document.querySelector('#{layer}'), b = l.getBoundingClientRect();"
        f"return l.getContext('2d').getImageData({across} - b.x, {down} - b.y, 1, 1).data[3]; }})()"
    )


def settled(page: Page, num_clicks: int) -> None:
    words = f"{num_clicks} click" + ("" if num_clicks == 1 else "s")
    page.wait(f"document.querySelector('#status-clicks').textContent === '{words}'")
    page.wait(f"document.querySelector('#finish').disabled === {json.dumps(num_clicks == 0)}")
    page.eval("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def test_clicks_in_a_hurry_are_all_made(page: Page) -> None:
    open_example(page)
    for x in range(8, 56, 4):
        page.click(*place(page, x, 20))
    settled(page, 12)
    assert all(alpha(page, "mask-layer", x, 24) > 0 for x in range(10, 54, 4))


def test_objects_edit_and_export(page: Page) -> None:
    open_example(page)
    page.eval("URL.createObjectURL = (blob) => { window.saved = blob; return 'data:,'; }")
    for number, x in enumerate((12, 45), start=1):
        page.click(*place(page, x, 20))
        settled(page, 1)
        page.key("Enter")
        page.wait(f"document.querySelectorAll('#objects li').length === {number}")
        settled(page, 0)
    assert alpha(page, "mask-layer", 12, 22) > 0
    page.press("#objects li:first-child .icon[title^=Hide]")
    page.eval("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert alpha(page, "mask-layer", 12, 22) == 0
    page.press("#objects li:first-child .icon[title^=Edit]")
    settled(page, 1)
    page.click(*place(page, 12, 30))
    settled(page, 2)
    page.key("Enter")
    settled(page, 0)
    page.press("#export-coco")
    coco: dict[str, Any] = json.loads(page.eval("window.saved.text()"))
    assert coco["images"] == [{"id": 1, "file_name": "scene.png", "width": 60, "height": 40}]
    assert [category["name"] for category in coco["categories"]] == ["Object 1", "Object 2"]
    assert [annotation["bbox"] for annotation in coco["annotations"]] == [[6, 14, 13, 23], [39, 14, 13, 13]]
    saved = "window.saved.arrayBuffer().then((b) => [...new Uint8Array(b)])"
    page.eval("window.saved = null")
    page.press("#export-index")
    page.wait("window.saved !== null")
    index = Image.open(io.BytesIO(bytes(page.eval(saved))))
    values = np.asarray(index)
    assert (index.mode, values.shape) == ("P", (40, 60))
    assert [int(values[y, x]) for x, y in ((12, 20), (12, 30), (45, 20), (30, 5))] == [1, 1, 2, 0]
    page.press("#objects li:first-child .icon[title^=Delete]")
    assert page.eval("document.querySelectorAll('#objects li').length") == 1


def test_the_page_works_with_the_keyboard_alone(page: Page) -> None:
    open_example(page)
    page.key("a")  # shows the cursor, in the middle
    page.key("a")
    settled(page, 1)
    assert alpha(page, "mask-layer", 30, 22) > 0
    for _ in range(12):
        page.key("ArrowRight")
    page.key("a")
    settled(page, 2)
    assert alpha(page, "mask-layer", 42, 22) > 0
    page.key("s")
    settled(page, 3)
    assert alpha(page, "mask-layer", 42, 22) == 0
    page.key("Enter")
    page.wait("document.querySelectorAll('#objects li').length === 1")


def test_zoom_and_pan_keep_clicks_on_their_pixels(page: Page) -> None:
    open_example(page)
    across, down = place(page, 10, 10)
    page.mouse("mouseWheel", across, down, "none", deltaX=0, deltaY=-400)
    page.wait("document.querySelector('#zoom').textContent !== '800%'")
    page.click(across, down)  # what was under the cursor still is
    settled(page, 1)
    page.send("Input.dispatchKeyEvent", type="keyDown", key=" ", code="Space")
    page.mouse("mousePressed", across, down)
    page.mouse("mouseMoved", across + 200, down + 90, buttons=1)
    page.mouse("mouseReleased", across + 200, down + 90)
    page.send("Input.dispatchKeyEvent", type="keyUp", key=" ", code="Space")
    settled(page, 1)
    page.key("f")
    page.wait("document.querySelector('#zoom').textContent === '800%'")
    settled(page, 1)
    assert alpha(page, "click-layer", 10, 10) == 255


def test_files_that_are_not_images_are_refused_with_a_message(page: Page, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(encoded(picture())[:200])
    page.upload("#file", broken)
    page.wait("document.querySelector('.toast p')?.textContent.includes('damaged')")
    page.problems.clear()  # the browser logs the refusal itself
    whole = tmp_path / "whole.png"
    whole.write_bytes(encoded(picture()))
    page.upload("#file", whole)
    page.wait("document.querySelector('#stage').classList.contains('loaded')")
    page.wait("document.querySelector('#zoom').textContent === '800%'")
    page.click(*place(page, 30, 20))
    settled(page, 1)


def test_a_session_that_the_server_lost_is_rebuilt(page: Page) -> None:
    page.eval(
        "window.ids = []; const real = window.WebSocket; window.WebSocket = class extends real {"
        "constructor(url, ...rest) { super(url, ...rest);"
        "window.ids.push(String(url).match(/sessions\\/([^/]+)/)[1]); }}"
    )
    open_example(page)
    page.click(*place(page, 30, 20))
    settled(page, 1)
    page.eval("fetch(`v1/sessions/${window.ids[0]}`, {method: 'DELETE'})")
    page.click(*place(page, 12, 20))
    settled(page, 2)
    assert alpha(page, "mask-layer", 30, 23) > 0
    assert alpha(page, "mask-layer", 12, 23) > 0
    assert len(set(page.eval("window.ids"))) == 2
    page.problems.clear()  # the browser logs the 404 itself


def test_only_a_session_without_work_ends_with_the_page_and_is_opened_again(page: Page) -> None:
    open_example(page)
    page.eval(
        "window.deleted = []; window.real = window.fetch; window.fetch = (url, options) => {"
        "if (options?.method === 'DELETE') window.deleted.push(window.real(url, options)); "
        "return window.real(url, options); }"
    )
    page.eval("window.dispatchEvent(new PageTransitionEvent('pagehide', {persisted: true}))")
    assert page.eval("window.deleted.length") == 0, "a page that may come back keeps its session"
    page.eval("window.dispatchEvent(new PageTransitionEvent('pagehide', {persisted: false}))")
    assert page.eval("Promise.all(window.deleted).then((all) => all.length)") == 1
    page.click(*place(page, 30, 20))
    settled(page, 1)
    page.eval("window.dispatchEvent(new PageTransitionEvent('pagehide', {persisted: false}))")
    assert page.eval("window.deleted.length") == 1, "what was clicked is there after a reload"
    page.click(*place(page, 12, 20))
    settled(page, 2)
    assert alpha(page, "mask-layer", 30, 23) > 0
    assert alpha(page, "mask-layer", 12, 23) > 0
    page.problems.clear()  # the browser logs the 404 itself


def finished_object(page: Page, x: int) -> None:
    page.click(*place(page, x, 20))
    settled(page, 1)
    page.key("Enter")
    settled(page, 0)


WARNS = (
    "(() => { const event = new Event('beforeunload', {cancelable: true});"
    "window.dispatchEvent(event); return event.defaultPrevented; })()"
)
NUM_OBJECTS = "document.querySelectorAll('#objects li').length"


def test_opening_another_image_asks_about_unexported_objects(page: Page, tmp_path: Path) -> None:
    open_example(page)
    page.eval("URL.createObjectURL = (blob) => { window.saved = blob; return 'data:,'; }")
    other = tmp_path / "other.png"
    other.write_bytes(encoded(picture()))
    assert page.eval(WARNS) is False
    finished_object(page, 12)
    assert page.eval(WARNS) is True
    page.upload("#file", other)
    page.wait("document.querySelector('#leave').open")
    page.press("#leave button[value='']")
    assert (page.eval(NUM_OBJECTS), page.eval("window.saved")) == (1, None), "cancelled"
    page.press("#objects li:first-child .icon[title^=Edit]")
    settled(page, 1)
    page.upload("#file", other)
    page.wait("document.querySelector('#leave').open")
    page.press("#leave button[value=export]")
    page.wait("document.querySelector('#file-name').textContent === 'other.png'")
    assert page.eval(NUM_OBJECTS) == 0
    coco = json.loads(page.eval("window.saved.text()"))
    assert len(coco["annotations"]) == 1, "the object that was being edited is not lost"
    assert page.eval(WARNS) is False
    finished_object(page, 12)
    page.press("#export-coco")
    assert page.eval(WARNS) is False, "exported"
    finished_object(page, 45)
    page.upload("#file", other)
    page.wait("document.querySelector('#leave').open")
    page.press("#leave button[value=discard]")
    page.wait(f"{NUM_OBJECTS} === 0")


def test_an_image_that_the_browser_cannot_show_leaves_no_session(page: Page) -> None:
    page.eval("window.createImageBitmap = () => Promise.reject(new Error('cannot show it'))")
    page.wait("document.querySelectorAll('#examples button').length === 1")
    before = page.eval("fetch('v1/health').then((answer) => answer.json()).then(({sessions}) => sessions)")
    page.press("#examples button")
    page.wait("document.querySelector('.toast p')?.textContent.includes('cannot show it')")
    page.wait(f"fetch('v1/health').then((a) => a.json()).then(({{sessions}}) => sessions === {before})")


def test_a_finger_taps_and_drags(page: Page) -> None:
    open_example(page)
    page.send("Emulation.setTouchEmulationEnabled", enabled=True, maxTouchPoints=2)

    def touch(*places: tuple[float, float]) -> None:
        page.send("Input.dispatchTouchEvent", type="touchStart", touchPoints=[{"x": places[0][0], "y": places[0][1]}])
        for x, y in places[1:]:
            page.send("Input.dispatchTouchEvent", type="touchMove", touchPoints=[{"x": x, "y": y}])
        page.send("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])

    touch(place(page, 30, 20))
    settled(page, 1)
    page.press("#mode-remove")
    touch(place(page, 35, 20))
    settled(page, 2)
    assert alpha(page, "mask-layer", 33, 20) == 0
    assert alpha(page, "mask-layer", 26, 20) > 0
    touch(place(page, 10, 10), place(page, 15, 12), place(page, 25, 15))
    settled(page, 2)
    assert alpha(page, "mask-layer", 26 + 15, 20 + 5) > 0, "a drag moves the image and clicks nothing"


def test_the_page_prompts_for_a_token_that_the_server_requires(tmp_path: Path) -> None:
    (tmp_path / "scene.png").write_bytes(encoded(picture(40, 60)))
    token = Token(name="anna", role="annotator", sha256=digest_of("the secret"))
    with running(Options(examples=str(tmp_path)), secrets=Secrets(tokens=(token,))) as address:
        with chromium(tmp_path / "brought", f"{address}#token=the%20secret") as page:
            open_example(page)
            page.click(*place(page, 30, 20))
            settled(page, 1)
            assert page.eval("location.hash") == ""
            page.wait("document.querySelector('#examples img').naturalWidth === 60")
            assert page.problems == []
        with chromium(tmp_path / "asked", "about:blank") as page:
            answer = "window.asked = 0; window.prompt = () => { window.asked += 1; return ' the secret '; }"
            page.send("Page.addScriptToEvaluateOnNewDocument", source=answer)
            page.send("Page.navigate", url=address)
            open_example(page)
            page.click(*place(page, 30, 20))
            settled(page, 1)
            assert page.eval("window.asked") == 1, "though several requests were refused"
            assert all("401" in problem for problem in page.problems)
