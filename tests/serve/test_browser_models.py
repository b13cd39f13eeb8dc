"""The page's tools that need more than clicks: models, thresholds, steps, probability, preview.

A script in the page answers these routes; everything else is the real server.
"""

import base64
import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models import rle
from serve.core.options import Options
from tests.serve.browser import Page, chromium
from tests.serve.conftest import encoded, picture
from tests.serve.test_browser import alpha, place, running, settled

pytestmark = pytest.mark.slow

TWO_FRAMES = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"


def left_of(column: int) -> dict[str, object]:
    mask = np.zeros((40, 60), bool)
    mask[:, :column] = True
    return dict(rle.encode(mask))


def answers(refinements: list[str]) -> str:
    """Return a script that answers the routes in the page, and records the requests in window.asked."""
    model = {
        "network": "fake",
        "refinement": "standard",
        "model_version": "fake-1",
        "mask_threshold": 0.5,
        "refinements": refinements,
        "takes_exemplar": False,
    }
    other = {"name": "two", "default": False, "refinement": "as the checkpoint says"}
    models = [model | {"name": "one", "default": True}, model | other]
    steps = [{"name": "first look", "mask": left_of(10), "num_changed": 400},
             {"name": "focus", "mask": left_of(50), "num_changed": 1600}]  # fmt: skip
    ramp = np.broadcast_to(np.linspace(0, 255, 60, dtype=np.uint8), (40, 60))
    grey = base64.b64encode(encoded(Image.fromarray(np.ascontiguousarray(ramp)))).decode()
    mask = {"mask": left_of(30), "area": 1200, "bbox_xywh": [0, 0, 30, 40], "honoured": True}
    mask |= {"milliseconds": 1, "model_version": "fake-1", "num_clicks": 1, "num_redo": 0}
    return f"""
      window.asked = [];
      const plain = window.fetch;
      const json = (body) => new Response(JSON.stringify(body), {{headers: {{'Content-Type': 'application/json'}}}});
      window.fetch = async (url, options) => {{
        const path = String(url);
        if (path === 'v1/models') return json({{models: {json.dumps(models)}}});
        if (path.endsWith('/steps')) return json({{steps: {json.dumps(steps)}}});
        if (path.endsWith('/probability')) return new Response(Uint8Array.from(atob('{grey}'), (c) => c.charCodeAt(0)));
        if (path.endsWith('/settings')) {{
          const body = JSON.parse(options.body);
          window.asked.push(body);
          return json({{...{json.dumps(mask)}, sequence: body.sequence}});
        }}
        if (path.startsWith('v1/sessions?')) {{
          window.asked.push(path);
          return plain('v1/sessions', options);
        }}
        return plain(url, options);
      }};
      window.previews = [];
      const send = WebSocket.prototype.send;
      WebSocket.prototype.send = function (text) {{
        const message = JSON.parse(text);
        if (message.kind !== 'preview') return send.call(this, text);
        window.previews.push([message.x, message.y, performance.now()]);
        const patch = {{bbox_xywh: [40, 0, 10, 40], num_bytes: 50, size: [40, 60]}};
        const header = {{id: message.id, preview: true, sequence: 2, milliseconds: 1, patch}};
        setTimeout(() => {{
          this.dispatchEvent(new MessageEvent('message', {{data: JSON.stringify(header)}}));
          this.dispatchEvent(new MessageEvent('message', {{data: new Uint8Array(50).fill(255).buffer}}));
        }}, 5);
      }};
    """


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples" / "a.png").write_bytes(encoded(picture(40, 60)))
    with (
        running(Options(examples=str(tmp_path / "examples"))) as address,
        chromium(tmp_path / "profile", "about:blank") as opened,
    ):
        opened.send("Page.addScriptToEvaluateOnNewDocument", source=answers(["standard", "cfr_4"]))
        opened.send("Page.navigate", url=address)
        opened.wait("document.querySelector('#model-panel')?.hidden === false")
        opened.wait("document.querySelectorAll('#examples button').length === 1")
        opened.press("#examples button")
        opened.wait("document.querySelector('#zoom').textContent === '800%'")
        opened.click(*place(opened, 30, 20))
        settled(opened, 1)
        yield opened


def test_threshold_refinement_and_model(page: Page) -> None:
    page.key(".")
    page.wait("window.asked.length === 1")
    page.eval(TWO_FRAMES)
    assert page.eval("window.asked[0].mask_threshold") == pytest.approx(0.55)
    assert page.eval("document.querySelector('#threshold-value').textContent") == "0.55"
    assert alpha(page, "mask-layer", 10, 30) > 0, "the answer's mask is shown"
    page.eval("const choice = document.querySelector('#refinement'); choice.value = 'cfr_4';"
              "choice.dispatchEvent(new Event('change')); 0")  # fmt: skip
    page.wait("window.asked.length === 2")
    assert page.eval("window.asked[1].refinement") == "cfr_4"
    page.eval("const other = document.querySelector('#model'); other.value = 'two';"
              "other.dispatchEvent(new Event('change')); 0")  # fmt: skip
    page.wait("window.asked.at(-1) === 'v1/sessions?model=two'")
    settled(page, 1)
    page.wait("document.querySelector('#finish').disabled === false")
    shown = "document.querySelector('#refinement').selectedOptions[0].textContent"
    assert page.eval(shown) == "as the checkpoint says"


def test_steps_and_probability(page: Page) -> None:
    page.key("t")
    page.wait("document.querySelectorAll('#steps button').length === 2")
    assert "1,600 px changed" in page.eval("document.querySelector('#steps').textContent")
    page.eval("document.querySelectorAll('#steps button')[1].focus(); 0")
    page.eval(TWO_FRAMES)
    assert alpha(page, "mask-layer", 45, 30) > 0, "the step's mask, while it is looked at"
    page.eval("document.querySelectorAll('#steps button')[1].blur(); 0")
    page.eval(TWO_FRAMES)
    assert alpha(page, "mask-layer", 45, 30) == 0
    page.key("p")
    page.wait("document.querySelector('#heat-legend').hidden === false")
    page.eval(TWO_FRAMES)
    assert alpha(page, "mask-layer", 55, 5) > 100, "everywhere, not in the mask alone"
    page.key("p")
    page.key("t")
    page.wait("document.querySelector('#heat-legend').hidden && document.querySelector('#steps').hidden")


def test_a_preview_appears_where_the_pointer_rests(page: Page) -> None:
    page.mouse("mouseMoved", *place(page, 50, 30), "none")
    assert page.eval("window.previews.length") == 0, "the first click does not tell how fast the network is"
    page.click(*place(page, 32, 22))
    settled(page, 2)
    page.wait("document.querySelector('#finish').disabled === false")
    for x in range(20, 60):
        page.mouse("mouseMoved", *place(page, x, 30), "none")
    page.wait("window.previews.length > 1 && window.previews.at(-1)[0] === 59")
    times = page.eval("window.previews.map(([, , at]) => at)")
    assert min(np.diff(times)) >= 95, "at most ten a second"
    page.eval(TWO_FRAMES)
    assert 0 < alpha(page, "mask-layer", 45, 5) < 200, "what would be added, faintly"
    page.eval("document.querySelector('#stage').dispatchEvent(new PointerEvent('pointerleave')); 0")
    page.eval(TWO_FRAMES)
    assert alpha(page, "mask-layer", 45, 5) == 0
    page.key("v")
    before = page.eval("window.previews.length")
    page.mouse("mouseMoved", *place(page, 10, 30), "none")
    time.sleep(0.2)
    assert page.eval("window.previews.length") == before, "switched off"


def test_the_tools_on_the_real_routes(tmp_path: Path) -> None:
    """Threshold, refinement, steps and probability of a real server."""
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples" / "a.png").write_bytes(encoded(picture(40, 60)))
    with (
        running(Options(examples=str(tmp_path / "examples"))) as address,
        chromium(tmp_path / "profile", address) as page,
    ):
        page.wait("document.querySelectorAll('#examples button').length === 1")
        page.press("#examples button")
        page.wait("document.querySelector('#zoom').textContent === '800%'")
        page.wait("document.querySelector('#model-panel')?.hidden === false")
        page.click(*place(page, 30, 20))
        settled(page, 1)
        page.wait("document.querySelector('#finish').disabled === false")
        assert alpha(page, "mask-layer", 37, 20) == 0, "a disk of 6 pixels"
        page.eval("const choice = document.querySelector('#refinement'); choice.value = 'cfr_1';"
                  "choice.dispatchEvent(new Event('change')); 0")  # fmt: skip
        deadline = time.monotonic() + 20
        while alpha(page, "mask-layer", 37, 20) == 0:
            assert time.monotonic() < deadline, "refined, it is a disk of 8 pixels"
            time.sleep(0.05)
        page.key("t")
        page.wait("document.querySelectorAll('#steps button').length === 1")
        page.key("p")
        page.wait("document.querySelector('#heat-legend').hidden === false")
        page.click(*place(page, 10, 10))
        settled(page, 2)
        assert page.problems == []
