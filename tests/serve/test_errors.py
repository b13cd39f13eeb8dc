"""Every refusal: its status, its code, and that it reveals no internals."""

import base64
import gzip
import itertools
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models import rle
from serve.core.problems import CODES, Problem
from tests.serve.conftest import Server, encoded, picture, refused

PNG = {"Content-Type": "image/png"}
JSON = {"Content-Type": "application/json"}


def predict(server: Server, **body: Any) -> Any:
    image = base64.b64encode(encoded(picture())).decode()
    return server.client.post("/v1/predict", json={"image": image, **body})


@pytest.mark.check(6)
@pytest.mark.parametrize(
    ("document", "pointer"),
    [
        ('{"x": 60, "y": 5}', "/x"),
        ('{"x": 5, "y": 39.5}', "/y"),
        ('{"x": -1, "y": 5}', "/x"),
        ('{"x": 1e308, "y": 5}', "/x"),
        ('{"x": 1e999, "y": 5}', "/x"),
        ('{"x": NaN, "y": 5}', "/x"),
        ('{"x": 5, "y": -Infinity}', "/y"),
        ('{"x": true, "y": 5}', "/x"),
        ('{"x": "5", "y": 5}', "/x"),
        ('{"x": null, "y": 5}', "/x"),
        ('{"x": [5], "y": 5}', "/x"),
        ('{"y": 5}', "/x"),
        ('{"x": 5, "y": 5, "positive": 1}', "/positive"),
        ('{"x": 5, "y": 5, "positive": "false"}', "/positive"),
    ],
)
def test_bad_clicks(server: Server, document: str, pointer: str) -> None:
    address = f"/v1/sessions/{server.open()}/clicks"
    problem = refused(server.client.post(address, content=document, headers=JSON), 422, "bad_click")
    assert problem["pointer"] == pointer
    assert server.predictor.num_forwards == 0


@pytest.mark.check(7)
@pytest.mark.parametrize(
    "document", ['{"x": 5, "y": 5, "extra": 1}', '{"x": 5, "y": 5, "sequence": 0}', "[]", "3", "null", '"x"']
)
def test_bad_requests(server: Server, document: str) -> None:
    address = f"/v1/sessions/{server.open()}/clicks"
    refused(server.client.post(address, content=document, headers=JSON), 422, "bad_request")


@pytest.mark.check(10)
@pytest.mark.parametrize(
    "document",
    [b"", b"{", b'{"x": 5, "x": 6, "y": 5}', b"\xff\xfe", b"[" * 20_000, b'{"x": ' + b"9" * 5000 + b"}"],
    ids=["empty", "cut", "twice", "binary", "deep", "long"],
)
def test_bad_json(server: Server, document: bytes) -> None:
    address = f"/v1/sessions/{server.open()}/clicks"
    refused(server.client.post(address, content=document, headers=JSON), 400, "bad_json")


@pytest.mark.check(10)
@pytest.mark.networks
def test_deep_and_wide_json_of_images(server: Server) -> None:
    refused(server.client.post("/v1/sessions", content=b"[" * 100_000, headers=JSON), 400, "bad_json")
    wide = json.dumps({str(i): i for i in range(100_000)})
    refused(server.client.post("/v1/sessions", content=wide, headers=JSON), 400, "bad_json")
    less = json.dumps({str(i): i for i in range(1000)})
    refused(server.client.post("/v1/sessions", content=less, headers=JSON), 422, "bad_request")


@pytest.mark.check(6)
def test_too_many_clicks(make_server: Callable[..., Server]) -> None:
    server = make_server(max_clicks=3)
    session = server.open()
    for i in range(3):
        server.click(session, i, i)
    address = f"/v1/sessions/{session}/clicks"
    refused(server.client.post(address, json={"x": 5, "y": 5}), 422, "bad_click")
    server.change(session, "undo")
    server.click(session, 5, 5)
    problem = refused(predict(server, clicks=[{"x": 1, "y": 1}] * 4), 422, "bad_click")
    assert problem["pointer"] == "/clicks"


def test_long_bodies_are_validated_off_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    import anyio

    from serve.core.problems import Problem
    from serve.wire import bodies
    from serve.wire.protocol import PredictRequest

    threads: list[int] = []
    parse = bodies._parse
    monkeypatch.setattr(bodies, "_parse", lambda *args: (threads.append(threading.get_ident()), parse(*args))[1])
    many = json.dumps({"clicks": [{"x": 1, "y": "a"}] * 5000}).encode()
    with pytest.raises(Problem) as caught:
        anyio.run(bodies.parse_json, many, PredictRequest)
    assert (caught.value.code, caught.value.pointer) == ("bad_click", "/clicks"), "not each of the 5000"
    anyio.run(bodies.parse_json, b"{}", PredictRequest)
    assert threads[0] != threading.get_ident() == threads[1]


@pytest.mark.check(6)
def test_predict_names_the_bad_click(server: Server) -> None:
    problem = refused(predict(server, clicks=[{"x": 1, "y": 1}, {"x": "a", "y": 1}]), 422, "bad_click")
    assert problem["pointer"] == "/clicks/1/x"
    refused(predict(server, clicks=[{"x": 1, "y": 400}]), 422, "bad_click")
    refused(predict(server, click=[]), 422, "bad_request")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"content": b"", "headers": PNG},
        {"json": {}},
        {"json": {"image": None}},
        {"json": {"image": ""}},
        {"files": {"mask": encoded(picture())}},
        {"files": {"image": b""}},
    ],
)
def test_image_missing(server: Server, options: dict[str, Any]) -> None:
    refused(server.client.post("/v1/sessions", **options), 422, "image_missing")


@pytest.mark.check(8, 11)
@pytest.mark.parametrize(
    ("options", "status", "code"),
    [
        ({"content": encoded(picture())[:300], "headers": PNG}, 422, "bad_image"),
        ({"content": encoded(picture(), "GIF"), "headers": PNG}, 415, "unsupported_image"),
        ({"content": b"<svg/>", "headers": {"Content-Type": "image/svg+xml"}}, 415, "unsupported_image"),
        ({"content": b"hello", "headers": {"Content-Type": "text/plain"}}, 415, "unsupported_body"),
        ({"content": gzip.compress(b"{}"), "headers": JSON | {"Content-Encoding": "gzip"}}, 415, "unsupported_body"),
        ({"json": {"image": "%%%"}}, 422, "bad_encoding"),
        ({"json": {"image": "http://127.0.0.1/a.png"}}, 422, "bad_encoding"),
        ({"json": {"image_url": "http://127.0.0.1/a.png"}}, 422, "bad_request"),
        ({"files": {"image": encoded(picture()), "checkpoint": b"x"}}, 422, "bad_request"),
        ({"files": {"image": encoded(picture()), "mask": encoded(picture())}}, 422, "bad_mask"),
        ({"content": b"x", "headers": {"Content-Type": "multipart/form-data"}}, 400, "bad_form"),
        ({"content": b"x", "headers": {"Content-Type": "multipart/form-data; boundary=b"}}, 400, "bad_form"),
    ],
)
def test_bad_images(server: Server, options: dict[str, Any], status: int, code: str) -> None:
    refused(server.client.post("/v1/sessions", **options), status, code)


def test_image_too_large(make_server: Callable[..., Server]) -> None:
    server = make_server(max_megapixels=1e-4)
    refused(server.client.post("/v1/sessions", content=encoded(picture()), headers=PNG), 422, "image_too_large")


@pytest.mark.check(9)
@pytest.mark.parametrize(
    "mask",
    [
        {"size": [40, 60], "counts": "92204O"},
        {"size": [60, 40], "counts": rle.encode(np.zeros((60, 40), bool))["counts"]},
        {"size": [1_000_000, 1_000_000], "counts": "0"},
        {"size": [40, 60], "counts": "o" * 1000},
    ],
)
def test_bad_rle(server: Server, mask: dict[str, Any]) -> None:
    refused(predict(server, mask=mask), 422, "bad_rle")


@pytest.mark.check(1)
def test_body_too_large_is_refused_by_its_declared_length(make_server: Callable[..., Server]) -> None:
    server = make_server(max_body_bytes=1000)
    answer = server.client.post("/v1/sessions", content=b"x" * 1001, headers=PNG)
    refused(answer, 413, "body_too_large")
    assert answer.headers["connection"] == "close"
    refused(server.client.post("/v1/predict", content=b"x" * 1001, headers=JSON), 413, "body_too_large")


@pytest.mark.check(1)
def test_body_too_large_is_refused_while_it_streams(make_server: Callable[..., Server]) -> None:
    from fastapi import Request

    from serve.core.problems import Problem
    from serve.wire.bodies import read_body

    taken = itertools.count()
    num_taken = 0

    async def receive() -> dict[str, Any]:
        nonlocal num_taken
        num_taken = next(taken) + 1
        return {"type": "http.request", "body": b"x" * 100, "more_body": True}

    request = Request({"type": "http", "method": "POST", "headers": []}, receive)
    with pytest.raises(Problem) as caught:
        read_body(request, 1000).send(None)
    assert caught.value.code == "body_too_large"
    assert num_taken == 11, "an endless body is left alone as soon as the limit is passed"


@pytest.mark.check(1)
def test_click_bodies_are_small(server: Server) -> None:
    address = f"/v1/sessions/{server.open()}/clicks"
    refused(server.client.post(address, content=b" " * 70_000, headers=JSON), 413, "body_too_large")
    refused(
        server.client.post(address, content=b"x=5", headers={"Content-Type": "text/plain"}), 415, "unsupported_body"
    )


@pytest.mark.check(35)
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_unknown_sessions(server: Server, method: str) -> None:
    refused(server.client.request(method, "/v1/sessions/nothing"), 404, "session_unknown")
    refused(server.client.get("/v1/sessions/nothing/mask"), 404, "session_unknown")
    for kind in ("clicks", "undo", "redo", "clear"):
        body = {"x": 1, "y": 1} if kind == "clicks" else {}
        refused(server.client.post(f"/v1/sessions/nothing/{kind}", json=body), 404, "session_unknown")


@pytest.mark.check(22)
def test_wrong_addresses_and_methods(server: Server) -> None:
    for path in ("/v2", "/v1/sessions/a/b/c", "/web/nothing.js", "/web/..%2fapi.py", "/v1/examples/..%2f..%2fapi.py"):
        refused(server.client.get(path), 404, "not_found")
    answer = server.client.get("/v1/predict")
    refused(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == "POST"
    refused(server.client.get(f"/v1/sessions/{server.open()}/mask?format=gif"), 422, "bad_request")


@pytest.mark.check(30)
def test_internal_errors_reveal_nothing(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    session = server.open()
    server.predictor.fail_with = RuntimeError("CUDA error in /home/somebody/secret.py")
    answer = server.client.post(f"/v1/sessions/{session}/clicks", json={"x": 5, "y": 5})
    problem = refused(answer, 500, "internal")
    assert not any(word in answer.text for word in ("secret", "CUDA", "Traceback", "/home"))
    assert problem["instance"] in caplog.text
    assert "secret.py" in caplog.text
    server.predictor.fail_with = None
    assert server.click(session, 5, 5)["sequence"] == 1, "the failed click left nothing behind"


@pytest.mark.check(43)
def test_nan_from_the_network(server: Server) -> None:
    session = server.open()
    server.predictor.nan = True
    address = f"/v1/sessions/{session}/clicks"
    for _ in range(3):
        refused(server.client.post(address, json={"x": 5, "y": 5}), 500, "model_nan")
    refused(server.client.get("/v1/health/ready"), 503, "not_ready")
    assert server.client.get("/v1/health/live").status_code == 200
    server.predictor.nan = False
    assert server.click(session, 5, 5)["num_clicks"] == 1
    assert server.client.get("/v1/health/ready").status_code == 200


@pytest.mark.check(30)
def test_instances_differ(server: Server) -> None:
    first, second = (server.client.get("/nothing").json()["instance"] for _ in range(2))
    assert first != second


def test_every_code_is_tested() -> None:
    source = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    assert [code for code in CODES if f'"{code}"' not in source] == []


def test_every_code_is_documented() -> None:
    text = (Path(__file__).parents[2] / "docs/HTTP.md").read_text()
    assert [code for code in CODES if f"`{code}`" not in text] == []


@pytest.mark.check(41)
def test_a_model_that_does_not_answer_is_unavailable_and_changes_nothing(server: Server) -> None:
    session = server.open()
    server.click(session, 5, 5)
    server.predictor.fail_with = Problem("unavailable", "gone", retry_after_s=1)
    answer = server.client.post(f"/v1/sessions/{session}/clicks", json={"x": 9, "y": 9, "sequence": 2})
    refused(answer, 503, "unavailable")
    assert answer.headers["retry-after"] == "1"
    server.predictor.fail_with = None
    assert server.click(session, 9, 9, sequence=2)["num_clicks"] == 2
