"""Every route, on a predictor without a network."""

import base64
import json

import numpy as np
import pytest

from models import rle
from models.predictor import Session
from serve.http.shield import SECURITY_HEADERS
from serve.wire.images import decode_mask_png, encode_mask_png
from tests.serve.conftest import Server, encoded, mask_of, picture, refused


def expected(*clicks: tuple[float, float, bool], initial: np.ndarray | None = None) -> np.ndarray:
    session = Server().predictor.open(picture(), initial)
    for x, y, positive in clicks:
        session.click(y, x, positive)
    return session.mask


def test_health_names_the_model(server: Server) -> None:
    server.open()
    assert server.client.get("/v1/health").json() == {
        "status": "ok",
        "model_version": "fake-1",
        "network": "fake",
        "refinement": "standard",
        "sessions": 1,
    }
    assert server.client.get("/v1/health/live").json() == {"status": "ok"}


def test_the_model_is_ready_after_its_first_click(server: Server) -> None:
    refused(server.client.get("/v1/health/ready"), 503, "not_ready")
    server.engine.warm_up()
    assert server.predictor.num_forwards == 1
    assert server.client.get("/v1/health/ready").json() == {"status": "ok"}


def test_open_by_raw_body(server: Server) -> None:
    answer = server.client.post(
        "/v1/sessions", content=encoded(picture(), "JPEG"), headers={"Content-Type": "image/jpeg"}
    ).json()
    assert (answer["width"], answer["height"], answer["model_version"]) == (60, 40, "fake-1")
    assert answer["expires_in_s"] == 3600
    assert len(answer["session_id"]) >= 22, "at least 128 random bits"


@pytest.mark.parametrize("with_mask", [False, True])
def test_open_by_multipart(server: Server, with_mask: bool) -> None:
    initial = np.zeros((40, 60), bool)
    initial[3:9, 4:8] = True
    # Bytes that look like line ends and boundaries must come through.
    files = {"image": ("..\\<b>.svg", encoded(picture()), "image/png")}
    if with_mask:
        files["mask"] = ("mask.png", encode_mask_png(initial), "image/png")
    opened = server.client.post("/v1/sessions", files=files)
    assert opened.status_code == 201, opened.text
    answer = server.click(opened.json()["session_id"], 30, 20)
    np.testing.assert_array_equal(mask_of(answer), expected((30, 20, True), initial=initial if with_mask else None))


@pytest.mark.parametrize("prefix", ["", "data:image/png;base64,"])
def test_open_by_json(server: Server, prefix: str) -> None:
    initial = picture()[..., 0] > 128
    body = {"image": prefix + base64.b64encode(encoded(picture())).decode(), "mask": rle.encode(initial)}
    opened = server.client.post("/v1/sessions", json=body)
    assert opened.status_code == 201, opened.text
    mask = server.client.get(f"/v1/sessions/{opened.json()['session_id']}/mask").json()
    np.testing.assert_array_equal(rle.decode(mask), initial)


def test_a_click_answers_with_its_mask(server: Server) -> None:
    session = server.open()
    answer = server.click(session, 30, 20)
    mask = expected((30, 20, True))
    np.testing.assert_array_equal(mask_of(answer), mask)
    assert {key: answer[key] for key in ("sequence", "num_clicks", "num_redo", "area", "bbox_xywh", "honoured")} == {
        "sequence": 1,
        "num_clicks": 1,
        "num_redo": 0,
        "area": int(mask.sum()),
        "bbox_xywh": [24, 14, 13, 13],
        "honoured": True,
    }
    assert answer["model_version"] == "fake-1"
    assert answer["milliseconds"] >= 0


def test_corners_and_fractions_can_be_clicked(server: Server) -> None:
    session = server.open()
    for x, y in ((0, 0), (59, 39), (0.5, 38.5), (58.75, 0)):
        assert server.click(session, x, y)["honoured"] is True


@pytest.mark.check(54)
def test_a_click_that_the_mask_does_not_follow_is_reported(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Session, "runs", property(lambda self: np.array([self.hw[0] * self.hw[1]])))
    session = server.open()
    assert server.click(session, 5, 5)["honoured"] is False
    assert server.click(session, 5, 5, positive=False)["honoured"] is True


def test_undo_redo_clear(server: Server) -> None:
    session = server.open()
    clicks = [(30, 20, True), (34, 20, False), (10, 10, True)]
    for x, y, positive in clicks:
        server.click(session, x, y, positive)
    for kind, num_clicks, num_redo in (
        ("undo", 2, 1), ("undo", 1, 2), ("redo", 2, 1), ("redo", 3, 0), ("redo", 3, 0),
        ("clear", 0, 3), ("undo", 0, 3), ("redo", 1, 2),
    ):  # fmt: skip
        answer = server.change(session, kind)
        assert (answer["num_clicks"], answer["num_redo"]) == (num_clicks, num_redo), kind
        np.testing.assert_array_equal(mask_of(answer), expected(*clicks[:num_clicks]))
    assert answer["sequence"] == 11
    server.click(session, 50, 30)
    assert server.change(session, "redo")["num_clicks"] == 2, "a new click forgets what was undone"


def test_an_empty_mask_has_an_empty_box(server: Server) -> None:
    session = server.open()
    server.click(session, 5, 5)
    answer = server.change(session, "undo")
    assert (answer["area"], answer["bbox_xywh"], answer["honoured"]) == (0, [0, 0, 0, 0], None)


def test_changes_without_a_body(server: Server) -> None:
    session = server.open()
    server.click(session, 5, 5)
    assert server.client.post(f"/v1/sessions/{session}/undo").json()["num_clicks"] == 0


def test_session_state_and_deletion(server: Server) -> None:
    session = server.open()
    server.click(session, 30.5, 20, positive=False)
    state = server.client.get(f"/v1/sessions/{session}").json()
    assert state["clicks"] == [{"x": 30.5, "y": 20.0, "positive": False}]
    assert (state["sequence"], state["has_initial_mask"], len(state["image_sha256"])) == (1, False, 64)
    assert server.client.delete(f"/v1/sessions/{session}").status_code == 204
    assert server.client.get(f"/v1/sessions/{session}").status_code == 404


def test_mask_as_rle_and_png(server: Server) -> None:
    session = server.open()
    server.click(session, 30, 20)
    mask, address = expected((30, 20, True)), f"/v1/sessions/{session}/mask"
    for answer in (server.client.get(address), server.client.get(address, params={"format": "rle"})):
        np.testing.assert_array_equal(rle.decode(answer.json()), mask)
    for options in ({"headers": {"Accept": "image/png"}}, {"params": {"format": "png"}}):
        answer = server.client.get(address, **options)
        assert answer.headers["content-type"] == "image/png"
        np.testing.assert_array_equal(decode_mask_png(answer.content, (40, 60)), mask)


def test_predict_equals_a_session(server: Server) -> None:
    clicks = [{"x": 30, "y": 20, "positive": True}, {"x": 33, "y": 22, "positive": False}]
    body = {"image": base64.b64encode(encoded(picture())).decode(), "clicks": clicks}
    answer = server.client.post("/v1/predict", json=body).json()
    session = server.open()
    for click in clicks:
        last = server.click(session, **click)
    assert answer["mask"] == last["mask"]
    assert (answer["num_clicks"], answer["sequence"]) == (2, 0)
    assert server.client.get("/v1/health").json()["sessions"] == 1, "predict keeps nothing"


@pytest.mark.check(31)
def test_every_answer_carries_the_security_headers(server: Server) -> None:
    for path in ("/", "/v1/health", "/nowhere", "/web/app.js"):
        headers = server.client.get(path).headers
        assert {name: headers[name] for name in SECURITY_HEADERS} == SECURITY_HEADERS
        assert "access-control-allow-origin" not in headers
    assert server.client.get("/v1/health").headers["cache-control"] == "no-store"


def test_long_answers_are_compressed(server: Server) -> None:
    answer = server.client.get("/openapi.json", headers={"Accept-Encoding": "gzip"})
    assert answer.headers["content-encoding"] == "gzip"


def test_openapi_describes_bodies_and_errors(server: Server) -> None:
    document = server.client.get("/openapi.json").json()
    click = document["paths"]["/v1/sessions/{session_id}/clicks"]["post"]
    schema = click["requestBody"]["content"]["application/json"]["schema"]
    assert schema == {"$ref": "#/components/schemas/ClickRequest"}
    assert {"200", "404", "409", "410", "413", "415", "422", "500"} <= set(click["responses"])
    assert set(click["responses"]["409"]["content"]) == {"application/problem+json"}
    text = json.dumps(document)
    for name in {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}:
        assert name in document["components"]["schemas"], name
    assert "HTTPValidationError" not in text
