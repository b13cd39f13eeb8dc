"""Work survives reloads, crashes and lost sessions, and the server stores finished objects."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from websockets.sync.client import connect

from models import rle
from serve.core.options import Options
from tests.serve.browser import Page, chromium
from tests.serve.conftest import encoded, picture
from tests.serve.test_browser import CTRL, NUM_OBJECTS, alpha, place, running, settled

pytestmark = pytest.mark.slow

NAME = "document.querySelector('#file-name').textContent"
NAMES = "[...document.querySelectorAll('#objects .name')].map(({ value }) => value)"
OPEN = "JSON.parse(sessionStorage.getItem('maskwright-open'))"


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "examples").mkdir()
    for number, name in enumerate(("a.png", "b.png")):
        (tmp_path / "examples" / name).write_bytes(encoded(np.roll(picture(40, 60), number, axis=0)))
    with running(Options(examples=str(tmp_path / "examples"))) as address:
        yield address


@pytest.fixture
def page(address: str, tmp_path: Path) -> Iterator[Page]:
    with chromium(tmp_path / "profile", address) as opened:
        open_first(opened)
        yield opened
        assert opened.problems == []


def open_first(page: Page) -> None:
    page.wait("document.querySelectorAll('#examples button').length === 2")
    page.press("#examples button")
    shown(page, "a.png")


def shown(page: Page, name: str) -> None:
    page.wait(f"{NAME} === {json.dumps(name)} && document.querySelector('#zoom').textContent === '800%'")


def finish(page: Page, *clicks: tuple[int, int]) -> None:
    for number, (x, y) in enumerate(clicks, start=1):
        page.click(*place(page, x, y))
        settled(page, number)
    page.key("Enter")
    settled(page, 0)


def state(page: Page) -> dict[str, Any]:
    """Return the server's state of the open session."""
    return page.eval(f"fetch(`v1/sessions/${{{OPEN}.id}}`).then((answer) => answer.json())")


def objects(page: Page) -> list[dict[str, Any]]:
    url = f"`v1/sessions/${{{OPEN}.id}}/objects`"
    return page.eval(f"fetch({url}).then((answer) => answer.json()).then(({{ objects }}) => objects)")


def has(page: Page, num_clicks: int, num_objects: int) -> None:
    """Wait until the server has so many objects and clicks, and no errand is in progress."""
    deadline = time.monotonic() + 10
    while [state(page)[name] for name in ("num_objects",)] != [num_objects] or len(state(page)["clicks"]) != num_clicks:
        assert time.monotonic() < deadline, state(page)
        time.sleep(0.05)


def test_finished_objects_are_stored_on_the_server(page: Page) -> None:
    finish(page, (12, 20))
    finish(page, (45, 20), (45, 28))
    has(page, 0, 2)
    assert [each["label"] for each in objects(page)] == ["Object 1", "Object 2"]
    assert [len(each["clicks"]) for each in objects(page)] == [1, 2]
    assert rle.decode(objects(page)[1]["mask"])[28, 45]
    page.press("#objects li:first-child .icon[title^=Edit]")
    settled(page, 1)
    has(page, 1, 1)
    page.click(*place(page, 20, 20))
    settled(page, 2)
    page.key("Enter")
    settled(page, 0)
    has(page, 0, 2)
    assert page.eval(NAMES) == ["Object 1", "Object 2"], "in its place again"
    page.press("#objects li:last-child .icon[title^=Delete]")
    has(page, 0, 1)
    assert [each["label"] for each in objects(page)] == ["Object 1"]


def test_clicks_right_after_finishing_belong_to_the_next_object(page: Page) -> None:
    for x in (10, 30, 50):
        page.click(*place(page, x, 20))
        settled(page, 1)
        page.key("Enter")
        if x < 50:
            page.press("#objects li:first-child .icon[title^=Hide], #objects li:first-child .icon[title^=Show]")
    page.click(*place(page, 20, 8))
    page.click(*place(page, 40, 8))
    settled(page, 2)
    has(page, 2, 3)
    masks = [rle.decode(each["mask"]) for each in objects(page)]
    assert [[bool(mask[20, x]) for x in (10, 30, 50)] for mask in masks] == np.eye(3, dtype=bool).tolist()


def test_a_reload_loses_nothing(page: Page) -> None:
    finish(page, (12, 20))
    finish(page, (45, 20))
    page.eval(
        "const name = document.querySelector('#objects li:last-child .name'); name.value = 'cat';"
        "name.dispatchEvent(new Event('change'));"
        "const color = document.querySelector('#objects li:last-child .swatch'); color.value = '#112233';"
        "color.dispatchEvent(new Event('change')); 0"
    )
    page.press("#objects li:first-child .icon[title^=Hide]")
    page.click(*place(page, 30, 10))
    page.click(*place(page, 30, 30))
    settled(page, 2)
    before = page.eval(f"{OPEN}.id")
    page.reload()
    shown(page, "a.png")
    settled(page, 2)
    assert page.eval(f"{OPEN}.id") == before, "the same session"
    assert page.eval(NAMES) == ["Object 1", "cat"]
    assert page.eval("document.querySelector('#objects li:last-child .swatch').value") == "#112233"
    assert [alpha(page, "mask-layer", x, 23) > 0 for x in (12, 45)] == [False, True], "one is hidden"
    assert all(alpha(page, "mask-layer", 30, y) > 0 for y in (12, 32))
    page.key("z", "KeyZ", CTRL)
    settled(page, 1)
    assert [alpha(page, "mask-layer", 30, y) > 0 for y in (12, 32)] == [True, False], "undo continues"
    page.click(*place(page, 30, 30))
    settled(page, 2)
    page.key("Enter")
    has(page, 0, 3)
    page.press("#objects li:last-child .icon[title^=Edit]")
    settled(page, 2)


def test_clicks_that_had_not_reached_the_server_are_made_after_a_reload(page: Page) -> None:
    page.click(*place(page, 12, 20))
    settled(page, 1)
    page.eval("window.fetch = () => Promise.reject(new Error('no network')); WebSocket.prototype.send = () => {}; 0")
    page.click(*place(page, 45, 20))
    page.wait("document.querySelector('#status-clicks').textContent === '2 clicks'")
    page.reload()
    shown(page, "a.png")
    settled(page, 2)
    has(page, 2, 0)
    assert all(alpha(page, "mask-layer", x, 23) > 0 for x in (12, 45))


def test_the_whole_folder_is_there_after_a_reload(page: Page) -> None:
    finish(page, (12, 20))
    page.key("PageDown")
    shown(page, "b.png")
    finish(page, (45, 20))
    has(page, 0, 1)
    page.reload()
    shown(page, "b.png")
    page.wait(f"{NUM_OBJECTS} === 1")
    page.eval("window.saved = null; URL.createObjectURL = (blob) => { window.saved = blob; return 'data:,'; }; 0")
    page.press("#export-coco")
    coco = json.loads(page.eval("window.saved.text()"))
    assert [image["file_name"] for image in coco["images"]] == ["a.png", "b.png"]
    assert [annotation["image_id"] for annotation in coco["annotations"]] == [1, 2]
    page.key("PageUp")
    shown(page, "a.png")
    page.wait(f"{NUM_OBJECTS} === 1")
    page.press("#objects li:first-child .icon[title^=Edit]")
    settled(page, 1)


def test_a_browser_that_crashed_offers_to_continue(address: str, tmp_path: Path) -> None:
    own = tmp_path / "own photo.png"
    own.write_bytes(encoded(picture(40, 60)))
    with chromium(tmp_path / "profile", address) as page:
        page.wait("document.querySelectorAll('#examples button').length === 2")
        page.upload("#file", own)
        shown(page, own.name)
        finish(page, (12, 20))
        page.click(*place(page, 45, 20))
        settled(page, 1)
        has(page, 1, 1)
        time.sleep(6)  # the browser writes what is stored to the disk every five seconds
    (tmp_path / "profile" / "DevToolsActivePort").unlink(missing_ok=True)
    with chromium(tmp_path / "profile", address) as page:
        page.wait("document.querySelector('#left-block').hidden === false")
        assert "own photo.png" in page.eval("document.querySelector('#left').textContent")
        page.press("#left button")
        shown(page, own.name)
        settled(page, 1)
        assert page.eval(NAMES) == ["Object 1"]
        assert all(alpha(page, "mask-layer", x, 23) > 0 for x in (12, 45))
        assert page.problems == []


def test_work_that_the_server_lost_is_reported_and_a_new_session_starts(page: Page) -> None:
    finish(page, (12, 20))
    has(page, 0, 1)
    page.eval(f"fetch(`v1/sessions/${{{OPEN}.id}}`, {{method: 'DELETE'}}).then(() => 0)")
    before = page.eval(f"{OPEN}.id")
    page.reload()
    shown(page, "a.png")
    page.wait("document.querySelector('.toast.note p')?.textContent.includes('a.png')")
    page.click(*place(page, 30, 20))
    settled(page, 1)
    assert page.eval(f"[{OPEN}.id, {NUM_OBJECTS}]") != [before, 0]
    assert page.eval(NUM_OBJECTS) == 0
    page.problems.clear()  # the browser logs the 404 itself


def test_a_session_that_is_lost_while_the_page_is_open_is_rebuilt_with_its_objects(page: Page) -> None:
    finish(page, (12, 20))
    finish(page, (45, 20))
    has(page, 0, 2)
    before = page.eval(f"{OPEN}.id")
    page.eval(f"fetch(`v1/sessions/${{{OPEN}.id}}`, {{method: 'DELETE'}}).then(() => 0)")
    page.click(*place(page, 30, 20))
    settled(page, 1)
    page.wait(f"{OPEN}.id !== {json.dumps(before)}")
    has(page, 1, 2)
    assert [each["label"] for each in objects(page)] == ["Object 1", "Object 2"]
    page.press("#objects li:first-child .icon[title^=Edit]")  # what is at hand is finished first
    settled(page, 1)
    has(page, 1, 2)
    assert alpha(page, "mask-layer", 12, 23) > 0
    page.problems.clear()  # the browser logs the 404 itself


def test_objects_that_the_server_refuses_stay_in_the_page(tmp_path: Path) -> None:
    (tmp_path / "examples").mkdir()
    for name in ("a.png", "b.png"):
        (tmp_path / "examples" / name).write_bytes(encoded(picture(40, 60)))
    settings = Options(examples=str(tmp_path / "examples"), max_objects=1)
    with running(settings) as address, chromium(tmp_path / "profile", address) as page:
        open_first(page)
        finish(page, (12, 20))
        finish(page, (45, 20))
        page.wait("document.querySelector('.toast p')?.textContent.includes('at most 1 objects')")
        page.click(*place(page, 30, 8))
        settled(page, 1)
        has(page, 1, 1)
        assert page.eval(NAMES) == ["Object 1", "Object 2"]
        assert alpha(page, "mask-layer", 45, 23) > 0
        page.press("#clear")
        settled(page, 0)
        page.press("#objects li:last-child .icon[title^=Edit]")
        settled(page, 1)
        has(page, 1, 1)
        assert len(page.problems) == 1, "the browser logs the refusal itself"


def test_a_second_tab_does_not_touch_the_work_of_the_first(page: Page, address: str, tmp_path: Path) -> None:
    finish(page, (12, 20))
    has(page, 0, 1)
    target = page.send("Target.createTarget", url=address)["targetId"]
    port = (tmp_path / "profile" / "DevToolsActivePort").read_text().split()[0]
    with connect(f"ws://127.0.0.1:{port}/devtools/page/{target}", max_size=None, proxy=None) as socket:
        other = Page(socket)
        open_first(other)
        other.click(*place(other, 45, 20))
        settled(other, 1)
        assert other.eval(NUM_OBJECTS) == 0
        assert other.eval(f"{OPEN}.id") != page.eval(f"{OPEN}.id")
        assert other.problems == []
    has(page, 0, 1)
