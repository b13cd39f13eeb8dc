"""Click-independent work is done once per image, when a session opens, and its failure does not fail the opening."""

import base64
import logging
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from models import rle
from models.interaction import Click
from models.predictor import Predictor
from serve.core.options import Options
from serve.core.values import Basis, Exemplar
from serve.engine.asking import MASK, OPEN, Work
from serve.engine.batching import Batched
from serve.engine.engine import Engine
from serve.engine.fleet import Fleet
from serve.engine.local_model import LocalModel
from serve.faces.by_content import ByContent
from serve.http.app import create_app
from tests.serve.conftest import ADDRESS, Server, encoded, mask_of, picture
from tests.training.toys import TOYS


def test_opening_does_the_click_independent_work_and_clicks_do_not(server: Server) -> None:
    session = server.open()
    assert server.predictor.ahead == [0]
    server.click(session, 30, 20)
    server.click(session, 10, 20)
    server.change(session, "undo")
    assert server.predictor.ahead == [0]
    server.engine.rebase(server.engine.open(picture(), Basis()), Basis(), Basis(mask_threshold=0.4))
    assert server.predictor.ahead == [0, 0]
    start = {"size": [40, 60], "counts": [2400]}
    server.engine.rebase(server.engine.open(picture(), Basis()), Basis(), Basis(initial_mask=start))  # pyright: ignore[reportArgumentType]
    assert server.predictor.ahead == [0] * 4


def test_opening_succeeds_if_the_click_independent_work_fails(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    server.predictor.fail_ahead = True
    with caplog.at_level(logging.ERROR, "maskwright.serve"):
        session = server.open()
    assert "no memory" in caplog.text
    assert mask_of(server.click(session, 30, 20)).any()
    assert server.engine.healthy


KEPT = {
    "icmformer": 4 * (3 * 64 * 64 + 32 * 4 * 4),  # the view, and tokens
    "mobile_sam": 4 * (3 * 43 * 64 + 256 * 4 * 4),  # the view without padding, and the embedding
    "sam2": 4 * (3 * 128 * 128 + 256 * 8 * 8 + 64 * 16 * 16 + 32 * 32 * 32),  # two more maps
}
"""Bytes that these networks make of `picture` before a click."""
CLICKS = (Click(y=20, x=30), Click(y=9, x=9, positive=False), Click(y=30, x=44))


class Counted:
    """A predictor of a toy network that counts its requests."""

    def __init__(self, name: str, slow_s: float = 0.0) -> None:
        self.predictor, self.asked = Predictor(TOYS[name]()), Counter[str]()
        own = self.predictor.answer

        def answer(requests: list[Any]) -> list[Any]:
            self.asked[type(requests[0]).__name__] += len(requests)
            time.sleep(slow_s)
            return own(requests)

        self.predictor.answer = answer

    def masks(self, **settings: Any) -> LocalModel:
        return LocalModel(Engine(self.predictor), Options(**settings))


def opening(name: str | None, image: np.ndarray | None = None) -> Work:
    return Work(session_id=name, basis=Basis(), image=picture() if image is None else image)


def work(name: str, num: int, image: np.ndarray | None = None, basis: Basis | None = None) -> Work:
    data = encoded(picture() if image is None else image)
    return Work(session_id=name, load=lambda: data, basis=basis or Basis(), clicks=CLICKS[:num])


@pytest.mark.check(36)
@pytest.mark.parametrize("name", KEPT)
def test_click_independent_results_count_as_cache_and_may_be_evicted(name: str) -> None:
    counted, others = Counted(name), 255 - picture()
    assert sum(counted.predictor.open(picture()).memory.values()) == 0
    masks = counted.masks(max_cache_bytes=1)
    masks.ask(OPEN, opening("a"))
    assert masks._total() == 40 * 60 * (12 + 4) + KEPT[name]
    first = masks.ask(MASK, work("a", 2)).mask
    assert counted.asked["Start"] == 1
    masks.ask(MASK, work("b", 2, others))
    assert "a" not in masks._cached
    np.testing.assert_array_equal(masks.ask(MASK, work("a", 2)).mask, first)
    assert counted.asked["Start"] == 3


@pytest.mark.networks
@pytest.mark.check(36)
@pytest.mark.parametrize("name", [*KEPT, "emc segformer"])
def test_sessions_on_one_image_share_the_click_independent_work(name: str) -> None:
    counted, plain = Counted(name), Counted(name).masks()
    masks = counted.masks()
    for session in "ab":
        masks.ask(OPEN, opening(session))
    if name in KEPT:
        assert masks._total() == 2 * 40 * 60 * (12 + 4) + KEPT[name], "counted once"
    for session, num in (("a", 2), ("b", 3), ("a", 3), ("b", 0), ("b", 1)):  # undone: the next object in the image
        np.testing.assert_array_equal(masks.ask(MASK, work(session, num)).mask, plain.ask(MASK, work("c", num)).mask)
    masks.forget("a")
    masks.ask(MASK, work("b", 3))
    masks.ask(MASK, work("d", 1))
    masks.ask(MASK, replace(opening(None), clicks=CLICKS))
    assert counted.asked["Start"] == 1, "what one has dropped another one still has"
    masks.ask(MASK, work("e", 1, 255 - picture()))
    assert counted.asked["Start"] == 2
    for session in "bde":
        masks.forget(session)
    assert masks._total() == 0
    masks.ask(MASK, work("b", 1))
    assert counted.asked["Start"] == 3, "and then it is gone"


@pytest.mark.check(36)
def test_shared_bytes_count_once_in_the_cache() -> None:
    masks = Counted("mobile_sam").masks(max_cache_bytes=2 * 40 * 60 * (12 + 4) + KEPT["mobile_sam"])
    for session in "abc":
        masks.ask(OPEN, opening(session))
    assert [session in masks._cached for session in "abc"] == [False, True, True]
    masks.ask(OPEN, opening("d", 255 - picture()))
    assert [session in masks._cached for session in "bcd"] == [False, False, True]


def test_sessions_with_different_exemplars_share_nothing() -> None:
    counted = Counted("icmformerpp")
    masks = counted.masks()
    bases = []
    for column in (5, 30):
        shown = np.zeros((40, 60), bool)
        shown[10:20, column : column + 20] = True
        bases.append(Basis(exemplar=Exemplar(mask=rle.encode(shown), clicks=(Click(y=15, x=column + 5),))))
    for num in (1, 2, 3):
        for session, basis in zip("ab", bases, strict=True):
            masks.ask(MASK, work(session, num, basis=basis))
    assert counted.asked["Start"] == 2


@pytest.mark.check(33)
@pytest.mark.networks
@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("name", ["mobile_sam", "icmformer"])
def test_sessions_on_an_image_in_preparation_wait_and_reuse_the_result(name: str, alone: bool) -> None:
    """`alone` False: as in a replica, where several sessions use the network concurrently."""
    counted = Counted(name, slow_s=0.2)
    counted.predictor.answer = Batched(counted.predictor.answer)
    masks, plain = LocalModel(Engine(counted.predictor, alone=alone), Options()), Counted(name).masks()
    masks.engine.warm_up()
    counted.asked.clear()
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda session: masks.ask(MASK, work(session, 1)).mask, "abcd"))
    assert counted.asked["Start"] == 1
    for mask in found:
        np.testing.assert_array_equal(mask, plain.ask(MASK, work("e", 1)).mask)


@pytest.mark.networks
@pytest.mark.parametrize("name", ["sam", "mobile_sam", "sam2"])
def test_over_http_the_first_click_does_not_pay_for_opening(name: str) -> None:
    counted, image = Counted(name), picture()
    start = np.zeros(image.shape[:2], bool)
    start[10:30, 10:40] = True
    client = TestClient(create_app(Engine(counted.predictor)), ADDRESS)
    kind = {"headers": {"Content-Type": "image/png"}}
    opened = [client.post("/v1/sessions", content=encoded(image), **kind).json() for _ in range(2)]
    assert counted.asked == {"Start": 1}
    plain = Counted(name).predictor.open(image)
    for session in opened:
        for click in CLICKS:
            body = {"x": click.x, "y": click.y, "positive": click.positive}
            answer = client.post(f"/v1/sessions/{session['session_id']}/clicks", json=body).json()
        assert counted.asked["Start"] == 1
    for click in CLICKS:
        plain.click(click.y, click.x, click.positive)
    np.testing.assert_array_equal(mask_of(answer), plain.mask)

    document = {"image": base64.b64encode(encoded(image)).decode(), "mask": rle.encode(start)}
    given = client.post("/v1/sessions", json=document).json()
    answer = client.post(f"/v1/sessions/{given['session_id']}/clicks", json={"x": 50, "y": 20}).json()
    plain = Counted(name).predictor.open(image, start)
    plain.click(20, 50)
    np.testing.assert_array_equal(mask_of(answer), plain.mask)
    assert counted.asked["Start"] == 1, "a mask to correct changes nothing of what the image is"


@pytest.mark.parametrize("name", ["mobile_sam", "sam2"])
def test_cvat_and_label_studio_have_each_image_prepared_once(name: str) -> None:
    """They send the image with each call, and objects in it differ in their first click."""
    counted, plain = Counted(name), Counted(name).masks()
    fleet = Fleet({"only": counted.masks()})
    for face in ("cvat", "label-studio"):
        content = ByContent(fleet, Options(), face)
        image = content.picture(encoded(picture()))
        for start in (10, 40):
            clicks = [image.click(start, 20, True), image.click(start + 5, 9, False)]
            for num in (1, 2):
                found = content.mask(image, clicks[:num])
                expected = plain.ask(MASK, replace(opening(None), clicks=tuple(clicks[:num])))
                np.testing.assert_array_equal(found, expected.mask)
    assert counted.asked["Start"] == 1
