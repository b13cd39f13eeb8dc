"""Real networks under several users: bit for bit what one after the other gives, within the bytes that are allowed."""

import base64
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from models.interaction import Click
from models.predictor import Predictor
from serve.api import create_app
from serve.engine import Engine
from serve.masks import LocalMasks, Work
from serve.settings import Settings
from serve.values import Basis
from tests.serve.conftest import encoded, picture
from tests.training.toys import TOYS

CLICKS = [(30, 20, True), (5, 5, False), (50, 30, True), (12, 33, True)]


def image_of(number: int) -> str:
    rng = np.random.default_rng(number)
    return base64.b64encode(encoded(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8))).decode()


def play(client: TestClient, number: int) -> list[Any]:
    session = client.post("/v1/sessions", json={"image": image_of(number)}).json()["session_id"]
    masks = []
    for x, y, positive in CLICKS:
        body = {"x": x + number, "y": y, "positive": positive}
        masks.append(client.post(f"/v1/sessions/{session}/clicks", json=body).json()["mask"])
    masks.append(client.post(f"/v1/sessions/{session}/undo").json()["mask"])
    return masks


@pytest.mark.parametrize("network", ["simpleclick", "emc segformer"])
def test_streams_at_once_equal_streams_in_turn(network: str) -> None:
    predictor = Predictor(TOYS[network]())

    def client() -> TestClient:
        return TestClient(create_app(Engine(predictor), Settings(clicks_per_second=0)), "http://localhost")

    in_turn = [play(client(), number) for number in range(3)]
    together = client()
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(lambda number: play(together, number), range(3))) == in_turn
    assert len({str(masks) for masks in in_turn}) == 3


@pytest.mark.parametrize("network", ["simpleclick", "emc segformer"])
def test_the_cache_never_holds_more_than_it_may_and_masks_stay_the_same(network: str) -> None:
    predictor, data = Predictor(TOYS[network]()), encoded(picture(48, 64))
    roomy = LocalMasks(Engine(predictor), Settings())
    roomy.mask(work("a", data, 4))
    one = sum(roomy._sizes.values())
    tight = LocalMasks(Engine(predictor), Settings(max_cache_bytes=int(2.5 * one)))
    for clicks in range(1, 5):
        for name in "abcde":
            assert tight.mask(work(name, data, clicks)).encoded == roomy.mask(work(name, data, clicks)).encoded
            assert sum(tight._sizes.values()) <= 2.5 * one
            assert set(tight._sizes) == set(tight._cached)
    assert list(tight._cached)[-2:] == ["d", "e"], "the ones used last"
    assert len(roomy._cached) == 5


def work(name: str, data: bytes, num: int) -> Work:
    clicks = tuple(Click(y=y, x=x, positive=positive) for x, y, positive in CLICKS[:num])
    return Work(session_id=name, load=lambda: data, basis=Basis(), clicks=clicks)
