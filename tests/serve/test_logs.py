"""The log: one line per request, ids that lead from an answer to its lines, and no secrets."""

import io
import json
import logging
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from models.errors import InputError
from serve.core.options import Options
from serve.core.tokens import Token, new_token
from serve.engine.engine import Engine
from serve.http.app import create_app
from serve.http.observe import work
from serve.observing import logs
from serve.observing.logs import install_logs, redact
from serve.observing.record import Record, current, named_by, session_name
from tests.serve.conftest import ADDRESS, Server, encoded, picture, refused
from tests.serve.disks import DiskPredictor

Log = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """A stream for the log; afterwards the previous log is restored."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), logs.requests.level
    yield io.StringIO()
    for handler in [each for each in root.handlers if each not in handlers]:
        root.removeHandler(handler)
    logs.requests.setLevel(level)


@pytest.fixture
def log(stream: io.StringIO) -> Log:
    """Return the lines so far of a log in JSON."""
    install_logs("json", stream)
    return lambda: [json.loads(line) for line in stream.getvalue().splitlines()]


def ours(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [line for line in lines if line["event"] in ("request", "socket", "work")]


def test_a_line_for_each_request(log: Log, server: Server) -> None:
    session = server.open()
    server.click(session, 5, 5)
    server.click(session, 9, 5)
    refused(server.client.post(f"/v1/sessions/{session}/clicks", json={"x": 900, "y": 5}), 422, "bad_click")
    opened, first, second, failed = ours(log())
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", first["time"])
    assert first["ms"] > 0
    assert re.fullmatch(r"[0-9a-f]{32}", first["request_id"])
    assert {name: first[name] for name in first if name not in ("time", "ms", "request_id")} == {
        "level": "info",
        "event": "request",
        "session": session_name(session),
        "method": "POST",
        "route": "/v1/sessions/{session_id}/clicks",
        "status": 200,
        "model": "default",
        "model_version": "fake-1",
        "click": "first",
    }
    assert (second["click"], second["session"]) == ("correction", first["session"])
    assert (failed["status"], failed["code"]) == (422, "bad_click")
    assert (opened["route"], opened["status"]) == ("/v1/sessions", 201)
    assert "session" not in opened
    assert len({line["request_id"] for line in ours(log())}) == 4


def test_live_messages_have_separate_lines(log: Log, server: Server) -> None:
    session = server.open()
    with server.client.websocket_connect(
        f"ws://localhost/v1/sessions/{session}/live", headers={"X-Request-ID": "socket-1"}
    ) as socket:
        socket.send_json({"kind": "click", "x": 5, "y": 5})
        socket.receive_json()
        socket.send_json({"kind": "click", "x": 900, "y": 5})
        assert socket.receive_json()["request_id"] == "socket-1"
    made, failed, closed = ours(log())[1:]
    assert {line["request_id"] for line in (made, failed, closed)} == {"socket-1"}
    assert {line["session"] for line in (made, failed, closed)} == {session_name(session)}
    assert (made["event"], made["status"], made["click"]) == ("request", 200, "first")
    assert (failed["status"], failed["code"]) == (422, "bad_click")
    assert (closed["event"], closed["status"]) == ("socket", 101)


@pytest.mark.parametrize("given", ["a", "Anna_7-b", "x" * 64, "0123456789abcdef0123456789abcdef"])
def test_a_callers_id_is_kept(log: Log, server: Server, given: str) -> None:
    answer = server.client.get("/v1/nothing", headers={"X-Request-ID": given})
    assert answer.headers["x-request-id"] == given
    assert answer.json()["request_id"] == given
    assert ours(log())[0]["request_id"] == given


@pytest.mark.parametrize("given", ["", " ", "x" * 65, "a b", "a\tb", "ä", '{"a":1}', "a;b", "../x", "<b>"])
def test_an_invalid_id_is_replaced(log: Log, server: Server, given: str) -> None:
    answer = server.client.get("/v1/nothing", headers={"X-Request-ID": given.encode("utf-8")})
    made = answer.headers["x-request-id"]
    assert re.fullmatch(r"[0-9a-f]{32}", made)
    assert answer.json()["request_id"] == made == ours(log())[0]["request_id"]


def test_answers_and_refusals_of_all_layers_have_ids(server: Server) -> None:
    client, session = server.client, server.open()
    named = {"X-Request-ID": "mine"}
    assert client.get("/", headers=named).headers["x-request-id"] == "mine"
    assert client.get(f"/v1/sessions/{session}", headers=named).headers["x-request-id"] == "mine"
    rebound = client.get("/v1/health", headers={**named, "Host": "evil.example"})
    assert refused(rebound, 421, "bad_host")["request_id"] == rebound.headers["x-request-id"] == "mine"
    server.predictor.fail_with = RuntimeError("broken")
    failed = client.post(f"/v1/sessions/{session}/clicks", json={"x": 5, "y": 5}, headers=named)
    assert refused(failed, 500, "internal")["request_id"] == failed.headers["x-request-id"] == "mine"


def test_the_id_from_ray_serves_proxy_is_not_sent_twice() -> None:
    client = TestClient(create_app(Engine(DiskPredictor()), behind_serve=True), ADDRESS)
    answer = client.get("/v1/nothing", headers={"X-Request-ID": "from-the-proxy"})
    assert "x-request-id" not in answer.headers
    assert answer.json()["request_id"] == "from-the-proxy"


@pytest.mark.check(29)
def test_no_secret_gets_into_the_log(stream: io.StringIO, make_server: Callable[..., Server]) -> None:
    """Tokens in headers and addresses, presigned URLs and session ids of successful, refused and failed requests."""
    install_logs("json", stream)
    secret, line = new_token("anna", "annotator")
    digest = line.split()[2]
    server = make_server(
        tokens=(Token(name="anna", role="annotator", sha256=digest),), label_studio_token="LS-TOKEN-5e1f"
    )
    client = server.client
    wrong = "wrong-" + secret
    refused(client.get("/v1/health", headers={"Authorization": f"Bearer {wrong}"}), 401, "token_wrong")
    client.headers["Authorization"] = f"Bearer {secret}"
    session = server.open()
    server.click(session, 5, 5)
    client.get(f"/v1/sessions/{session}?access_token=ACCESS-77aa&X-Amz-Signature=SIGNED-88bb")
    client.get(f"/v1/sessions/{secret}/mask")
    presigned = "https://bucket.example/i.png?X-Amz-Credential=CRED-11&X-Amz-Signature=SIGNED-99cc"
    task = {"tasks": [{"id": 1, "data": {"image": presigned}}], "label_config": "<View/>"}
    client.post("/ls/predict?access_token=ACCESS-66dd", json=task)
    client.post("/v1/sessions", json={"image": presigned})
    server.predictor.fail_with = RuntimeError(
        f"GET {presigned} with Authorization: Token LS-TOKEN-5e1f failed; redis://:PASS-22ee@store:6379/0, "
        f"token=QUERY-33ff, session {session} at /v1/sessions/{session}/clicks, password: 'PASS-44'"
    )
    refused(client.post(f"/v1/sessions/{session}/clicks", json={"x": 9, "y": 5}), 500, "internal")
    with client.websocket_connect(f"ws://localhost/v1/sessions/{session}/live?access_token=ACCESS-77aa") as socket:
        socket.send_json({"kind": "click", "x": 9, "y": 5})
        assert socket.receive_json()["code"] == "internal"
    text = stream.getvalue()
    assert len(text.splitlines()) >= 9
    assert "RuntimeError" in text, "the failure is reported"
    assert session_name(session) in text
    hidden = (secret, wrong, digest, "LS-TOKEN-5e1f", "ACCESS-", "SIGNED-", "CRED-", "PASS-", "QUERY-")
    assert [word for word in hidden if word in text] == []
    # The only place where it stood on its own was in a message that no library of ours would make.
    assert session not in text.replace(f"session {session} at", "")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Authorization: Bearer abcdefghij.klm", "Authorization: Bearer ***"),
        ("authorization=raw-secret", "authorization=***"),
        ("Basic dXNlcjpwYXNzd29yZA==", "Basic ***"),
        ("https://a.example/b.png?X-Amz-Signature=1&x=2 not found", "https://a.example/b.png?*** not found"),
        ("rediss://user:word@host:6379/0", "rediss://***@host:6379/0"),
        ("access_token=abc&x=1", "access_token=***&x=1"),
        ("{'api_key': 'abc', 'x': 1}", "{'api_key': '***', 'x': 1}"),
        ("POST /v1/sessions/abc/clicks failed", f"POST /v1/sessions/{session_name('abc')}/clicks failed"),
        ("a click at (y=3, x=4)? no", "a click at (y=3, x=4)? no"),
        ("the store answers: timeout", "the store answers: timeout"),
    ],
)
def test_redaction(text: str, shown: str) -> None:
    assert redact(text) == shown
    assert redact(shown if "/sessions/" not in shown else "") == (shown if "/sessions/" not in shown else "")


def test_long_messages_are_cut_and_cost_little() -> None:
    started = time.perf_counter()
    for text in ("a" * 1_000_000, "token" * 200_000, "a://" * 200_000, "x=" * 500_000, "-" * 1_000_000):
        assert len(redact(text)) <= 20_100
    assert time.perf_counter() - started < 2


def test_lines_as_text(stream: io.StringIO, server: Server) -> None:
    install_logs("text", stream)
    session = server.open()
    server.predictor.fail_with = RuntimeError("broken")
    server.client.post(f"/v1/sessions/{session}/clicks", json={"x": 5, "y": 5}, headers={"X-Request-ID": "mine"})
    logging.getLogger("maskwright.serve").warning("one\nlevel=error two")
    opened, failure, *traceback, line, two = stream.getvalue().splitlines()
    assert re.fullmatch(r"\S+Z info request request_id=\w{32} method=POST route=/v1/sessions status=201 ms=\S+", opened)
    assert re.match(r"\S+Z error POST /v1/sessions/\w+/clicks failed \(urn:uuid:\w+\) request_id=mine", failure)
    assert traceback[0].startswith("Traceback")
    assert "request_id=mine" in line
    assert "code=internal" in line
    assert two.endswith("warning one\\nlevel=error two"), "one record is one line"


def test_off_logs_only_failures(stream: io.StringIO, server: Server) -> None:
    install_logs("off", stream)
    session = server.open()
    assert stream.getvalue() == ""
    server.predictor.fail_with = RuntimeError("broken")
    server.client.post(f"/v1/sessions/{session}/clicks", json={"x": 5, "y": 5})
    assert "RuntimeError: broken" in stream.getvalue()
    assert session not in stream.getvalue()


def test_a_second_installation_replaces_the_first(stream: io.StringIO, server: Server) -> None:
    first = io.StringIO()
    install_logs("json", first)
    install_logs("json", stream)
    server.open()
    assert (first.getvalue(), len(stream.getvalue().splitlines())) == ("", 1)
    with pytest.raises(InputError, match="off, text, json"):
        Options(log_format="xml")


def test_lines_of_a_replica_have_the_id_of_the_request(log: Log) -> None:
    with work("mask", "from-the-ingress", "session-of-somebody"):
        logging.getLogger("maskwright.serve").warning("odd")
    with pytest.raises(RuntimeError), work("encode", "second"):
        raise RuntimeError("broken")
    odd, done, failed = log()
    assert odd["request_id"] == done["request_id"] == "from-the-ingress"
    assert (done["event"], done["call"], done["session"]) == ("work", "mask", session_name("session-of-somebody"))
    assert (failed["call"], failed["code"], failed["request_id"]) == ("encode", "internal", "second")
    assert current.get() is None


def test_names() -> None:
    assert session_name("a") == session_name("a") != session_name("b")
    assert re.fullmatch(r"[0-9a-f]{12}", session_name("a"))
    assert named_by(None) != named_by(None)
    assert Record(request_id="x").click == "none"


def test_an_image_is_not_in_the_log(log: Log, server: Server) -> None:
    server.client.post("/v1/sessions", files={"image": ("patient-7.png", encoded(picture()), "image/png")})
    (line,) = ours(log())
    assert line["status"] == 201
    assert "patient" not in json.dumps(line)
