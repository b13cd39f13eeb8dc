"""Several objects in a session, settings and previews, models by name: over HTTP, on a fake predictor."""

import io
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from pycocotools.coco import COCO

from models import rle
from serve.core.tokens import Secrets, Token, digest_of
from serve.engine.engine import Engine
from serve.http.app import create_app
from tests.serve.conftest import ADDRESS, Server, encoded, mask_of, picture, refused
from tests.serve.disks import DiskPredictor


def post(server: Server, path: str, **body: Any) -> Any:
    return server.client.post(f"/v1/sessions/{path}", json=body)


def test_objects_are_finished_edited_dropped_and_exported(server: Server) -> None:
    session = server.open()
    first = mask_of(server.click(session, 10, 10))
    done = server.change(session, "finish", label="car", sequence=2)
    assert (done["num_clicks"], done["num_objects"], done["area"]) == (0, 1, 0)
    assert server.change(session, "finish", label="car", sequence=2)["num_objects"] == 1, "a repetition"
    second = mask_of(server.click(session, 40, 30))
    assert not (first & second).any(), "the next object starts from nothing"
    server.change(session, "finish", label="cat")
    listed = server.client.get(f"/v1/sessions/{session}/objects").json()["objects"]
    assert [(each["number"], each["label"]) for each in listed] == [(1, "car"), (2, "cat")]
    for each, mask in zip(listed, (first, second), strict=True):
        np.testing.assert_array_equal(rle.decode(each["mask"]), mask)
        assert each["area"] == mask.sum()

    again = post(server, f"{session}/objects/1/edit").json()
    np.testing.assert_array_equal(mask_of(again), first)
    assert (again["num_clicks"], again["num_objects"]) == (1, 1)
    refused(post(server, f"{session}/objects/2/edit"), 409, "object_open")
    refused(post(server, f"{session}/recall", number=2), 409, "object_open")
    server.click(session, 12, 10)
    assert server.change(session, "undo")["num_clicks"] == 1
    server.change(session, "finish", label="car")

    exported = server.client.get(f"/v1/sessions/{session}/export?file_name=a.jpg").json()
    coco = COCO()
    coco.dataset = exported
    coco.createIndex()
    found = {
        annotation["category_id"]: coco.annToMask(annotation).astype(bool) for annotation in exported["annotations"]
    }
    np.testing.assert_array_equal(found[1], first)
    np.testing.assert_array_equal(found[2], second)
    assert [category["name"] for category in exported["categories"]] == ["car", "cat"]

    assert server.client.delete(f"/v1/sessions/{session}/objects/2").json()["num_objects"] == 1
    refused(server.client.delete(f"/v1/sessions/{session}/objects/2"), 404, "object_unknown")


def test_empty_and_too_many_objects_are_refused(make_server: Callable[..., Server]) -> None:
    server = make_server(max_objects=1)
    session = server.open()
    refused(post(server, f"{session}/finish"), 422, "object_empty")
    server.click(session, 10, 10)
    server.change(session, "finish")
    server.click(session, 30, 30)
    refused(post(server, f"{session}/finish"), 422, "too_many_objects")
    assert server.client.get(f"/v1/sessions/{session}").json()["num_objects"] == 1


def test_parts_of_a_recalled_union_are_objects_without_the_known_one(server: Server) -> None:
    session = server.open()
    server.click(session, 10, 10)
    server.change(session, "finish", label="cell")
    refused(post(server, f"{session}/recall", number=1), 422, "no_exemplar")
    server.predictor.takes_exemplar = True
    server.change(session, "recall", number=1)
    assert server.client.get(f"/v1/sessions/{session}").json()["has_exemplar"]
    union = mask_of(server.click(session, 40, 10))
    mask_of(server.click(session, 40, 33))
    done = server.change(session, "finish", label="cell", parts=True)
    assert union[10, 10], "the fake finds the exemplar again"
    assert [each["number"] for each in done["objects"]] == [1, 2, 3]
    assert not any(rle.decode(each["mask"])[10, 10] for each in done["objects"][1:])
    one = post(server, f"{session}/objects/2/edit").json()
    np.testing.assert_array_equal(mask_of(one), rle.decode(done["objects"][1]["mask"]))


def test_an_exported_exemplar_opens_a_session(server: Server) -> None:
    import base64

    server.predictor.takes_exemplar = True
    session = server.open()
    mask = mask_of(server.click(session, 10, 10))
    server.change(session, "finish", label="cell")
    (exemplar,) = server.client.get(f"/v1/sessions/{session}/export?format=exemplars").json()["exemplars"]
    body = {"image": base64.b64encode(encoded(picture())).decode(), "exemplar": exemplar}
    other = server.client.post("/v1/sessions", json=body).json()["session_id"]
    assert (mask_of(server.click(other, 40, 30)) & mask).sum() == mask.sum()
    server.predictor.takes_exemplar = False
    refused(server.client.post("/v1/sessions", json=body), 422, "no_exemplar")


def test_settings_recompute_the_mask_of_the_same_clicks(server: Server) -> None:
    session = server.open()
    plain = server.click(session, 20, 20)
    larger = server.change(session, "settings", refinement="cfr_1", sequence=2)
    assert larger["area"] > plain["area"]
    assert (larger["sequence"], larger["num_clicks"]) == (2, 1)
    chosen = server.client.post(
        "/v1/sessions?refinement=cfr_1&mask_threshold=0.4",
        content=encoded(picture()),
        headers={"Content-Type": "image/png"},
    ).json()
    assert (chosen["refinement"], chosen["mask_threshold"]) == ("cfr_1", 0.4)
    assert server.click(chosen["session_id"], 20, 20)["mask"] == larger["mask"]
    num = server.predictor.num_forwards
    server.change(session, "settings", mask_threshold=0.9)
    refused(post(server, f"{session}/settings", refinement="cfr_9"), 422, "bad_refinement")
    refused(post(server, f"{session}/settings", refinement="../x.json"), 422, "bad_request")
    refused(post(server, f"{session}/settings", mask_threshold=1), 422, "bad_request")
    assert server.client.get(f"/v1/sessions/{session}").json()["sequence"] == 3
    assert server.predictor.num_forwards == num, "another threshold alone needs no forward"


def test_a_preview_changes_nothing_and_makes_the_click_free(server: Server) -> None:
    session = server.open()
    server.click(session, 10, 10)
    seen = server.change(session, "preview", x=30, y=30)
    assert (seen["sequence"], seen["num_clicks"]) == (1, 2)
    assert server.client.get(f"/v1/sessions/{session}").json()["sequence"] == 1
    num = server.predictor.num_forwards
    made = server.click(session, 30, 30, sequence=2)
    assert made["mask"] == seen["mask"]
    assert server.predictor.num_forwards == num
    refused(post(server, f"{session}/preview", x=999, y=1), 422, "bad_click")


def test_views_of_a_session(server: Server) -> None:
    session = server.open()
    mask = mask_of(server.click(session, 20, 20))
    answer = server.client.get(f"/v1/sessions/{session}/probability")
    assert answer.headers["content-type"] == "image/png"
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(answer.content))), mask * np.uint8(255))
    (step,) = server.client.get(f"/v1/sessions/{session}/steps").json()["steps"]
    assert (step["name"], step["num_changed"]) == ("first look", mask.sum())
    bits = server.client.get(f"/v1/sessions/{session}/mask?format=bits").content
    line, _, rest = bits.partition(b"\n")
    patch = json.loads(line)["patch"]
    x, y, width, height = patch["bbox_xywh"]
    found = np.zeros(patch["size"], bool)
    found[y : y + height, x : x + width] = np.unpackbits(np.frombuffer(rest, np.uint8), count=width * height).reshape(
        height, width
    )
    np.testing.assert_array_equal(found, mask)


def test_models_are_chosen_by_name() -> None:
    small, large = DiskPredictor(), DiskPredictor()
    large.radius, large.model_version = 9.0, "fake-2"
    client = TestClient(create_app({"small": Engine(small), "large": Engine(large)}), ADDRESS)
    listed = client.get("/v1/models").json()["models"]
    assert [(each["name"], each["default"]) for each in listed] == [("small", True), ("large", False)]
    image = encoded(picture())
    areas = []
    for name in ("small", "large"):
        opened = client.post(f"/v1/sessions?model={name}", content=image, headers={"Content-Type": "image/png"}).json()
        assert opened["model"] == name
        answer = client.post(f"/v1/sessions/{opened['session_id']}/clicks", json={"x": 20, "y": 20}).json()
        areas.append((answer["area"], answer["model_version"]))
    assert areas[0][0] < areas[1][0]
    assert [version for _, version in areas] == ["fake-1", "fake-2"]
    refused(
        client.post("/v1/sessions?model=huge", content=image, headers={"Content-Type": "image/png"}),
        422,
        "model_unknown",
    )


@pytest.mark.check(26)
@pytest.mark.parametrize("path", ["", "/mask", "/image", "/objects", "/steps", "/probability", "/export"])
def test_a_session_is_unknown_to_another_token(path: str) -> None:
    tokens = tuple(Token(name=name, role="annotator", sha256=digest_of(name)) for name in ("anna", "bert"))
    client = TestClient(create_app(Engine(DiskPredictor()), secrets=Secrets(tokens=tokens)), ADDRESS)
    mine, other = ({"Authorization": f"Bearer {name}"} for name in ("anna", "bert"))
    kind = {"Content-Type": "image/png"}
    session = client.post("/v1/sessions", content=encoded(picture()), headers=mine | kind).json()["session_id"]
    assert client.get(f"/v1/sessions/{session}{path}", headers=mine).status_code == 200
    refused(client.get(f"/v1/sessions/{session}{path}", headers=other), 404, "session_unknown")
    for change in ("undo", "preview", "finish"):
        body = {"x": 1, "y": 1} if change == "preview" else {}
        refused(client.post(f"/v1/sessions/{session}/{change}", headers=other, json=body), 404, "session_unknown")
    refused(client.delete(f"/v1/sessions/{session}", headers=other), 404, "session_unknown")


def test_an_object_made_elsewhere_is_added_as_it_was(server: Server) -> None:
    first, other = server.open(), server.open()
    server.click(first, 10, 10)
    server.change(first, "finish", label="car")
    (made,) = server.client.get(f"/v1/sessions/{first}/objects").json()["objects"]
    disk = mask_of(server.click(other, 30, 30))
    body = {name: made[name] for name in ("mask", "label", "clicks", "initial_mask")}
    added = post(server, f"{other}/objects", **body, sequence=2)
    assert added.status_code == 200, added.text
    assert added.json()["objects"] == [made]
    assert mask_of(added.json()).sum() == disk.sum(), "the current object stays"
    assert post(server, f"{other}/objects", **body, sequence=2).json()["num_objects"] == 1, "a repetition"
    server.change(other, "clear")
    again = post(server, f"{other}/objects/1/edit").json()
    assert (again["num_clicks"], again["mask"]) == (1, made["mask"])
    refused(post(server, f"{other}/objects", mask={"size": [3, 5], "counts": "?"}), 422, "bad_rle")
    refused(post(server, f"{other}/objects", **body | {"clicks": [{"x": 999, "y": 1}]}), 422, "bad_click")


def test_added_objects_have_limits(make_server: Callable[..., Server]) -> None:
    server = make_server(max_objects=2, max_added_bytes=60, max_object_body_bytes=2000)
    session = server.open()
    small, ragged = np.zeros((40, 60), bool), np.random.default_rng(0).random((40, 60)) > 0.99
    small[3:9, 4:8] = True
    assert len(rle.encode(ragged)["counts"]) > 60
    refused(post(server, f"{session}/objects", mask=rle.encode(ragged)), 422, "too_many_objects")
    refused(post(server, f"{session}/objects", mask=rle.encode(small), label="x" * 3000), 413, "body_too_large")
    for _ in range(2):
        assert post(server, f"{session}/objects", mask=rle.encode(small)).status_code == 200
    refused(post(server, f"{session}/objects", mask=rle.encode(small)), 422, "too_many_objects")


def test_a_session_reports_everything_it_was_opened_with(server: Server) -> None:
    import base64

    server.predictor.takes_exemplar = True
    mask = np.zeros((40, 60), bool)
    mask[5:9, 5:9] = True
    exemplar = {"mask": dict(rle.encode(mask)), "clicks": [{"x": 6, "y": 6, "positive": True}]}
    body = {"image": base64.b64encode(encoded(picture())).decode(), "mask": rle.encode(mask), "exemplar": exemplar}
    session = server.client.post("/v1/sessions", json=body).json()["session_id"]
    state = server.client.get(f"/v1/sessions/{session}").json()
    assert (state["initial_mask"], state["exemplar"]) == (rle.encode(mask), exemplar | {"label": ""})
    file = server.client.get(f"/v1/sessions/{session}/image")
    assert (file.headers["content-type"], file.content) == ("image/png", encoded(picture()))
    server.client.delete(f"/v1/sessions/{session}")
    refused(server.client.get(f"/v1/sessions/{session}/image"), 404, "session_unknown")
