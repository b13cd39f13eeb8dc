"""Empty and whole masks in every encoding, and a correct statement whether a mask honours its click."""

import base64
import io
import json
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools.coco import COCO

from models import rle
from models.networks.base import Output
from models.predictor import Predictor, Session
from serve.client import Client
from serve.core.options import Options
from serve.engine.engine import Engine
from serve.faces import brush_rle
from serve.faces.remote_clicks import RemoteClicks
from serve.http.app import create_app
from serve.wire.images import decode_mask_png
from tests.serve.conftest import Server, encoded, mask_of, picture
from tests.serve.disks import CERTAIN, Disks
from tests.serve.test_faces_cvat import invoke, mask_from
from tests.serve.test_faces_label_studio import BITMASK, BRUSH, CONFIG, POLYGON
from tests.training.toys import TOYS

SIZES = [(40, 60), (1, 60), (40, 1), (1, 1)]


@pytest.fixture(params=SIZES, ids=str)
def hw(request: pytest.FixtureRequest) -> tuple[int, int]:
    return request.param


@pytest.fixture(params=[False, True], ids=["empty", "whole"])
def mask(request: pytest.FixtureRequest, hw: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """The network's answer to any click."""
    found = np.full(hw, request.param)
    logits = CERTAIN * (2 * torch.from_numpy(found).float()[None, None] - 1)
    monkeypatch.setattr(Disks, "forward", lambda *_: Output(logits))
    monkeypatch.setattr(Session, "_mask", lambda _: torch.from_numpy(found))  # before the first click, too
    return found


@pytest.fixture
def session(server: Server, mask: np.ndarray) -> str:
    session = server.open(encoded(picture(*mask.shape)))
    server.click(session, 0, 0)
    return session


@pytest.mark.check(55)
def test_http(server: Server, session: str, mask: np.ndarray) -> None:
    address, (height, width) = f"/v1/sessions/{session}", mask.shape
    answer = server.client.post(f"{address}/clicks", json={"x": 0, "y": 0}).json()
    np.testing.assert_array_equal(mask_of(answer), mask)
    whole = bool(mask.all())
    box = [0, 0, width, height] if whole else [0, 0, 0, 0]
    assert (answer["area"], answer["bbox_xywh"], answer["honoured"]) == (mask.sum(), box, whole)
    np.testing.assert_array_equal(rle.decode(server.client.get(f"{address}/mask?format=rle").json()), mask)
    png = server.client.get(f"{address}/mask?format=png").content
    np.testing.assert_array_equal(decode_mask_png(png, (height, width)), mask)
    line, _, bits = server.client.get(f"{address}/mask?format=bits").content.partition(b"\n")
    patch = json.loads(line)["patch"]
    assert (patch["bbox_xywh"], patch["num_bytes"]) == (box, len(bits))
    found = np.zeros(mask.shape, bool)
    found[: box[3], : box[2]] = np.unpackbits(np.frombuffer(bits, np.uint8), count=box[2] * box[3]).reshape(
        box[3], box[2]
    )
    np.testing.assert_array_equal(found, mask)
    grey = np.asarray(Image.open(io.BytesIO(server.client.get(f"{address}/probability").content)))
    np.testing.assert_array_equal(grey, mask * np.uint8(255))
    steps = server.client.get(f"{address}/steps").json()["steps"]
    np.testing.assert_array_equal(rle.decode(steps[-1]["mask"]), mask)


@pytest.mark.check(55)
def test_it_can_be_the_initial_mask(server: Server, mask: np.ndarray) -> None:
    image = encoded(picture(*mask.shape))
    png = encoded(Image.fromarray(mask))
    by_form = server.client.post("/v1/sessions", files={"image": image, "mask": png})
    body = {"image": base64.b64encode(image).decode(), "mask": rle.encode(mask)}
    by_json = server.client.post("/v1/sessions", json=body)
    for opened in (by_form, by_json):
        assert opened.status_code == 201, opened.text
        address = f"/v1/sessions/{opened.json()['session_id']}/mask"
        np.testing.assert_array_equal(rle.decode(server.client.get(address).json()), mask)


@pytest.mark.check(55)
def test_live(server: Server, session: str, mask: np.ndarray) -> None:
    for mode in ("rle", "bits"):
        with server.client.websocket_connect(f"ws://localhost/v1/sessions/{session}/live?mask={mode}") as socket:
            socket.send_json({"kind": "click", "x": 0, "y": 0})
            answer = socket.receive_json()
            if mode == "rle":
                np.testing.assert_array_equal(mask_of(answer), mask)
                continue
            x, y, width, height = answer["patch"]["bbox_xywh"]
            found = np.zeros(mask.shape, bool)
            if width:
                bits = np.frombuffer(socket.receive_bytes(), np.uint8)
                found[y : y + height, x : x + width] = np.unpackbits(bits, count=width * height).reshape(height, width)
            np.testing.assert_array_equal(found, mask)


def label_studio(server: Server, mask: np.ndarray, output: str) -> list[dict[str, Any]]:
    height, width = mask.shape
    point = {
        "type": "keypointlabels",
        "original_width": width,
        "original_height": height,
        "is_positive": True,
        "value": {"x": 50 / width, "y": 50 / height, "keypointlabels": ["car"]},
    }
    body = {
        "tasks": [{"data": {"photo": base64.b64encode(encoded(picture(height, width))).decode()}}],
        "label_config": CONFIG.format(output=output),
        "params": {"context": {"result": [point]}},
    }
    answer = server.client.post("/ls/predict", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()["results"][0]["result"]


@pytest.mark.check(55)
def test_label_studio(server: Server, mask: np.ndarray) -> None:
    for output in (BRUSH, BITMASK, POLYGON):
        regions = label_studio(server, mask, output)
        if not mask.any():
            assert regions == []
            continue
        if output is POLYGON and min(mask.shape) == 1:
            assert len(regions) <= 1, "thinner than a pixel's centre to the next: no polygon has an area there"
            continue
        (region,) = regions
        value = region["value"]
        if output is BRUSH:
            found = brush_rle.decode(value["rle"], (mask.shape[0], mask.shape[1]))
        elif output is BITMASK:
            png = base64.b64decode(value["imageDataURL"].partition(",")[2])
            found = np.asarray(Image.open(io.BytesIO(png)))[..., 1] > 0
        else:
            scale = np.array([mask.shape[1], mask.shape[0]]) / 100
            outline = np.round(np.array(value["points"]) * scale - 0.5).astype(np.int32)
            found = cv2.fillPoly(np.zeros(mask.shape, np.uint8), [outline], (1,)).astype(bool)
        np.testing.assert_array_equal(found, mask)


@pytest.mark.check(55)
def test_cvat_and_its_agent(server: Server, mask: np.ndarray) -> None:
    image = encoded(picture(*mask.shape))
    np.testing.assert_array_equal(mask_from(invoke(server, [[0.5, 0.5]], image=image)), mask)
    client = Client("http://localhost", tries=1)
    client._http = server.client
    np.testing.assert_array_equal(RemoteClicks(client, image).mask([(0.5, 0.5)], []), mask)


@pytest.mark.check(55)
def test_finished_objects(server: Server, session: str, mask: np.ndarray) -> None:
    for parts in (False, True):
        done = server.client.post(f"/v1/sessions/{session}/finish", json={"parts": parts})
        if not mask.any():
            assert (done.status_code, done.json()["code"]) == (422, "object_empty")
            assert server.client.get(f"/v1/sessions/{session}/export").json()["annotations"] == []
            continue
        found = done.json()["objects"]
        assert len(found) == 1, "the second is the first, found again"
        np.testing.assert_array_equal(rle.decode(found[0]["mask"]), mask)
        coco = COCO()
        coco.dataset = server.client.get(f"/v1/sessions/{session}/export").json()
        coco.createIndex()
        np.testing.assert_array_equal(coco.annToMask(coco.dataset["annotations"][0]).astype(bool), mask)
        (exemplar,) = server.client.get(f"/v1/sessions/{session}/export?format=exemplars").json()["exemplars"]
        np.testing.assert_array_equal(rle.decode(exemplar["mask"]), mask)


@pytest.fixture(scope="module", params=["simpleclick", "mobile_sam"])
def real(request: pytest.FixtureRequest) -> TestClient:
    """The interface on a network of random weights, which honours about every other click."""
    return TestClient(
        create_app(Engine(Predictor(TOYS[request.param]())), Options(clicks_per_second=0)), "http://localhost"
    )


@pytest.mark.check(54)
@pytest.mark.networks
@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 63, width=32), st.floats(0, 47, width=32), st.booleans()), min_size=1, max_size=4)
)
def test_an_answer_states_whether_its_click_was_honoured(
    real: TestClient, clicks: list[tuple[float, float, bool]]
) -> None:
    image = base64.b64encode(encoded(picture(48, 64))).decode()
    session = real.post("/v1/sessions", json={"image": image}).json()["session_id"]
    for x, y, positive in clicks:
        answer = real.post(f"/v1/sessions/{session}/clicks", json={"x": x, "y": y, "positive": positive}).json()
        at_click = bool(mask_of(answer)[int(y + 0.5), int(x + 0.5)])
        assert answer["honoured"] == (at_click == positive)
    real.delete(f"/v1/sessions/{session}")
