"""Label Studio's bodies as its client sends them, and its SDK's own judgement of our answers."""

import base64
import io
import time
from typing import Any

import numpy as np
import pytest
import requests
from label_studio_sdk.converter import brush
from label_studio_sdk.label_interface import LabelInterface
from PIL import Image

from serve.faces import brush_rle
from tests.clients.conftest import HEIGHT, WIDTH
from tests.clients.native import native_mask

CLICKS = ((30, 20, True), (50, 30, True), (8, 8, False))
CONFIG = """<View>
  <Image name="image" value="$photo"/>
  <KeyPointLabels name="kp" toName="image" smart="true"><Label value="car"/></KeyPointLabels>
  <{tag} name="mask" toName="image"><Label value="cat"/><Label value="car"/></{tag}>
</View>"""
TIMEOUTS = {"health": (1.0, 1.0), "setup": (1.0, 3.0), "predict": (1.0, 100.0)}  # to connect, to read: its defaults


@pytest.fixture(scope="module")
def session() -> requests.Session:
    """As label_studio/ml/api_connector.py sets it up."""
    session = requests.Session()
    session.trust_env = False
    session.headers["User-Agent"] = "heartex/1.23.2"
    adapter = requests.adapters.HTTPAdapter(max_retries=2)
    session.mount("http://", adapter)
    return session


def key_point(x: float, y: float, positive: bool) -> dict[str, Any]:
    return {
        "id": f"k{x:g}",
        "type": "keypointlabels",
        "from_name": "kp",
        "to_name": "image",
        "original_width": WIDTH,
        "original_height": HEIGHT,
        "image_rotation": 0,
        "is_positive": positive,
        "value": {
            "x": (x + 0.5) / WIDTH * 100,
            "y": (y + 0.5) / HEIGHT * 100,
            "width": 0.3,
            "keypointlabels": ["car"],
            "labels": ["car"],
        },
    }


def predict(session: requests.Session, address: str, image: bytes, tag: str) -> dict[str, Any]:
    body = {
        "tasks": [{"id": 7, "data": {"photo": base64.b64encode(image).decode()}, "annotations": [], "drafts": []}],
        "project": f"3.{int(time.time())}",
        "label_config": CONFIG.format(tag=tag),
        "params": {"login": None, "password": None, "context": {"result": [key_point(*click) for click in CLICKS]}},
    }
    answer = session.post(f"{address}/ls/predict", json=body, timeout=TIMEOUTS["predict"])
    assert answer.status_code == 200, answer.text
    [prediction] = answer.json()["results"]
    return prediction


@pytest.mark.check(53)
def test_label_studio_accepts_the_backend(session: requests.Session, address: str) -> None:
    health = session.get(f"{address}/ls/health", timeout=TIMEOUTS["health"])
    assert (health.status_code, health.json()["status"]) == (200, "UP")
    body = {
        "project": f"3.{int(time.time())}",
        "schema": CONFIG.format(tag="BrushLabels"),
        "hostname": "http://localhost:8080",
        "access_token": "secret",
        "extra_params": None,
    }
    setup = session.post(f"{address}/ls/setup", json=body, timeout=TIMEOUTS["setup"])
    assert (setup.status_code, bool(setup.json()["model_version"])) == (200, True)
    hook = {"action": "ANNOTATION_CREATED", "project": {"id": 3}}
    assert session.post(f"{address}/ls/webhook", json=hook, timeout=TIMEOUTS["setup"]).status_code == 201


@pytest.mark.check(53)
@pytest.mark.parametrize("tag", ["BrushLabels", "BitmaskLabels", "PolygonLabels"])
def test_predictions_pass_the_validator(session: requests.Session, address: str, image_file: bytes, tag: str) -> None:
    prediction = predict(session, address, image_file, tag)
    assert prediction["result"]
    interface = LabelInterface(CONFIG.format(tag=tag))
    assert interface.validate_prediction(prediction, return_errors=True) == []
    prediction["result"][0]["from_name"] = "no-such-tag"
    assert interface.validate_prediction(prediction, return_errors=True), "the validator looks at nothing"


@pytest.mark.check(53)
def test_the_brush_is_the_mask(session: requests.Session, address: str, image_file: bytes) -> None:
    [region] = predict(session, address, image_file, "BrushLabels")["result"]
    pixels = brush.decode_rle(region["value"]["rle"]).reshape(HEIGHT, WIDTH, 4)
    expected = native_mask(address, image_file, *CLICKS)
    np.testing.assert_array_equal(pixels, np.repeat(expected[..., None] * np.uint8(255), 4, axis=2))


@pytest.mark.check(53)
def test_the_bitmask_is_the_mask(session: requests.Session, address: str, image_file: bytes) -> None:
    [region] = predict(session, address, image_file, "BitmaskLabels")["result"]
    data = base64.b64decode(region["value"]["imageDataURL"].partition(",")[2])
    shown = np.array(Image.open(io.BytesIO(data)).convert("RGBA"))[..., 3] > 0
    np.testing.assert_array_equal(shown, native_mask(address, image_file, *CLICKS))


@pytest.mark.parametrize("hw", [(1, 1), (3, 5), (40, 61), (300, 200)])
def test_both_codecs_of_brushes_agree(hw: tuple[int, int]) -> None:
    mask = np.random.default_rng(hw[1]).random(hw) < 0.3
    mask[: hw[0] // 2] = False  # long runs too
    np.testing.assert_array_equal(brush.decode_rle(brush_rle.encode(mask)).reshape(*hw, 4)[..., 3] > 0, mask)
    np.testing.assert_array_equal(brush_rle.decode(brush.mask2rle(mask.astype(np.uint8) * 255), hw), mask)
