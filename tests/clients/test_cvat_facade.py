"""CVAT's three requests to nuclio as its server makes them, and CVAT's own mask code on what comes back."""

import base64
from typing import Any

import numpy as np
import pytest
import requests
from cvat_sdk.masks import decode_mask, encode_mask

from tests.clients.conftest import HEIGHT, WIDTH
from tests.clients.native import native_mask


@pytest.fixture(scope="module")
def session() -> requests.Session:
    session = requests.Session()
    session.trust_env = False
    return session


def invoke(session: requests.Session, address: str, name: str, **body: Any) -> requests.Response:
    headers = {"x-nuclio-function-name": name, "x-nuclio-path": "/", "X-Nuclio-Invoke-Timeout": "120s"}
    return session.post(f"{address}/api/function_invocations", json=body, headers=headers, timeout=120)


@pytest.mark.check(53)
def test_the_three_requests(session: requests.Session, address: str, image_file: bytes) -> None:
    headers = {"x-nuclio-project-name": "cvat", "x-nuclio-function-namespace": "nuclio"}
    listed = session.get(f"{address}/api/functions", headers=headers, timeout=60).json()
    [(name, function)] = listed.items()
    annotations = function["metadata"]["annotations"]
    assert annotations["type"] == "interactor"
    assert session.get(f"{address}/api/functions/{name}", headers=headers, timeout=60).json() == function

    picture = base64.b64encode(image_file).decode()
    answer = invoke(
        session, address, name, image=picture, pos_points=[[30.4, 20.6], [50.2, 30.9]], neg_points=[[8, 8]], obj_bbox=[]
    )
    assert answer.status_code == 200, answer.text
    mask = np.array(answer.json()["mask"])
    assert mask.shape == (HEIGHT, WIDTH)
    assert set(np.unique(mask)) == {0, 1}
    expected = native_mask(address, image_file, (30, 20, True), (50, 30, True), (8, 8, False))
    np.testing.assert_array_equal(mask.astype(bool), expected)
    # What CVAT's page makes of it to save it, and what comes out of its exports.
    stored = encode_mask(mask.astype(bool))
    np.testing.assert_array_equal(decode_mask(stored, image_width=WIDTH, image_height=HEIGHT), expected)


def test_other_functions_are_not_here(session: requests.Session, address: str) -> None:
    assert session.get(f"{address}/api/functions/other", timeout=60).status_code == 404
    assert invoke(session, address, "other", image="", pos_points=[]).status_code == 404
