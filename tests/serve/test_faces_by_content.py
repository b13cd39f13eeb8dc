"""Sessions identified by content: sizes as displayed, one call at a time, and failed calls are not remembered."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from serve.core.options import Options
from serve.engine.engine import Engine
from serve.engine.fleet import Fleet
from serve.engine.local_model import LocalModel
from serve.faces.by_content import ByContent
from serve.wire.images import decode_image, image_hw
from tests.serve.conftest import encoded, picture
from tests.serve.disks import DiskPredictor


@pytest.fixture
def predictor() -> DiskPredictor:
    return DiskPredictor()


@pytest.fixture
def content(predictor: DiskPredictor) -> ByContent:
    return ByContent(Fleet({"fake": LocalModel(Engine(predictor), Options())}), Options(), "test")


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_size_is_that_of_the_decoded_image(format: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(picture()), format, exif=exif)
    assert image_hw(data, 10_000) == decode_image(data, 10_000).shape[:2]


def test_the_size_is_found_once(content: ByContent, monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(picture())
    assert content.picture(data).hw == (40, 60)
    monkeypatch.setattr("serve.faces.by_content.image_hw", lambda *_: 1 / 0)
    assert content.picture(data).hw == (40, 60)


def test_calls_at_the_same_time_wait_for_each_other(content: ByContent, predictor: DiskPredictor) -> None:
    image = content.picture(encoded(picture()))
    lists = [[image.click(30, 20, True), image.click(x, 5, False)] for x in range(8)]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda clicks: content.mask(image, clicks), lists))
    for mask, clicks in zip(together, lists, strict=True):
        np.testing.assert_array_equal(mask, content.mask(image, clicks))
    assert predictor.num_opened == 1


def test_a_call_that_failed_leaves_no_order_behind(content: ByContent, predictor: DiskPredictor) -> None:
    image = content.picture(encoded(picture()))
    first, second, third = (image.click(x, 20, x != 20) for x in (10, 20, 30))
    content.mask(image, [first, second])
    predictor.fail_with = RuntimeError("no")
    with pytest.raises(RuntimeError):
        content.mask(image, [first, third, second])
    assert content.ordered(image, [first, third], [second]) == (first, second, third)


def test_the_order_of_other_clicks_is_not_taken_over(content: ByContent) -> None:
    image = content.picture(encoded(picture()))
    a, b, c = (image.click(x, 20, True) for x in (10, 20, 30))
    minus = image.click(40, 20, False)
    content.mask(image, [a, b, minus, c])
    assert content.ordered(image, [a, b, c], [minus]) == (a, b, minus, c)
    assert content.ordered(image, [a, c, b], [minus]) == (a, c, b, minus)
    assert content.ordered(image, [a, c], [minus]) == (a, minus, c)
    assert content.ordered(image, [], [minus]) == (minus,)
    assert content.ordered(image, [c, b], [minus]) == (c, b, minus)
