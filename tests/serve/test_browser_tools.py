"""The page's tools in a real browser, on the fake predictor: what an annotator does besides clicking."""

import io
import json
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from models import rle
from serve.core.options import Options
from tests.serve.browser import Page, chromium
from tests.serve.conftest import encoded, picture
from tests.serve.test_browser import NUM_OBJECTS, SHIFT, alpha, open_example, place, running, settled

pytestmark = pytest.mark.slow

SOCKETS = (
    "window.sockets = []; const real = window.WebSocket;"
    "window.WebSocket = class extends real { constructor(...given) { super(...given); window.sockets.push(this); } };"
)
TWO_FRAMES = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    examples = tmp_path_factory.mktemp("examples")
    for number, name in enumerate(("a.png", "b.png", "c.png")):
        (examples / name).write_bytes(encoded(np.roll(picture(40, 60), number, axis=0)))
    with running(Options(examples=str(examples))) as address:
        yield address


@pytest.fixture
def page(address: str, tmp_path: Path) -> Iterator[Page]:
    with chromium(tmp_path / "profile", "about:blank") as opened:
        opened.send("Page.addScriptToEvaluateOnNewDocument", source=SOCKETS)
        opened.send("Page.navigate", url=address)
        opened.wait("document.querySelectorAll('#examples button').length === 3")
        yield opened
        assert opened.problems == []


def open_first(page: Page) -> None:
    page.press("#examples button")
    page.wait("document.querySelector('#zoom').textContent === '800%'")
    page.wait("window.sockets.length > 0 && window.sockets.at(-1).readyState === 1")


def hold(page: Page, key: str, down: bool, modifiers: int = 0) -> None:
    page.send("Input.dispatchKeyEvent", type="keyDown" if down else "keyUp", key=key, modifiers=modifiers)


def saved(page: Page, button: str) -> bytes:
    """Press an export's button, and return what it would have saved."""
    page.eval("window.saved = null; URL.createObjectURL = (blob) => { window.saved = blob; return 'data:,'; }; 0")
    page.press(button)
    page.wait("window.saved !== null")
    return bytes(page.eval("window.saved.arrayBuffer().then((b) => [...new Uint8Array(b)])"))


def finish(page: Page, *clicks: tuple[int, int]) -> None:
    for number, (x, y) in enumerate(clicks, start=1):
        page.click(*place(page, x, y))
        settled(page, number)
    page.key("Enter")
    settled(page, 0)


def test_clicks_go_over_the_socket_and_survive_its_end(page: Page) -> None:
    open_first(page)
    page.eval("window.posts = 0; const plain = window.fetch; window.fetch = (url, options) => {"
              "window.posts += options?.method === 'POST'; return plain(url, options); }; 0")  # fmt: skip
    page.click(*place(page, 10, 20))
    settled(page, 1)
    assert page.eval("window.posts") == 0
    page.eval("window.sockets[0].close()")
    for x in (20, 30, 40):
        page.click(*place(page, x, 20))
    settled(page, 4)
    assert page.eval("window.posts") > 0, "no socket, so HTTP"
    assert all(alpha(page, "mask-layer", x, 23) > 0 for x in (10, 20, 30, 40))
    page.wait("window.sockets.at(-1).readyState === 1")
    before = page.eval("[window.sockets.length, window.posts = 0]")[0]
    page.click(*place(page, 50, 20))
    settled(page, 5)
    assert page.eval("[window.sockets.length, window.posts]") == [before, 0], "over the new socket"


def test_clicks_in_flight_when_a_socket_ends_are_made_exactly_once(page: Page) -> None:
    open_first(page)
    for x in (10, 20, 30, 40, 50):
        page.click(*place(page, x, 20))
        page.eval("window.sockets.at(-1).close()")
    settled(page, 5)
    assert all(alpha(page, "mask-layer", x, 23) > 0 for x in (10, 20, 30, 40, 50))
    session = page.eval("window.sockets.at(-1).url.match(/sessions\\/([^/]+)/)[1]")
    state = page.eval(f"fetch('v1/sessions/{session}').then((answer) => answer.json())")
    assert [click["x"] for click in state["clicks"]] == [10, 20, 30, 40, 50]


def test_without_websockets_everything_goes_over_http(address: str, tmp_path: Path) -> None:
    with chromium(tmp_path / "profile", "about:blank") as page:
        broken = "window.WebSocket = class { constructor() { throw new Error('no sockets here'); } }"
        page.send("Page.addScriptToEvaluateOnNewDocument", source=broken)
        page.send("Page.navigate", url=address)
        page.wait("document.querySelectorAll('#examples button').length === 3")
        page.press("#examples button")
        page.wait("document.querySelector('#zoom').textContent === '800%'")
        for x in (10, 20, 30):
            page.click(*place(page, x, 20))
        settled(page, 3)
        page.press("#undo")
        settled(page, 2)
        assert (alpha(page, "mask-layer", 20, 23) > 0, alpha(page, "mask-layer", 30, 23)) == (True, 0)
        assert page.problems == []


def test_undo_brings_back_what_was_cleared_and_deleted(page: Page) -> None:
    open_first(page)
    for number, x in enumerate((10, 30, 50), start=1):
        page.click(*place(page, x, 20))
        settled(page, number)
    time.sleep(0.5)  # sooner it would be a double click
    page.click(*place(page, 30, 20))
    settled(page, 2)
    inside = [alpha(page, "mask-layer", x, 23) > 0 for x in (10, 30, 50)]
    assert inside == [True, False, True], "the click whose dot was pressed is gone"
    page.press("#clear")
    settled(page, 0)
    page.press("#undo")
    settled(page, 2)
    page.press("#undo")
    settled(page, 3)
    assert all(alpha(page, "mask-layer", x, 23) > 0 for x in (10, 30, 50))
    page.press("#redo")
    settled(page, 2)
    assert alpha(page, "mask-layer", 30, 23) == 0


def test_a_double_click_keeps_its_click(page: Page) -> None:
    open_first(page)
    page.click(*place(page, 30, 20))
    page.click(*place(page, 30, 20))
    settled(page, 1)
    assert alpha(page, "mask-layer", 30, 23) > 0


def test_shift_collects_clicks(page: Page) -> None:
    open_first(page)
    hold(page, "Shift", down=True, modifiers=SHIFT)
    for x in (10, 30, 50):
        page.click(*place(page, x, 20), modifiers=SHIFT)
    page.wait("document.querySelector('#status-clicks').textContent === '3 clicks'")
    time.sleep(0.3)
    assert page.eval("document.querySelector('#finish').disabled") is True
    assert [alpha(page, "mask-layer", x, 23) for x in (10, 30, 50)] == [0, 0, 0]
    assert alpha(page, "click-layer", 30, 20) > 0, "shown, and pale"
    hold(page, "Shift", down=False)
    settled(page, 3)
    assert all(alpha(page, "mask-layer", x, 23) > 0 for x in (10, 30, 50))


MAGNIFIED = "document.querySelector('#magnifier')"


def test_the_magnifier_shows_what_is_under_the_pointer(page: Page) -> None:
    open_first(page)
    across, down = place(page, 30, 20)
    page.mouse("mouseMoved", across, down, "none")
    assert page.eval(f"{MAGNIFIED}.hidden") is True
    page.key("m")
    page.mouse("mouseMoved", across + 1, down + 1, "none")
    page.eval(TWO_FRAMES)
    assert page.eval(f"{MAGNIFIED}.hidden") is False
    # The pixel under the pointer fills the middle, beside the cross: 32 times its size.
    shown = page.eval(f"[...{MAGNIFIED}.getContext('2d').getImageData(96, 80, 1, 1).data]")
    assert shown[:3] == [int(value) for value in picture(40, 60)[20, 30]]
    page.key("m")
    assert page.eval(f"{MAGNIFIED}.hidden") is True
    for _ in range(2):
        page.key("ArrowRight")
    page.key("m")
    assert page.eval(f"{MAGNIFIED}.hidden") is False, "beside the keyboard's cursor, too"


def test_fingers(page: Page) -> None:
    open_first(page)
    page.send("Emulation.setTouchEmulationEnabled", enabled=True, maxTouchPoints=2)

    def touch(kind: str, *places: tuple[float, float]) -> None:
        page.send("Input.dispatchTouchEvent", type=kind, touchPoints=[{"x": x, "y": y} for x, y in places])

    touch("touchStart", place(page, 30, 20))
    page.wait(f"{MAGNIFIED}.hidden === false")
    touch("touchEnd")
    settled(page, 1)
    assert page.eval(f"{MAGNIFIED}.hidden") is True
    touch("touchStart", place(page, 35, 20))
    settled(page, 2)  # still down: that was long enough
    touch("touchEnd")
    time.sleep(0.2)
    settled(page, 2)
    assert alpha(page, "mask-layer", 33, 20) == 0, "a long press has the other sign"
    assert alpha(page, "mask-layer", 26, 20) > 0
    left, right = place(page, 25, 20), place(page, 35, 20)
    touch("touchStart", left, right)
    touch("touchMove", (left[0] - 40, left[1]), (right[0] + 40, right[1]))
    touch("touchEnd")
    page.wait("document.querySelector('#zoom').textContent === '1600%'")
    settled(page, 2)


def test_the_folder_one_image_after_the_other(page: Page) -> None:
    open_first(page)
    name = "document.querySelector('#file-name').textContent"
    assert page.eval("document.querySelector('#folder-at').textContent") == "1 / 3"
    assert page.eval("document.querySelector('#previous').disabled") is True
    finish(page, (12, 20))
    page.click(*place(page, 45, 20))
    page.key("PageDown")  # what is being made is finished first, though its answer is on its way
    page.wait(f"{name} === 'b.png'")
    assert page.eval(NUM_OBJECTS) == 0
    page.press("#next")
    page.wait(f"{name} === 'c.png'")
    assert page.eval("document.querySelector('#next').disabled") is True
    finish(page, (30, 20))
    coco = json.loads(saved(page, "#export-coco"))
    assert [image["file_name"] for image in coco["images"]] == ["a.png", "c.png"]
    assert [annotation["image_id"] for annotation in coco["annotations"]] == [1, 1, 2]
    for _ in range(2):
        before = page.eval(name)
        page.key("PageUp")
        page.wait(f"{name} !== {json.dumps(before)}")
    page.wait(f"{name} === 'a.png' && {NUM_OBJECTS} === 2")
    page.eval(TWO_FRAMES)
    assert alpha(page, "mask-layer", 12, 23) > 0
    page.press("#objects li:first-child .icon[title^=Edit]")
    settled(page, 1)


def disk(x: int, y: int) -> np.ndarray:
    rows, columns = np.ogrid[:40, :60]
    return (rows - y) ** 2 + (columns - x) ** 2 <= 64


def test_a_mask_from_a_file_is_corrected(page: Page, tmp_path: Path) -> None:
    open_first(page)
    (tmp_path / "mask.png").write_bytes(encoded(Image.fromarray(disk(20, 20).astype(np.uint8) * 255)))
    page.upload("#mask-file", tmp_path / "mask.png")
    page.wait("document.querySelector('#finish').disabled === false")
    page.eval(TWO_FRAMES)
    assert (alpha(page, "mask-layer", 20, 20) > 0, alpha(page, "mask-layer", 40, 20)) == (True, 0)
    page.click(*place(page, 40, 20))
    settled(page, 1)
    assert all(alpha(page, "mask-layer", x, 23) > 0 for x in (20, 40)), "the session began with the mask"
    page.key("Enter")
    settled(page, 0)
    finish(page, (50, 30))
    assert alpha(page, "mask-layer", 50, 33) > 0
    coco = json.loads(saved(page, "#export-coco"))
    first, second = (rle.decode(annotation["segmentation"]) for annotation in coco["annotations"])
    assert first[20, 20]
    assert first[20, 40]
    assert not second[20, 20], "the next object begins with nothing"
    page.press("#objects li:first-child .icon[title^=Edit]")
    settled(page, 1)
    page.press("#undo") if page.eval("!document.querySelector('#undo').disabled") else page.press("#clear")
    page.wait("document.querySelector('#status-clicks').textContent === '0 clicks'")
    page.wait("document.querySelector('#finish').disabled === false")
    page.eval(TWO_FRAMES)
    assert alpha(page, "mask-layer", 40, 20) == 0
    assert alpha(page, "mask-layer", 20, 17) > 0, "without clicks it is the mask of the file"


def test_masks_from_json(page: Page, tmp_path: Path) -> None:
    open_first(page)
    path = tmp_path / "mask.json"
    path.write_text(json.dumps(rle.encode(disk(30, 20))))
    page.upload("#mask-file", path)
    page.wait("document.querySelector('#finish').disabled === false")
    page.key("Enter")
    page.wait(f"{NUM_OBJECTS} === 1")
    annotations = [
        {"id": n, "image_id": 1, "category_id": 7, "segmentation": dict(rle.encode(disk(x, 20)))}
        for n, x in ((1, 10), (2, 50))
    ]
    path.write_text(json.dumps({"categories": [{"id": 7, "name": "car"}], "annotations": annotations}))
    page.upload("#mask-file", path)
    page.wait(f"{NUM_OBJECTS} === 3")
    page.eval(TWO_FRAMES)
    assert page.eval("[...document.querySelectorAll('#objects .name')].map(({ value }) => value)")[1:] == ["car"] * 2
    assert all(alpha(page, "mask-layer", x, 23) > 0 for x in (10, 30, 50))
    path.write_text(json.dumps(rle.encode(np.ones((3, 5), bool))))
    page.upload("#mask-file", path)
    page.wait("document.querySelector('.toast p')?.textContent.includes('5 × 3')")
    path.write_text("{}")
    page.upload("#mask-file", path)
    page.wait("[...document.querySelectorAll('.toast p')].at(-1).textContent.includes('no mask in this JSON')")


def test_exports_are_read_by_the_usual_tools(page: Page, tmp_path: Path) -> None:
    from pycocotools.coco import COCO

    open_first(page)
    page.eval("const name = document.querySelector('#class'); name.value = 'cat'; "
              "name.dispatchEvent(new Event('change')); 0")  # fmt: skip
    finish(page, (12, 20), (18, 24))
    finish(page, (40, 20))
    page.click(*place(page, 30, 30))
    settled(page, 1)
    page.click(*place(page, 31, 31), button="right")  # nothing left but a sickle
    settled(page, 2)
    page.key("Enter")
    settled(page, 0)

    def read(name: str) -> COCO:
        (tmp_path / name).write_bytes(saved(page, "#export-coco"))
        return COCO(str(tmp_path / name))

    exact = read("exact.json")
    assert [exact.cats[1]["name"], len(exact.cats), len(exact.anns)] == ["cat", 1, 3]
    masks = [exact.annToMask(annotation) for annotation in exact.anns.values()]
    assert [mask.shape for mask in masks] == [(40, 60)] * 3
    assert [int(mask.sum()) for mask in masks] == [annotation["area"] for annotation in exact.anns.values()]
    assert masks[1][20, 40] == 1
    page.press("#polygons")
    rough = read("polygons.json")
    assert isinstance(rough.anns[1]["segmentation"], list)
    for annotation, mask in zip(rough.anns.values(), masks, strict=True):
        other = rough.annToMask(annotation)
        overlap = (mask & other).sum() / (mask | other).sum()
        assert overlap > 0.9, "pycocotools rounds polygons by half a pixel"
    with zipfile.ZipFile(io.BytesIO(saved(page, "#export-objects"))) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == [f"a-{number:03}-cat.png" for number in (1, 2, 3)]
        for name, mask in zip(archive.namelist(), masks, strict=True):
            values = np.asarray(Image.open(io.BytesIO(archive.read(name))))
            assert np.array_equal(values, mask * 255)


def test_a_4k_image(address: str, tmp_path: Path) -> None:
    columns = np.linspace(0, 255, 3840, dtype=np.uint8)
    image = np.broadcast_to(columns[None, :, None], (2160, 3840, 3))
    (tmp_path / "large.jpg").write_bytes(encoded(np.ascontiguousarray(image), "JPEG"))
    with chromium(tmp_path / "profile", address, 1400, 900) as page:
        page.wait("document.querySelectorAll('#examples button').length === 3")
        page.upload("#file", tmp_path / "large.jpg")
        page.wait("document.querySelector('#status-size').textContent === '3840 × 2160'")
        edges: dict[str, Any] = page.eval("document.querySelector('#stage').getBoundingClientRect().toJSON()")
        across, down = edges["left"] + edges["width"] / 2, edges["top"] + edges["height"] / 2
        page.click(across, down)
        settled(page, 1)
        started = time.monotonic()
        page.click(across + 40, down)
        settled(page, 2)
        assert time.monotonic() - started < 3, "the fake needs 0.2 s"
        for _ in range(8):
            page.mouse("mouseWheel", across, down, "none", deltaX=0, deltaY=-300)
        page.eval(TWO_FRAMES)
        place_in = f"{across} - edges.x, {down} - edges.y"
        shown = page.eval(
            "(() => { const edges = document.querySelector('#stage').getBoundingClientRect();"
            "return ['image-layer', 'mask-layer'].map((id) => [...document.getElementById(id).getContext('2d')"
            f".getImageData({place_in}, 1, 1).data]); }})()"
        )
        assert abs(shown[0][0] - 127) <= 3, "what was under the pointer still is"
        assert shown[1][3] > 0
        frames = page.eval(
            "new Promise((done) => { const times = []; const tick = (now) => { times.push(now);"
            "const wheel = new WheelEvent('wheel', {deltaY: times.length < 20 ? 30 : -30, clientX: 500, clientY: 400,"
            "bubbles: true, cancelable: true}); document.querySelector('#stage').dispatchEvent(wheel);"
            "if (times.length < 40) requestAnimationFrame(tick);"
            "else done(times.slice(1).map((time, i) => time - times[i])); }; requestAnimationFrame(tick); })"
        )
        assert float(np.median(frames)) < 60, "milliseconds for a frame while zooming"
        page.key("Enter")
        page.wait(f"{NUM_OBJECTS} === 1")
        assert page.problems == []


def test_the_first_example_still_opens_alone(tmp_path: Path) -> None:
    """A folder of one image shows no way to another."""
    (tmp_path / "only.png").write_bytes(encoded(picture(40, 60)))
    with running(Options(examples=str(tmp_path))) as address, chromium(tmp_path / "profile", address) as page:
        open_example(page)
        assert page.eval("document.querySelector('#folder').hidden") is True
