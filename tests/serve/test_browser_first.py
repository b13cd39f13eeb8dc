"""The page's first minute in a real browser, as the part of the page that CI tests; other browser tests are slow."""

import pytest

from tests.serve.browser import Page
from tests.serve.test_browser import ALT, CTRL, SHIFT, address, alpha, open_example, page, place, settled

__all__ = ["address", "page"]


@pytest.mark.networks
def test_click_correct_undo_redo(page: Page) -> None:
    open_example(page)
    page.click(*place(page, 30, 20))
    settled(page, 1)
    assert alpha(page, "mask-layer", 33, 20) == pytest.approx(115, abs=3), "45 % inside"
    assert alpha(page, "mask-layer", 45, 20) == 0
    assert alpha(page, "click-layer", 30, 20) == 255
    page.click(*place(page, 35, 20), button="right")
    settled(page, 2)
    assert alpha(page, "mask-layer", 33, 20) == 0
    page.key("z", "KeyZ", CTRL)
    settled(page, 1)
    assert alpha(page, "mask-layer", 33, 20) > 0
    page.key("Z", "KeyZ", CTRL | SHIFT)
    settled(page, 2)
    assert alpha(page, "mask-layer", 33, 20) == 0
    page.key("Escape")
    settled(page, 0)
    assert alpha(page, "mask-layer", 26, 20) == 0
    page.click(*place(page, 30, 20))
    page.click(*place(page, 35, 20), modifiers=ALT)
    settled(page, 2)
    assert alpha(page, "mask-layer", 33, 20) == 0, "Alt-click removes"
