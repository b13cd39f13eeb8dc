"""CVAT's three calls: the bodies that its server sends, the answers that it reads, and the callers allowed."""

import base64
import io
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from models.decoding import Decoding
from models.errors import InputError
from pipeline.data.images import read_image
from serve.faces.cvat import mask_json
from serve.faces.originals import as_png, original_hw
from serve.wire import images
from tests.deep_files import tiff, tiff_of_cmyk, values
from tests.serve.conftest import Server, encoded, mask_of, picture, refused

HEADERS = {
    "x-nuclio-function-name": "maskwright",
    "x-nuclio-path": "/",
    "X-Nuclio-Invoke-Timeout": "120s",
    "x-nuclio-project-name": "cvat",
}
Points = list[list[float]]


def client_of(server: Server, address: str = "127.0.0.1") -> TestClient:
    return TestClient(server.app, "http://localhost", raise_server_exceptions=False, client=(address, 50000))


def invoke(server: Server, positive: Points, negative: Points | None = None, image: bytes | None = None) -> Any:
    body = {
        "image": base64.b64encode(image or encoded(picture())).decode(),
        "pos_points": positive,
        "neg_points": negative or [],
        "obj_bbox": None,
    }
    return client_of(server).post("/api/function_invocations", json=body, headers=HEADERS)


def mask_from(answer: Any) -> np.ndarray:
    assert answer.status_code == 200, answer.text
    return np.array(answer.json()["mask"], bool)


def native(server: Server, *clicks: tuple[float, float, bool]) -> np.ndarray:
    session = server.open()
    return mask_of([server.click(session, *click) for click in clicks][-1])


def test_the_function_is_listed_as_cvat_reads_it(server: Server) -> None:
    client = client_of(server)
    listed = client.get("/api/functions", headers={"x-nuclio-project-name": "cvat"}).json()
    assert list(listed) == ["maskwright"]
    one = client.get("/api/functions/maskwright").json()
    assert one == listed["maskwright"]
    annotations = one["metadata"]["annotations"]
    assert (one["metadata"]["name"], annotations["type"], int(annotations["version"])) == (
        "maskwright",
        "interactor",
        2,
    )
    assert json.loads(annotations["spec"] or "[]") == []
    assert (int(annotations["min_pos_points"]), int(annotations["min_neg_points"])) == (1, 0)
    assert not any(key.startswith("startswith_box") for key in annotations), 'even "false" would be taken as true'
    assert all(isinstance(value, str) for value in annotations.values())
    assert (one["status"]["state"], one["status"]["httpPort"]) == ("ready", 0)
    assert "fake-1" in one["spec"]["description"]


@pytest.mark.check(7)
def test_masks_equal_those_of_a_session(server: Server) -> None:
    np.testing.assert_array_equal(mask_from(invoke(server, [[30.7, 20.2]])), native(server, (30, 20, True)))
    np.testing.assert_array_equal(
        mask_from(invoke(server, [[30.7, 20.2]], [[33.0, 20.9]])), native(server, (30, 20, True), (33, 20, False))
    )


def test_calls_that_add_a_click_continue(server: Server) -> None:
    invoke(server, [[30, 20]])
    invoke(server, [[30, 20]], [[33, 20]])
    invoke(server, [[30, 20], [36, 20]], [[33, 20]])
    invoke(server, [[30, 20], [36, 20]], [[33, 20]])
    assert (server.predictor.num_opened, server.predictor.num_forwards) == (1, 3)
    invoke(server, [[30, 20]])
    assert (server.predictor.num_opened, server.predictor.num_forwards) == (1, 3), "a click taken back"


def test_clicks_count_in_the_order_in_which_they_came(server: Server) -> None:
    invoke(server, [[30, 20]])
    invoke(server, [[30, 20]], [[33, 20]])
    last = invoke(server, [[30, 20], [36, 20]], [[33, 20]])
    expected = native(server, (30, 20, True), (33, 20, False), (36, 20, True))
    np.testing.assert_array_equal(mask_from(last), expected)
    taken_back = invoke(server, [[30, 20], [36, 20]])
    np.testing.assert_array_equal(mask_from(taken_back), native(server, (30, 20, True), (36, 20, True)))


def test_without_earlier_calls_positive_clicks_come_first(server: Server) -> None:
    answer = invoke(server, [[30, 20], [36, 20]], [[33, 20]])
    expected = native(server, (30, 20, True), (36, 20, True), (33, 20, False))
    np.testing.assert_array_equal(mask_from(answer), expected)


def test_other_images_and_other_first_clicks_are_other_sessions(server: Server) -> None:
    invoke(server, [[30, 20]])
    other = invoke(server, [[10, 10]])
    np.testing.assert_array_equal(mask_from(other), native(server, (10, 10, True)))
    small = invoke(server, [[30, 20]], image=encoded(picture(30, 50)))
    assert mask_from(small).shape == (30, 50)


def test_a_forgotten_session_is_rebuilt(make_server: Callable[..., Server]) -> None:
    server = make_server(max_cache_bytes=0)
    invoke(server, [[30, 20]])
    invoke(server, [[50, 20]])
    again = invoke(server, [[30, 20]], [[33, 20]])
    np.testing.assert_array_equal(mask_from(again), native(server, (30, 20, True), (33, 20, False)))


def test_edges_belong_to_the_image(server: Server) -> None:
    assert mask_from(invoke(server, [[60, 40]]))[39, 59]
    assert mask_from(invoke(server, [[0, 0]]))[0, 0]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_images_are_clicked_as_displayed(server: Server, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(picture()), "JPEG", exif=exif)
    mask = mask_from(invoke(server, [[35, 35]], image=data))
    assert mask.shape == ((60, 40) if orientation >= 5 else (40, 60))
    assert mask[35, 35]


@pytest.mark.parametrize("points", [[], [[-1, 5]], [[60.5, 5]], [[5, 40.5]], [[1e308, 5]]])
def test_bad_clicks(server: Server, points: Points) -> None:
    refused(invoke(server, points), 422, "bad_click")
    assert server.predictor.num_opened == 0


def test_too_many_clicks(make_server: Callable[..., Server]) -> None:
    refused(invoke(make_server(max_clicks=3), [[5, 5]] * 4), 422, "bad_click")


@pytest.mark.parametrize("points", ["x", [[1]], [[1, 2, 3]], [1, 2], [["a", 2]], None, [[1, 2]] * 1000])
def test_bad_points(server: Server, points: Any) -> None:
    refused(invoke(server, points), 422, "bad_request")


@pytest.mark.parametrize("point", ["[NaN, 1]", "[1e999, 1]", "[1, -Infinity]", f"[{'9' * 4000}, 1]"])
def test_points_that_are_not_numbers(server: Server, point: str) -> None:
    content = f'{{"image": "", "pos_points": [{point}]}}'
    headers = HEADERS | {"Content-Type": "application/json"}
    answer = client_of(server).post("/api/function_invocations", content=content, headers=headers)
    refused(answer, 422, "bad_request")


def test_bad_images(server: Server, make_server: Callable[..., Server]) -> None:
    refused(invoke(server, [[1, 1]], image=b"%PDF-1.7"), 415, "unsupported_image")
    refused(invoke(server, [[1, 1]], image=encoded(picture())[:300]), 422, "bad_image")
    refused(invoke(make_server(max_megapixels=1e-4), [[1, 1]]), 422, "image_too_large")
    for image, code in (("", "image_missing"), ("%%", "bad_encoding")):
        body = {"image": image, "pos_points": [[1, 1]]}
        refused(client_of(server).post("/api/function_invocations", json=body, headers=HEADERS), 422, code)


def gif(*frames: np.ndarray) -> bytes:
    first, *more = [Image.fromarray(frame[..., 0]) for frame in frames]
    return encoded(first, "GIF", save_all=True, append_images=more)


ORIGINALS: dict[str, Callable[[], bytes]] = {
    "tiff": lambda: encoded(picture(), "TIFF"),
    "tiff, compressed": lambda: encoded(picture(), "TIFF", compression="tiff_lzw"),
    "tiff of pages": lambda: encoded(
        Image.fromarray(picture()), "TIFF", save_all=True, append_images=[Image.new("L", (9, 9))]
    ),
    "tiff, big-endian": lambda: tiff(picture(), big=True),
    "tiff of 16 bits": lambda: tiff(values(12, (40, 60))),
    "tiff of 16 bits in colour": lambda: tiff(values(12, (40, 60, 3))),
    "tiff of 16 bits, 0 is white": lambda: tiff(values(12, (40, 60)), photometric=0),
    "tiff of 8 bits, 0 is white": lambda: tiff(picture()[..., 0], photometric=0),
    "tiff of 16 bits in cmyk": lambda: tiff_of_cmyk(values(16, (40, 60, 3))),
    "tiff in cmyk": lambda: encoded(Image.fromarray(picture()).convert("CMYK"), "TIFF"),
    "tiff of one bit": lambda: encoded(Image.fromarray(picture()[..., 0] > 99), "TIFF", compression="group4"),
    "bmp": lambda: encoded(picture(), "BMP"),
    "gif": lambda: gif(picture()),
    "gif of frames": lambda: gif(picture(), 255 - picture()),
}


@pytest.mark.check(3)
@pytest.mark.parametrize("kind", ORIGINALS)
def test_originals_are_segmented_as_displayed(kind: str, server: Server) -> None:
    """CVAT sends files as they were uploaded; the model's side gets a PNG of the first picture."""
    data = ORIGINALS[kind]()
    answer = invoke(server, [[30.7, 20.2]], image=data)
    np.testing.assert_array_equal(mask_from(answer), native(server, (30, 20, True)))
    png = as_png(data, 10_000)
    assert (images.sniff(png), png) == ("PNG", as_png(data, 10_000))
    shown = images.decode_image(png, 10_000)
    with Image.open(io.BytesIO(data)) as original:
        if "16 bits" not in kind or "cmyk" in kind:
            np.testing.assert_array_equal(shown, np.array(original.convert("RGB")))
        else:
            assert shown.max() == 255, "the depth is found in the PNG as it would be in the file"


@pytest.mark.parametrize("bit_depth", [0, 10, 12, 16])
@pytest.mark.parametrize("photometric", [0, 1])
@pytest.mark.parametrize("low", [0, 3900], ids=str)
def test_an_original_is_decoded_as_in_the_jobs(photometric: int, bit_depth: int, low: int) -> None:
    data = tiff(np.maximum(values(12, (40, 60)), low), photometric=photometric)
    shown = images.decode_image(as_png(data, 10_000, bit_depth), 10_000, bit_depth)
    np.testing.assert_array_equal(shown, read_image(data, decoding=Decoding(bit_depth=bit_depth)))


def test_an_original_that_is_sent_again_continues(server: Server) -> None:
    data = encoded(picture(), "TIFF")
    invoke(server, [[30, 20]], image=data)
    invoke(server, [[30, 20]], [[33, 20]], image=data)
    assert (server.predictor.num_opened, server.predictor.num_forwards) == (1, 2)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_original_is_clicked_as_displayed(server: Server, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(picture()), "TIFF", exif=exif)
    mask = mask_from(invoke(server, [[35, 35]], image=data))
    assert mask.shape == ((60, 40) if orientation >= 5 else (40, 60))
    assert original_hw(data, 10_000) == images.decode_image(as_png(data, 10_000), 10_000).shape[:2] == mask.shape
    assert mask[35, 35]


@pytest.mark.check(2)
def test_originals_have_the_limits_of_other_images(make_server: Callable[..., Server]) -> None:
    server = make_server(max_megapixels=1e-4)
    for kind, make in ORIGINALS.items():
        problem = refused(invoke(server, [[1, 1]], image=make()), 422, "image_too_large")
        assert "60 x 40: the limit is 0.0001 megapixels and it has 0.1; --max-megapixels" in problem["detail"], kind
    huge = encoded(Image.new("1", (20_000, 10_000)), "TIFF", compression="group4")
    refused(invoke(make_server(), [[1, 1]], image=huge), 422, "image_too_large")
    small = make_server(max_body_bytes=5000)
    refused(invoke(small, [[1, 1]], image=encoded(picture(), "BMP")), 413, "body_too_large")


@pytest.mark.check(3)
@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow grumbles about half a TIFF before it gives up
@pytest.mark.parametrize("kind", ["tiff", "tiff, compressed", "bmp", "gif"])
def test_damaged_originals(kind: str, server: Server) -> None:
    data = ORIGINALS[kind]()
    for keep in (0.02, 0.3, 0.7):
        problem = refused(invoke(server, [[1, 1]], image=data[: int(len(data) * keep)]), 422, "bad_image")
        assert "0x" not in problem["detail"]
    for start in (b"II*\0", b"MM\0*", b"BM", b"GIF89a", b"GIF87a"):
        refused(invoke(server, [[1, 1]], image=start + b"\0" * 60), 422, "bad_image")


UNREAD = {
    "floating": lambda: tiff(np.full((40, 60), 0.5, np.float32)),
    "negative": lambda: tiff(np.full((40, 60), -5, np.int16)),
    "planes": lambda: tiff(values(12, (40, 60, 3)), planes=True),
    "12 bits in cmyk": lambda: tiff_of_cmyk(values(12, (40, 60, 3))),
}


@pytest.mark.parametrize("kind", UNREAD)
def test_originals_without_a_known_range(kind: str, server: Server) -> None:
    problem = refused(invoke(server, [[1, 1]], image=UNREAD[kind]()), 415, "unsupported_image")
    assert "damaged" not in problem["detail"]


@pytest.mark.check(3)
@pytest.mark.parametrize("kind", ["tiff", "bmp", "gif"])
def test_only_cvat_may_send_originals(kind: str, server: Server) -> None:
    data = ORIGINALS[kind]()
    answer = server.client.post("/v1/sessions", content=data, headers={"Content-Type": "image/png"})
    refused(answer, 415, "unsupported_image")
    body = {"image": base64.b64encode(data).decode(), "clicks": [{"x": 5, "y": 5}]}
    refused(server.client.post("/v1/predict", json=body), 415, "unsupported_image")


def test_other_functions_are_not_found(server: Server) -> None:
    client = client_of(server)
    refused(client.get("/api/functions/yolo"), 404, "not_found")
    refused(client.post("/api/function_invocations", json={"image": ""}), 404, "not_found")


@pytest.mark.parametrize("address", ["10.0.0.7", "::ffff:10.0.0.7", "testclient", "fe80::1%eth0"])
def test_unlisted_addresses_may_not_call(server: Server, address: str) -> None:
    client = client_of(server, address)
    for path in ("/api/functions", "/api/functions/maskwright"):
        refused(client.get(path), 403, "address_refused")
    refused(client.post("/api/function_invocations", content=b"{"), 403, "address_refused")
    assert client.get("/v1/health").status_code == 200, "the rest of the server is not concerned"


@pytest.mark.parametrize("address", ["172.18.0.5", "::ffff:172.18.0.5"])
def test_listed_addresses_may_call(make_server: Callable[..., Server], address: str) -> None:
    server = make_server(cvat_clients=("172.16.0.0/12",))
    assert client_of(server, address).get("/api/functions").status_code == 200
    refused(client_of(server).get("/api/functions"), 403, "address_refused")


def test_an_invalid_list_of_networks_is_refused(make_server: Callable[..., Server]) -> None:
    with pytest.raises(InputError, match="cvat_clients"):
        make_server(cvat_clients=("example.org",))


@settings(deadline=None)
@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=12)))
def test_mask_json(mask: np.ndarray) -> None:
    assert json.loads(mask_json(mask)) == {"mask": mask.astype(int).tolist()}


@pytest.mark.networks
@settings(deadline=None, max_examples=30)  # an app for each example
@given(st.lists(st.tuples(st.integers(0, 59), st.integers(0, 39), st.booleans()), min_size=1, max_size=6))
def test_the_last_answer_of_any_calls_equals_a_session(clicks: list[tuple[int, int, bool]]) -> None:
    server = Server()
    clicks = [(*clicks[0][:2], True), *clicks[1:]]
    for num in range(1, len(clicks) + 1):
        positive = [[x, y] for x, y, sign in clicks[:num] if sign]
        answer = invoke(server, positive, [[x, y] for x, y, sign in clicks[:num] if not sign])
    np.testing.assert_array_equal(mask_from(answer), native(server, *clicks))
