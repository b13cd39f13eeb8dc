"""The metrics of the server, on a fake model, as Prometheus would read them."""

import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from fastapi.testclient import TestClient

from models.interaction import Clicks
from models.steps import Correct, Encode, Segment
from serve.core.tokens import Token, new_token
from serve.engine.batching import Batched
from serve.engine.engine import Engine
from serve.engine.forwards import Measured, half_of
from serve.http.app import create_app
from serve.observing import metrics
from serve.observing.prometheus import PrometheusSink, add_metrics
from tests.serve.conftest import ADDRESS, Server, refused
from tests.serve.disks import DiskPredictor

CLICKS = "/v1/sessions/{session_id}/clicks"


@dataclass
class Numbers:
    """The values of a sink, as Prometheus would read them."""

    sink: PrometheusSink

    def of(self, name: str, **labels: str) -> float:
        """Return the sum over all series of this name with these labels."""
        total = 0.0
        for line in self.sink.text().decode().splitlines():
            found = re.fullmatch(r"(\w+)(?:\{(.*)\})? (\S+)", line)
            if found and found[1] == name:
                its = dict(re.findall(r'(\w+)="([^"]*)"', found[2] or ""))
                total += float(found[3]) if labels.items() <= its.items() else 0.0
        return total


@pytest.fixture
def numbers() -> Iterator[Numbers]:
    sink = PrometheusSink()
    before = metrics.install(sink)
    yield Numbers(sink)
    metrics.install(before)


def test_requests_are_counted_under_ray_serves_names_if_no_proxy_counts_them(numbers: Numbers) -> None:
    for behind_serve, expected in ((False, 1), (True, 1)):
        app = create_app(Engine(DiskPredictor()), behind_serve=behind_serve)
        with TestClient(app, ADDRESS) as client:
            assert client.get("/v1/health").status_code == 200
            assert client.get("/v1/no/such/thing").status_code == 404
        labels = {"route": "/v1/health", "method": "GET", "application": "maskwright"}
        assert numbers.of("serve_num_http_requests_total", status_code="200", **labels) == expected
        assert numbers.of("serve_http_request_latency_ms_count", status_code="200", **labels) == expected
        assert numbers.of("serve_num_http_error_requests_total") == expected
        assert numbers.of("serve_num_http_error_requests_total", error_code="404", route="unmatched") == expected


def test_requests_by_route_status_model_and_click(numbers: Numbers, server: Server) -> None:
    session = server.open()
    for x in (5, 9, 13):
        server.click(session, x, 5)
    server.change(session, "undo")
    refused(server.client.post(f"/v1/sessions/{session}/clicks", json={"x": 900, "y": 5}), 422, "bad_click")
    refused(server.client.get("/v1/no/such/thing"), 404, "not_found")
    count = "maskwright_request_ms_count"
    assert numbers.of(count, route="/v1/sessions", status="2xx", click="none") == 1
    assert numbers.of(count, route=CLICKS, status="2xx", model="default", click="first") == 1
    assert numbers.of(count, route=CLICKS, status="2xx", model="default", click="correction") == 2
    assert numbers.of(count, route=CLICKS, status="4xx") == 1
    assert numbers.of(count, route="/v1/sessions/{session_id}/undo") == 1
    assert numbers.of(count, route="unmatched", status="4xx") == 1
    assert numbers.of("maskwright_problems_total", route=CLICKS, code="bad_click") == 1
    assert numbers.of("maskwright_problems_total", route="unmatched", code="not_found") == 1
    assert 0 < numbers.of("maskwright_request_ms_sum", route=CLICKS) < 60_000


def test_refusals_before_any_route_are_counted(numbers: Numbers, make_server: Callable[..., Server]) -> None:
    server = make_server(clicks_per_second=0.001)
    session = server.open()
    server.click(session, 5, 5)
    refused(server.client.post(f"/v1/sessions/{session}/clicks", json={"x": 5, "y": 9}), 429, "too_many")
    assert numbers.of("maskwright_problems_total", code="too_many") == 1
    assert numbers.of("maskwright_request_ms_count", status="4xx") == 1


def test_live_messages_are_measured_one_by_one(numbers: Numbers, server: Server) -> None:
    session = server.open()
    with server.client.websocket_connect(f"ws://localhost/v1/sessions/{session}/live") as socket:
        for message in ({"kind": "click", "x": 5, "y": 5}, {"kind": "click", "x": 9, "y": 5}, {"kind": "undo"}):
            socket.send_json(message)
            assert "code" not in socket.receive_json()
        assert numbers.of("maskwright_live_sockets") == 1
        for message, code in (({"kind": "click", "x": 900, "y": 5}, "bad_click"), ({"kind": "no"}, "bad_request")):
            socket.send_json(message)
            assert socket.receive_json()["code"] == code
            assert numbers.of("maskwright_problems_total", code=code) == 1
    live = "/v1/sessions/{session_id}/live"
    assert numbers.of("maskwright_request_ms_count", route=live, status="2xx") == 3
    assert numbers.of("maskwright_request_ms_count", route=live, status="2xx", click="correction") == 1
    assert numbers.of("maskwright_request_ms_count", route=live, status="4xx") == 1
    assert numbers.of("maskwright_live_sockets") == 0


def test_sessions_and_their_cache(numbers: Numbers, make_server: Callable[..., Server]) -> None:
    server = make_server(max_cache_bytes=100_000)  # of two sessions of 40 x 60 pixels one has to go
    first, second = server.open(), server.open()
    assert numbers.of("maskwright_sessions") == 2
    assert numbers.of("maskwright_decode_ms_count") == 2
    for session in (first, first, second, second, first):
        server.click(session, 5, 5)
    hits = numbers.of("maskwright_cache_lookups_total", found="hit", version="fake-1")
    misses = numbers.of("maskwright_cache_lookups_total", found="miss", version="fake-1")
    assert hits + misses == 5
    assert misses == numbers.of("maskwright_decode_ms_count") - 2 > 0, "who is not remembered is decoded again"
    assert numbers.of("maskwright_cache_evictions_total") >= misses
    assert 0 < numbers.of("maskwright_cache_bytes") <= 100_000
    assert numbers.of("maskwright_queue_ms_count", at="session") == 5
    assert numbers.of("maskwright_queue_ms_count", at="network") >= 5
    assert numbers.of("maskwright_queue_ms_count", at="image") == 2 + misses
    assert server.client.delete(f"/v1/sessions/{first}").status_code == 204
    assert numbers.of("maskwright_sessions") == 1
    server.client.delete(f"/v1/sessions/{second}")
    assert (numbers.of("maskwright_sessions"), numbers.of("maskwright_cache_bytes")) == (0, 0)


def test_failures_and_retries(numbers: Numbers, server: Server) -> None:
    session = server.open()
    for _ in range(2):
        server.click(session, 5, 5, sequence=1)
    assert numbers.of("maskwright_retries_total", what="change") == 1
    server.predictor.nan = True
    refused(server.client.post(f"/v1/sessions/{session}/clicks", json={"x": 9, "y": 5}), 500, "model_nan")
    assert numbers.of("maskwright_model_nan_total", version="fake-1") == 1
    assert numbers.of("maskwright_problems_total", code="model_nan", route=CLICKS) == 1
    assert numbers.of("maskwright_request_ms_count", route=CLICKS, status="5xx") == 1


def test_no_label_identifies_a_user_or_a_file(numbers: Numbers, make_server: Callable[..., Server]) -> None:
    secret, line = new_token("anna", "annotator")
    server = make_server(tokens=(Token(name="anna", role="annotator", sha256=line.split()[2]),))
    server.client.headers["Authorization"] = f"Bearer {secret}"
    session = server.open()
    server.click(session, 5, 5)
    server.client.get(f"/v1/sessions/{session}?access_token=hunter2")
    server.client.get("/v1/examples/private-file.jpg")
    server.client.get("/etc/passwd-of-somebody")
    text = numbers.sink.text().decode()
    for hidden in (session, secret, line.split()[2], "anna", "hunter2", "private-file", "passwd"):
        assert hidden not in text
    assert 'route="/v1/examples/{name}"' in text


class TestAddress:
    @staticmethod
    def ask(server: Server, numbers: Numbers, host: str, **headers: str) -> Any:
        tokens = bool(server.secrets.tokens)
        add_metrics(server.app, numbers.sink, tokens)
        return TestClient(server.app, ADDRESS, client=(host, 50_000)).get("/metrics", headers=headers)

    @pytest.mark.parametrize("host", ["127.0.0.1", "::1", "127.3.2.1"])
    def test_it_answers_this_machine(self, numbers: Numbers, server: Server, host: str) -> None:
        server.open()
        answer = self.ask(server, numbers, host)
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        assert "# TYPE maskwright_request_ms histogram" in answer.text
        assert "maskwright_sessions 1.0" in answer.text

    @pytest.mark.parametrize("host", ["192.0.2.7", "10.0.0.1", "fe80::1", "", "testclient"])
    def test_it_refuses_other_machines(self, numbers: Numbers, server: Server, host: str) -> None:
        refused(self.ask(server, numbers, host), 403, "address_refused")

    def test_with_tokens_it_answers_only_admins(self, numbers: Numbers, make_server: Callable[..., Server]) -> None:
        made = {role: new_token(role, role) for role in ("annotator", "admin")}
        tokens = tuple(Token(name=role, role=role, sha256=line.split()[2]) for role, (_, line) in made.items())  # type: ignore[arg-type]
        server = make_server(tokens=tokens)
        refused(self.ask(server, numbers, "127.0.0.1"), 401, "token_missing")
        for role, status in (("annotator", 403), ("admin", 200)):
            answer = self.ask(server, numbers, "192.0.2.7", Authorization=f"Bearer {made[role][0]}")
            assert answer.status_code == status, answer.text


def test_waits_for_a_lock_are_measured(numbers: Numbers) -> None:
    waited, inside = metrics.Waited(threading.Lock(), "network"), threading.Event()

    def hold() -> None:
        with waited:
            inside.set()
            time.sleep(0.05)

    holder = threading.Thread(target=hold)
    holder.start()
    inside.wait(5)
    with waited:
        pass
    holder.join(5)
    assert numbers.of("maskwright_queue_ms_count", at="network") == 2
    assert 30 < numbers.of("maskwright_queue_ms_sum", at="network") < 5_000


def requests() -> list[tuple[str, Any]]:
    image, mask, clicks = torch.zeros(3, 8, 8), torch.zeros(1, 8, 8), Clicks.none()
    return [
        ("whole", Segment(image, mask, clicks)),
        ("close_up", Segment(image, mask, clicks, focus=True)),
        ("encode", Encode(image, mask, clicks)),
        ("correct", Correct(image, torch.zeros(4, 2, 2), torch.zeros(1, 2, 2), clicks)),
    ]


def test_forwards_by_half_and_batches_by_size(numbers: Numbers) -> None:
    def answer(asked: list[Any]) -> list[Any]:
        time.sleep(0.01)
        return [len(asked)] * len(asked)

    batched = Batched(Measured(answer, "net-1", torch.device("cpu")), max_batch=4)
    for half, request in requests():
        assert half_of(request) == half
        assert batched([request, request, request]) == [3, 3, 3]
        assert numbers.of("maskwright_forward_ms_count", half=half, version="net-1") == 1
        assert 9 < numbers.of("maskwright_forward_ms_sum", half=half) < 1_000
        assert numbers.of("maskwright_batch_size_sum", half=half) == 3
    assert numbers.of("maskwright_queue_ms_count", at="batch") == len(requests())


def test_forwards_on_a_gpu_are_measured_after_they_end(numbers: Numbers, monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[bool] = []

    class Mark:
        def record(self, stream: str) -> None:
            assert stream == "stream"

        def query(self) -> bool:
            return bool(ended)

        def elapsed_time(self, other: "Mark") -> float:
            return 7.0

    monkeypatch.setattr("torch.cuda.Event", lambda enable_timing: Mark())
    monkeypatch.setattr("torch.cuda.current_stream", lambda device: "stream")
    measured = Measured(lambda asked: asked, "net-1", torch.device("cuda", 0))
    request = requests()[0][1]
    for _ in range(3):
        measured([request])
    assert numbers.of("maskwright_forward_ms_count") == 0, "no request waits for them"
    ended.append(True)
    measured([request])
    assert numbers.of("maskwright_forward_ms_count", half="whole") == 4
    assert numbers.of("maskwright_forward_ms_sum", half="whole") == 28
    assert numbers.of("maskwright_batch_size_count", half="whole") == 4
