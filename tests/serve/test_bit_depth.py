"""Images of more than eight bits: shown in full in new sessions, and unchanged in sessions of older servers."""

import base64
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient

from models import rle
from models.errors import InputError
from models.interaction import Click
from serve.core.options import Options
from serve.core.values import Basis, SessionValue
from serve.engine.asking import MASK, Work
from serve.engine.engine import Engine
from serve.engine.local_model import LocalModel
from serve.http.app import create_app
from serve.sessions.open_store import open_store
from serve.start.command import Serve, check
from serve.wire.images import decode_image
from tests.deep_files import png16, values
from tests.serve.conftest import ADDRESS, mask_of
from tests.serve.disks import DiskPredictor, Disks

LIMIT = 10_000_000
DARK = values(12, (40, 60))
COLOURS = values(12, (40, 60, 3))
PIXELS = {"gray": DARK, "colour": COLOURS}
CLICKS = [(30, 20, True), (12, 9, True), (33, 22, False)]


class SeeingDisks(Disks):
    """Marks the pixels of the disk around a click that are at least as bright as the clicked pixel."""

    def seen(self, image: torch.Tensor, y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return image[0, 0] >= image[0, 0, int(y), int(x)]


def Seeing() -> DiskPredictor:
    return DiskPredictor(SeeingDisks())


def upper_eight(pixels: np.ndarray) -> np.ndarray:
    """Decode 16 bits as older servers did."""
    eight = (pixels >> 8).astype(np.uint8)
    return np.repeat(eight[..., None], 3, axis=2) if eight.ndim == 2 else eight


def expected(image: np.ndarray, clicks: list[tuple[int, int, bool]]) -> np.ndarray:
    session = Seeing().open(image)
    for x, y, positive in clicks:
        session.click(y, x, positive)
    return session.mask


def client_on(**settings: Any) -> TestClient:
    app = create_app(Engine(Seeing()), Options(**settings), clock=lambda: 0.0)
    return TestClient(app, ADDRESS, raise_server_exceptions=False)


def opened(client: TestClient, data: bytes) -> str:
    answer = client.post("/v1/sessions", content=data, headers={"Content-Type": "image/png"})
    assert answer.status_code == 201, answer.text
    return answer.json()["session_id"]


def clicked(client: TestClient, session: str, x: int, y: int, positive: bool) -> np.ndarray:
    answer = client.post(f"/v1/sessions/{session}/clicks", json={"x": x, "y": y, "positive": positive})
    assert answer.status_code == 200, answer.text
    return mask_of(answer.json())


@pytest.mark.check(5)
@pytest.mark.parametrize("shape", [(20, 30), (20, 30, 3), (20, 30, 4)], ids=str)
@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_a_picture_shows_the_bits_that_its_file_uses(bits: int, shape: tuple[int, ...]) -> None:
    pixels = values(bits, shape)
    image = decode_image(png16(pixels), LIMIT)
    shown = (pixels >> (bits - 8)).astype(np.uint8)
    np.testing.assert_array_equal(image[..., 0], shown if shown.ndim == 2 else shown[..., 0])
    assert image.shape == (20, 30, 3)
    dark = decode_image(png16(pixels), LIMIT, 16)
    np.testing.assert_array_equal(dark[..., 0], (pixels if pixels.ndim == 2 else pixels[..., 0]) >> 8)
    assert decode_image(png16(pixels), LIMIT, 8).max() == 255


@pytest.mark.parametrize("kind", PIXELS)
def test_a_new_session_sees_the_whole_picture(kind: str) -> None:
    data = png16(PIXELS[kind])
    full = decode_image(data, LIMIT)
    assert full.max() == 255
    client = client_on()
    session = opened(client, data)
    for number, click in enumerate(CLICKS, start=1):
        np.testing.assert_array_equal(clicked(client, session, *click), expected(full, CLICKS[:number]))
    assert (expected(full, CLICKS) != expected(upper_eight(PIXELS[kind]), CLICKS)).any(), "the fake sees"
    body = {"image": base64.b64encode(data).decode(), "clicks": [{"x": 30, "y": 20}]}
    np.testing.assert_array_equal(
        mask_of(client.post("/v1/predict", json=body).json()), expected(full, [(30, 20, True)])
    )


def without_depth(value: SessionValue) -> str:
    """Return a value as stored by a server that did not record the bit depth."""
    plain = json.loads(value.to_json())
    del plain["basis"]["bit_depth"]
    return json.dumps(plain)


@pytest.fixture(params=["sqlite", "redis"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    return tmp_path / "sessions.db" if request.param == "sqlite" else request.getfixturevalue("redis_url")


@pytest.mark.check(5)
@pytest.mark.networks
@pytest.mark.parametrize("kind", PIXELS)
@pytest.mark.parametrize("cache", [{}, {"max_cache_bytes": 0}], ids=["cached", "not cached"])
def test_a_session_of_an_older_server_keeps_its_masks(
    kind: str, cache: dict[str, int], where: Path | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, before = png16(PIXELS[kind]), upper_eight(PIXELS[kind])
    first, store = opened(client_on(sessions=where), data), open_store(where)
    value = store.get(first)
    assert value is not None
    history = tuple(Click(y=y, x=x, positive=positive) for x, y, positive in CLICKS)
    old = replace(value, id="old", history=history, position=2, sequence=2)
    text = without_depth(old)
    with monkeypatch.context() as patched:
        patched.setattr(SessionValue, "to_json", lambda self: text)
        store.add(old, data)
    for settings in ({}, {"bit_depth": 12}):  # the server was started again, then with an option
        client = client_on(sessions=where, **cache, **settings)
        address = "/v1/sessions/old"
        mask = rle.decode(client.get(f"{address}/mask").json())
        np.testing.assert_array_equal(mask, expected(before, CLICKS[:2]))
        np.testing.assert_array_equal(mask_of(client.post(f"{address}/redo").json()), expected(before, CLICKS))
        np.testing.assert_array_equal(mask_of(client.post(f"{address}/undo").json()), expected(before, CLICKS[:2]))
        more = [*CLICKS[:2], (40, 25, True)]
        np.testing.assert_array_equal(clicked(client, "old", *more[-1]), expected(before, more))
        client.post(f"{address}/undo")
        assert opened(client, data) != first, "and the same image, opened now, is seen in full"
        value = store.get("old")
        assert value is not None
        assert store.commit(replace(value, history=history, sequence=value.sequence + 1), value.sequence)


def test_a_session_keeps_the_depth_with_which_it_was_opened(tmp_path: Path) -> None:
    data, where = png16(DARK), tmp_path / "sessions.db"
    client = client_on(sessions=where, bit_depth=14)
    session = opened(client, data)
    clicked(client, session, *CLICKS[0])
    again = client_on(sessions=where, bit_depth=10)
    np.testing.assert_array_equal(
        clicked(again, session, *CLICKS[1]), expected(decode_image(data, LIMIT, 14), CLICKS[:2])
    )
    state = client.get(f"/v1/sessions/{session}").json()
    assert not {"bit_depth", "basis"} & set(state), "nothing new in the interface"


def test_a_finished_object_is_edited_on_the_same_picture() -> None:
    client = client_on(bit_depth=14)
    session = opened(client, png16(DARK))
    first = clicked(client, session, *CLICKS[0])
    client.post(f"/v1/sessions/{session}/finish", json={})
    answer = client.post(f"/v1/sessions/{session}/objects/1/edit")
    np.testing.assert_array_equal(mask_of(answer.json()), first)


def test_a_cached_session_is_used_only_for_its_bit_depth() -> None:
    predictor, data = Seeing(), png16(DARK)
    masks = LocalModel(Engine(predictor), Options())
    clicks = tuple(Click(y=y, x=x, positive=positive) for x, y, positive in CLICKS)
    for depth in (16, 0, 14):
        work = Work(session_id="a", load=lambda: data, basis=Basis(bit_depth=depth), clicks=clicks)
        image = decode_image(data, LIMIT, depth)
        np.testing.assert_array_equal(masks.ask(MASK, work).mask, expected(image, CLICKS))


def test_the_depth_is_an_option_of_the_server() -> None:
    assert Options.of({"checkpoint": "a"}).bit_depth == 0
    assert Options.of({"checkpoint": "a", "bit_depth": "12"}).bit_depth == 12
    for wrong in ("9", "-1", "many"):
        with pytest.raises(InputError, match="bit_depth"):
            Options.of({"checkpoint": "a", "bit_depth": wrong})
    with pytest.raises(InputError, match="--bit-depth is 11: expected 8, 10, 12, 14, 16, 0"):
        check(Serve(checkpoint=("a",), bit_depth=11, port=0x7000))
