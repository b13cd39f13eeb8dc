"""The page on the real routes: exemplars, previews, and a model that is replaced."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models import rle
from models.interaction import Click, Clicks
from models.predictor import Predictor
from serve.core.options import Options
from serve.core.sources import ONLY
from serve.engine.engine import Engine
from serve.engine.local_model import LocalModel
from serve.http.app import fleet_of
from serve.sessions.rules import SAME, parts_of
from tests.serve.browser import Page, chromium
from tests.serve.conftest import encoded, picture
from tests.serve.disks import DiskPredictor
from tests.serve.test_browser import NUM_OBJECTS, place, running, settled
from tests.serve.test_browser_resume import has, objects, shown, state
from tests.training.toys import toy

pytestmark = pytest.mark.slow

TWO_FRAMES = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
MESSAGE = "document.querySelector('#status-message').textContent"
FIND = "#objects li:first-child .icon[title^=Find]"


@pytest.fixture
def settings(tmp_path: Path) -> Options:
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples" / "a.png").write_bytes(encoded(picture(40, 60)))
    return Options(examples=str(tmp_path / "examples"))


def open_only(page: Page) -> None:
    page.wait("document.querySelectorAll('#examples button').length === 1")
    page.wait("document.querySelector('#model-panel').hidden === false")
    page.press("#examples button")
    shown(page, "a.png")


def painted(page: Page) -> np.ndarray:
    """Return which pixels of the image are painted, bool (40, 60)."""
    page.eval(TWO_FRAMES)
    left, top = place(page, 0, 0)
    rows = page.eval(
        "(() => { const layer = document.querySelector('#mask-layer'), edges = layer.getBoundingClientRect();"
        f"const {{ data }} = layer.getContext('2d').getImageData({left} - edges.x, {top} - edges.y, 480, 320);"
        "return Array.from({ length: 40 }, (_, y) => Array.from({ length: 60 }, (_, x) =>"
        "data[4 * (8 * y * 480 + 8 * x) + 3] > 0)); })()"
    )
    return np.array(rows, bool)


def test_a_real_network_finds_more_objects_of_a_kind(settings: Options, tmp_path: Path) -> None:
    """A network with random weights finds no kind, but the page must show the parts that it finds."""
    plain = Predictor(toy("icmformerpp_vit_base", seed=2))
    # Fresh weights answer about the same everywhere: the middle of these values cuts.
    middle = float(np.median(plain.open(picture(40, 60)).click(20, 12)))
    predictor = plain.refined(mask_threshold=middle)
    first = predictor.open(picture(40, 60)).click(20, 12) > middle
    exemplar = (first, Clicks.none().add(Click(y=20, x=12)))
    union = predictor.open(picture(40, 60), exemplar=exemplar).click(20, 45) > middle
    rest = [part for part in parts_of(union) if (part & first).sum() <= SAME * part.sum()]
    assert 1 < len(rest) < 100
    with running(settings, Engine(predictor)) as address, chromium(tmp_path / "profile", address) as page:
        open_only(page)
        page.click(*place(page, 12, 20))
        settled(page, 1)
        page.key("Enter")
        has(page, 0, 1)
        page.press(FIND)
        page.wait(f"{MESSAGE}.startsWith('Click one more object like Object 1')")
        page.click(*place(page, 45, 20))
        settled(page, 1)
        assert state(page)["has_exemplar"]
        np.testing.assert_array_equal(painted(page), union | first)
        page.key("Enter")
        page.wait(f"{NUM_OBJECTS} === {1 + len(rest)}")
        assert page.eval(MESSAGE) == f"{len(rest)} more objects found"
        settled(page, 0)
        kept = [rle.decode(each["mask"]) for each in objects(page)]
        assert {mask.tobytes() for mask in kept} == {mask.tobytes() for mask in (first, *rest)}
        assert not state(page)["has_exemplar"], "the next object is found by its own clicks"
        page.press("#objects li:last-child .icon[title^=Edit]")
        has(page, 0, len(rest))
        page.wait("document.querySelector('#finish').disabled === false")
        page.key("Enter")
        has(page, 0, 1 + len(rest))
        page.press("#objects li:last-child .icon[title^=Find]")
        page.wait(f"{MESSAGE}.startsWith('Click one more object like')")
        page.press("#objects li:last-child .icon[title^=Edit]")  # rather not
        page.wait("document.querySelector('#finish').disabled === false")
        assert not state(page)["has_exemplar"]
        page.key("Enter")
        has(page, 0, 1 + len(rest))
        page.press(FIND)
        page.wait(f"{MESSAGE}.startsWith('Click one more object like')")
        page.key("Escape")
        page.wait("document.querySelector('#draft').hidden")
        has(page, 0, 1 + len(rest))
        page.click(*place(page, 12, 20))
        settled(page, 1)
        assert not state(page)["has_exemplar"]
        assert page.problems == []


def test_models_without_exemplars_offer_no_search(settings: Options, tmp_path: Path) -> None:
    with running(settings) as address, chromium(tmp_path / "profile", address) as page:
        open_only(page)
        page.click(*place(page, 12, 20))
        settled(page, 1)
        page.key("Enter")
        has(page, 0, 1)
        assert page.eval(f"document.querySelector({FIND!r})") is None


def test_a_preview_equals_the_mask_of_the_click(settings: Options, tmp_path: Path) -> None:
    predictor = DiskPredictor()
    with running(settings, Engine(predictor)) as address, chromium(tmp_path / "profile", address) as page:
        open_only(page)
        page.press("#outline")
        page.press("#dots")
        for number, x in enumerate((12, 16), start=1):
            page.click(*place(page, x, 20))
            settled(page, number)
        before = painted(page)
        across, down = place(page, 45, 28)
        page.mouse("mouseMoved", across - 30, down, "none")
        page.mouse("mouseMoved", across, down, "none")
        deadline = time.monotonic() + 10
        while not painted(page)[28, 45]:
            assert time.monotonic() < deadline, "no preview"
        seen, num_forwards = painted(page), predictor.num_forwards
        assert (seen & ~before).sum() > 50
        assert state(page)["sequence"] == 2, "it is no click yet"
        page.click(across, down)
        settled(page, 3)
        np.testing.assert_array_equal(painted(page), seen)
        assert predictor.num_forwards == num_forwards, "the preview has made it"
        page.mouse("mouseMoved", *place(page, 14, 20), "none")
        page.mouse("mouseMoved", *place(page, 13, 20), "none")
        page.press("#mode-remove")
        page.mouse("mouseMoved", *place(page, 12, 20), "none")
        time.sleep(0.5)
        seen = painted(page)
        page.click(*place(page, 12, 20), button="right")
        settled(page, 4)
        assert not painted(page)[20, 12]
        assert seen[20, 12], "what would be removed is painted, too"
        assert page.problems == []


def test_clicks_are_kept_when_a_model_is_replaced(settings: Options, tmp_path: Path) -> None:
    fleet = fleet_of(Engine(DiskPredictor()), settings)
    newer: Any = DiskPredictor()
    newer.model_version, newer.radius = "fake-2", 9.0
    with running(settings, fleet) as address, chromium(tmp_path / "profile", address) as page:
        open_only(page)
        page.click(*place(page, 12, 20))
        settled(page, 1)
        assert page.eval("document.querySelector('#status-model').textContent") == "fake-1"
        assert "updated" not in page.eval(MESSAGE)
        fleet.replace(ONLY, LocalModel(Engine(newer), settings))
        page.click(*place(page, 45, 20))
        settled(page, 2)
        assert "fake-2" in page.eval(MESSAGE)
        assert page.eval("document.querySelector('#status-model').textContent") == "fake-2"
        assert page.eval("document.querySelectorAll('.toast').length") == 0
        assert painted(page)[20, [12, 20, 45]].all(), "the first click's disk is the newer model's, too"
        page.click(*place(page, 30, 8))
        settled(page, 3)
        assert "updated" not in page.eval(MESSAGE), "said once"
        assert page.problems == []
