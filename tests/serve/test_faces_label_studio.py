"""Label Studio's ML backend: the bodies that its client sends, and regions for its configuration."""

import base64
import io
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from serve.core.problems import Problem
from serve.faces import brush_rle
from serve.faces.label_config import parse_config
from tests.serve.conftest import Server, encoded, mask_of, picture, refused
from tests.serve.test_faces_cvat import invoke, mask_from

CONFIG = """<View>
  <!-- smart tools -->
  <Image name="image" value="$photo"/>
  <KeyPointLabels name="kp" toName="image" smart="true"><Label value="car"/><Label value="not"/></KeyPointLabels>
  {output}
</View>"""
BRUSH = '<BrushLabels name="brush" toName="image"><Label value="car"/><Label value="cat"/></BrushLabels>'
BITMASK = BRUSH.replace("BrushLabels", "BitmaskLabels").replace('"brush"', '"bits"')
POLYGON = BRUSH.replace("BrushLabels", "PolygonLabels").replace('"brush"', '"poly"')
IMAGE = base64.b64encode(encoded(picture())).decode()


def key_point(x: float, y: float, positive: bool | None = True, label: str | None = "car", **rest: Any) -> Any:
    """A click on the pixel (x, y) of picture(), as the browser reports one."""
    region = {
        "id": "k1",
        "type": "keypointlabels" if label else "keypoint",
        "from_name": "kp",
        "to_name": "image",
        "original_width": 60,
        "original_height": 40,
        "image_rotation": 0,
        "value": {"x": (x + 0.5) / 60 * 100, "y": (y + 0.5) / 40 * 100, "width": 0.3},
    }
    if label:
        region["value"]["keypointlabels"] = region["value"]["labels"] = [label]
    return region | ({} if positive is None else {"is_positive": positive}) | rest


def predict(server: Server, *regions: Any, output: str = BRUSH, image: Any = IMAGE, **rest: Any) -> Any:
    body = {
        "tasks": [{"id": 7, "data": {"photo": image}, "annotations": []}],
        "project": "3.1722334455",
        "label_config": CONFIG.format(output=output),
        "params": {"login": None, "password": None, "context": {"result": list(regions)}},
    }
    return server.client.post("/ls/predict", json=body | rest)


def regions_of(answer: Any) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    [prediction] = answer.json()["results"]
    assert prediction["model_version"] == "fake-1"
    return prediction["result"]


def brush_of(answer: Any, hw: tuple[int, int] = (40, 60)) -> np.ndarray:
    [region] = regions_of(answer)
    return brush_rle.decode(region["value"]["rle"], hw)


def native(server: Server, *clicks: tuple[float, float, bool]) -> np.ndarray:
    session = server.open()
    return mask_of([server.click(session, *click) for click in clicks][-1])


@pytest.mark.parametrize("path", ["/ls/health", "/ls/", "/ls"])
def test_health_does_not_call_the_model(server: Server, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.setattr("serve.engine.local_model.LocalModel.info", lambda self: 1 / 0)
    answer = server.client.get(path)
    assert (answer.status_code, answer.json()) == (200, {"status": "UP", "model_class": "Maskwright"})


@pytest.mark.check(29)
def test_setup_names_the_model_and_forgets_the_token(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(0)
    body = {
        "project": "3.1722334455",
        "schema": CONFIG.format(output=BRUSH),
        "hostname": "http://label-studio:8080",
        "access_token": "secret-token",
        "extra_params": None,
    }
    answer = server.client.post("/ls/setup", json=body)
    assert (answer.status_code, answer.json()) == (200, {"model_version": "fake-1"})
    assert server.client.get("/ls/versions").json() == {"versions": ["fake-1"]}
    assert "secret-token" not in caplog.text


@pytest.mark.parametrize(
    ("action", "status"), [("ANNOTATION_CREATED", 201), ("START_TRAINING", 201), ("PROJECT_UPDATED", 200), ("", 200)]
)
def test_webhook(server: Server, action: str, status: int) -> None:
    answer = server.client.post("/ls/webhook", json={"action": action, "project": {"id": 3}})
    assert (answer.status_code, answer.json()["status"]) == (status, "ok")


def test_a_click_gives_a_brush(server: Server) -> None:
    answer = predict(server, key_point(30, 20))
    [region] = regions_of(answer)
    assert {key: value for key, value in region.items() if key not in ("id", "value")} == {
        "from_name": "brush",
        "to_name": "image",
        "type": "brushlabels",
        "original_width": 60,
        "original_height": 40,
        "image_rotation": 0,
        "score": 1.0,
        "readonly": False,
    }
    assert region["id"]
    assert (region["value"]["format"], region["value"]["brushlabels"]) == ("rle", ["car"])
    np.testing.assert_array_equal(brush_of(answer), native(server, (30, 20, True)))


def test_masks_equal_those_of_a_session(server: Server) -> None:
    points = [key_point(30, 20, None), key_point(33, 20, False), key_point(40, 22)]
    for num in (1, 2, 3, 3):
        answer = predict(server, *points[:num])
    assert (server.predictor.num_opened, server.predictor.num_forwards) == (1, 3), "each call continued the last"
    expected = native(server, (30, 20, True), (33, 20, False), (40, 22, True))
    np.testing.assert_array_equal(brush_of(answer), expected)


def test_both_protocols_give_the_same_mask(server: Server) -> None:
    np.testing.assert_array_equal(mask_from(invoke(server, [[30, 20]])), brush_of(predict(server, key_point(30, 20))))


def test_a_label_can_mark_negative_clicks(make_server: Callable[..., Server]) -> None:
    server = make_server(negative_labels=("not",))
    answer = predict(server, key_point(30, 20), key_point(33, 20, label="not"))
    np.testing.assert_array_equal(brush_of(answer), native(server, (30, 20, True), (33, 20, False)))
    assert regions_of(answer)[0]["value"]["brushlabels"] == ["car"]


def test_a_bitmask_is_black_on_clear(server: Server) -> None:
    [region] = regions_of(predict(server, key_point(30, 20), output=BITMASK))
    assert (region["type"], region["from_name"], region["value"]["bitmasklabels"]) == ("bitmasklabels", "bits", ["car"])
    head, _, data = region["value"]["imageDataURL"].partition(",")
    assert head == "data:image/png;base64"
    pixels = np.array(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGBA"))
    np.testing.assert_array_equal(pixels[..., 3], native(server, (30, 20, True)) * np.uint8(255))
    assert not pixels[..., :3].any()


def test_each_part_is_a_polygon(server: Server) -> None:
    found = regions_of(predict(server, key_point(10, 20), key_point(40, 20), output=POLYGON))
    assert [region["value"]["polygonlabels"] for region in found] == [["car"], ["car"]]
    assert all(region["value"]["closed"] for region in found)
    drawn = np.zeros((40, 60), np.uint8)
    for region in found:
        points = np.array(region["value"]["points"]) * [0.6, 0.4] - 0.5
        cv2.fillPoly(drawn, [np.rint(points).astype(np.int32)], 1)
    expected = native(server, (10, 20, True), (40, 20, True))
    one_pixel = np.ones((3, 3), np.uint8)
    assert not (drawn > cv2.dilate(expected.astype(np.uint8), one_pixel)).any()
    assert not (drawn < cv2.erode(expected.astype(np.uint8), one_pixel)).any()


@pytest.mark.parametrize(
    ("output", "kind"),
    [
        (POLYGON + BITMASK + BRUSH, "brushlabels"),
        (POLYGON + BITMASK, "bitmasklabels"),
        ('<Brush name="brush" toName="image"/>', "brush"),
        ('<BrushLabels name="brush" toName="image" value="$labels"/>', "brushlabels"),
        ('<BrushLabels name="b" toName="image"><Label value="x"/></BrushLabels>' + POLYGON, "polygonlabels"),
        ('<BrushLabels name="b" toName="other"><Label value="car"/></BrushLabels>' + POLYGON, "polygonlabels"),
    ],
)
def test_the_configuration_decides_the_kind_of_region(server: Server, output: str, kind: str) -> None:
    [region] = regions_of(predict(server, key_point(30, 20), output=output))
    assert region["type"] == kind
    assert region["value"].get(kind) == (["car"] if kind.endswith("labels") else None)


def test_a_click_without_a_label_takes_the_first(server: Server) -> None:
    [region] = regions_of(predict(server, key_point(30, 20, label=None)))
    assert region["value"]["brushlabels"] == ["car"]


def test_regions_carry_the_alias_of_a_label(server: Server) -> None:
    output = '<BrushLabels name="b" toName="image"><Label value="Automobile" alias="auto"/></BrushLabels>'
    [region] = regions_of(predict(server, key_point(30, 20, label=None), output=output))
    assert region["value"]["brushlabels"] == ["auto"]


def test_an_empty_mask_has_no_region(server: Server) -> None:
    assert regions_of(predict(server, key_point(30, 20, False))) == []


@pytest.mark.parametrize("params", [None, {}, {"context": None}, {"context": {}}, {"context": {"result": None}}])
def test_without_clicks_every_task_has_an_empty_prediction(server: Server, params: Any) -> None:
    tasks = [{"id": i, "data": {"photo": "s3://bucket/a.jpg"}} for i in range(3)]
    results = predict(server, tasks=tasks, params=params).json()["results"]
    assert results == [{"model_version": "fake-1", "score": 0.0, "result": []}] * 3
    assert predict(server, tasks=[], params=params).json() == {"results": []}


def test_clicks_belong_to_the_first_task(server: Server) -> None:
    tasks = [{"id": 1, "data": {"photo": IMAGE}}, {"id": 2, "data": {"photo": IMAGE}}]
    results = predict(server, key_point(30, 20), tasks=tasks).json()["results"]
    assert [len(result["result"]) for result in results] == [1, 0]


def test_other_regions_are_not_clicks(server: Server) -> None:
    box = {"type": "rectanglelabels", "value": {"x": 10, "y": 10, "width": 30, "height": 40, "rotation": 0}}
    brush = {"type": "brushlabels", "value": {"format": "rle", "rle": [1, 2], "brushlabels": ["car"]}}
    assert regions_of(predict(server, box, brush)) == []
    np.testing.assert_array_equal(
        brush_of(predict(server, box, key_point(30, 20), brush)), native(server, (30, 20, True))
    )


@pytest.mark.parametrize("prefix", ["", "data:image/png;base64,"])
def test_images_as_text(server: Server, prefix: str) -> None:
    assert brush_of(predict(server, key_point(30, 20), image=prefix + IMAGE)).any()


def test_base64_of_a_jpeg_is_not_taken_for_a_path(server: Server) -> None:
    text = base64.b64encode(encoded(picture(), "JPEG")).decode()
    assert text.startswith("/9j/")
    assert brush_of(predict(server, key_point(30, 20), image=text)).any()


def test_turned_images_are_clicked_as_displayed(server: Server) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = base64.b64encode(encoded(Image.fromarray(picture()), "JPEG", exif=exif)).decode()
    turned = key_point(0, 0, original_width=40, original_height=60)
    turned["value"] |= {"x": 50.0, "y": 90.0}
    assert brush_of(predict(server, turned, image=data), (60, 40))[54, 20]
    refused(predict(server, key_point(30, 20), image=data), 422, "bad_request")


@pytest.mark.parametrize(
    "value",
    [{}, {"x": "5", "y": 5}, {"x": 100.1, "y": 5}, {"x": 5, "y": -0.1}, {"x": True, "y": 5}, {"x": 10**400, "y": 5}],
)
def test_bad_clicks(server: Server, value: Any) -> None:
    refused(predict(server, key_point(30, 20, value=value)), 422, "bad_click")


def test_edges_and_percents(server: Server) -> None:
    corner = key_point(0, 0, value={"x": 100, "y": 100})
    assert brush_of(predict(server, corner))[39, 59]
    wide = base64.b64encode(encoded(picture(100, 100))).decode()
    for percent in range(100):
        point = key_point(0, 0, original_width=100, original_height=100, value={"x": percent, "y": percent})
        mask = brush_of(predict(server, point, image=wide), (100, 100))
        assert mask[max(percent - 6, 0), percent]
        assert not mask[: max(percent - 6, 0)].any(), percent


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (None, "not XML"),
        ("", "not XML"),
        ("<View>", "not XML"),
        ("<View/>", "no Image"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><View>&b;</View>', "document type"),
        (" " * (1 << 20) + "<View/>", "characters"),
        (CONFIG.format(output=""), "no BrushLabels"),
        (CONFIG.format(output=BRUSH.replace("car", "dog")), "no label"),
        (CONFIG.format(output=BRUSH).replace('Image name="image"', 'Image name="other"'), "no image"),
    ],
)
def test_bad_configurations(server: Server, config: str | None, reason: str) -> None:
    problem = refused(predict(server, key_point(30, 20), label_config=config), 422, "bad_request")
    assert reason in problem["detail"]
    assert server.predictor.num_forwards == 0


def test_deep_configurations(server: Server) -> None:
    deep = "<View>" * 20_000 + '<Image name="image" value="$photo"/>' + "</View>" * 20_000
    assert parse_config(deep).images == {"image": "photo"}
    nested = '<Brush name="b">' * 20_000 + '<Image name="image" value="$photo"/>' + "</Brush>" * 20_000
    with pytest.raises(Problem, match="no BrushLabels"):
        parse_config(nested).output("image", "car")


def test_a_rotated_view_is_refused(server: Server) -> None:
    refused(predict(server, key_point(30, 20, image_rotation=90)), 422, "bad_request")


@pytest.mark.parametrize("image", [None, 3, "", {"a": 1}])
def test_tasks_without_an_image(server: Server, image: Any) -> None:
    refused(predict(server, key_point(30, 20), image=image), 422, "image_missing")


@pytest.mark.check(14)
@pytest.mark.parametrize(
    "image", ["http://example.org/a.png", "/data/upload/3/a.png", "s3://bucket/a.png", "file:/etc/passwd"]
)
def test_no_url_is_fetched_by_default(server: Server, image: str) -> None:
    refused(predict(server, key_point(30, 20), image=image), 403, "url_fetch_disabled")


@pytest.mark.check(7)
def test_bodies_of_another_shape(server: Server) -> None:
    refused(predict(server, tasks="x"), 422, "bad_request")
    refused(predict(server, {"type": 3}), 422, "bad_request")
    for path in ("/ls/setup", "/ls/predict", "/ls/webhook"):
        refused(server.client.post(path, json=[]), 422, "bad_request")
        refused(server.client.get(path), 405, "method_not_allowed")
    refused(server.client.post("/ls/train", json={}), 404, "not_found")
