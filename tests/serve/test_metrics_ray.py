"""On Ray, clicks appear on the endpoint for Prometheus, and their ids in the logs of the replicas."""

import json
import re
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from models import checkpoint
from serve.core.options import Options
from serve.observing.metrics import METRICS
from serve.observing.record import session_name
from serve.on_ray import serving
from tests.ports import free_port
from tests.serve.conftest import encoded, picture
from tests.serve.test_dashboard import EXPORTED
from tests.training.toys import TOYS

NUM_CLICKS = 5
RARE = {"maskwright_model_nan", "maskwright_cache_evictions", "maskwright_retries"}
"""What does not happen to a session that all goes well for."""


@pytest.fixture
def serving_ray(ray_cluster: None) -> Iterator[None]:
    import ray.serve as ray_serve

    yield
    ray_serve.shutdown()


def exported(without: frozenset[str] = frozenset()) -> str:
    """Return what Ray's agent on this node exports, without the values of processes with these ids."""
    import ray

    (node,) = ray.nodes()
    address = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    with urllib.request.urlopen(address, timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return "\n".join(line for line in lines if not workers_of(line) & without)


def workers_of(text: str) -> frozenset[str]:
    return frozenset(re.findall(r'WorkerId="(\w+)"', text))


def total(text: str, name: str, **labels: str) -> float:
    found = re.findall(rf"^ray_{name}\{{(.*)\}} (\S+)$", text, re.M)
    its = [(dict(re.findall(r'(\w+)="([^"]*)"', each)), float(value)) for each, value in found]
    return sum(value for each, value in its if labels.items() <= each.items())


def lines_of_replicas() -> list[dict[str, Any]]:
    import ray

    folder = Path(ray._private.worker._global_node.get_session_dir_path())
    texts = [path.read_text() for path in (folder / "logs").glob("worker-*.err")]
    return [json.loads(line) for text in texts for line in text.splitlines() if line.startswith('{"time"')]


@pytest.mark.ray
@pytest.mark.timeout(240)
@pytest.mark.usefixtures("serving_ray")
def test_clicks_are_on_rays_endpoint_and_in_its_logs(tmp_path: Path) -> None:
    folder = checkpoint.save(TOYS["emc segformer"](), tmp_path / "checkpoint")
    port, others = free_port(), workers_of(exported())
    args = Options(
        checkpoint=str(folder), num_threads=1, device="cpu", sessions=str(tmp_path / "s.db"), log_format="json"
    )
    with (
        serving.serving(args, "127.0.0.1", port, proxy=True),
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False) as client,
    ):
        opened = client.post("/v1/sessions", content=encoded(picture(48, 64)), headers={"Content-Type": "image/png"})
        assert opened.headers.get_list("x-request-id") == [opened.headers["x-request-id"]], "named once"
        session = opened.json()["session_id"]
        address = f"/v1/sessions/{session}/clicks"
        for number in range(NUM_CLICKS):
            answer = client.post(address, json={"x": 9 + 8 * number, "y": 20}, headers={"X-Request-ID": f"c-{number}"})
            assert answer.status_code == 200, answer.text
            assert answer.headers.get_list("x-request-id") == [f"c-{number}"]
        problem = client.post(address, json={"x": 900, "y": 20}, headers={"X-Request-ID": "refused-1"})
        assert problem.json()["request_id"] == "refused-1"
        names = {f"ray_{metric.name}" for metric in METRICS if metric.name not in RARE | {"maskwright_live_sockets"}}
        deadline, text = time.monotonic() + 60, ""
        # Processes tell their numbers every few seconds, each at its own time.
        while time.monotonic() < deadline and not (
            all(name in text for name in names)
            and total(text, "maskwright_problems_total") >= 1
            and total(text, "maskwright_cache_lookups_total") >= NUM_CLICKS
            and total(text, "maskwright_forward_ms_count") >= NUM_CLICKS + 5
        ):
            time.sleep(1)
            text = exported(without=others)
    missing = sorted(name for name in names if name not in text)
    assert missing == []
    route = "/v1/sessions/{session_id}/clicks"
    clicks = {"route": route, "model": "default", "status": "2xx"}
    assert total(text, "maskwright_request_ms_count", click="first", **clicks) == 1
    assert total(text, "maskwright_request_ms_count", click="correction", **clicks) == NUM_CLICKS - 1
    assert total(text, "maskwright_request_ms_bucket", le="60000.0", **clicks) == NUM_CLICKS
    assert total(text, "maskwright_request_ms_sum", **clicks) > 0
    assert total(text, "maskwright_problems_total", route=route, code="bad_click") == 1
    assert total(text, "maskwright_call_ms_count", call="mask") == NUM_CLICKS
    assert total(text, "maskwright_work_ms_count", call="mask") == NUM_CLICKS
    assert total(text, "maskwright_sessions") == 1
    # Each deployment's own first click, and those of the session.
    assert total(text, "maskwright_forward_ms_count", half="encode") == 1 + 2
    assert total(text, "maskwright_forward_ms_count", half="correct") == NUM_CLICKS + 2
    assert total(text, "maskwright_views_total", half="correct") == NUM_CLICKS + 2
    assert total(text, "maskwright_cache_lookups_total", found="hit") == NUM_CLICKS
    # Names and types on the wire are those that the dashboard asks for.
    found = {name.removeprefix("ray_") for name in re.findall(r"^(ray_maskwright_\w+)\{", text, re.M)}
    assert found <= set(EXPORTED)
    assert session not in text

    logged = lines_of_replicas()
    mine = [line for line in logged if line.get("request_id") == "c-0"]
    assert {(line["event"], line.get("call")) for line in mine} == {
        ("request", None),
        ("work", "mask"),
        ("work", "encode"),
    }, "the ingress, Correction and FirstClick know it by the same id"
    (request,) = [line for line in mine if line["event"] == "request"]
    assert (request["click"], request["session"], request["status"]) == ("first", session_name(session), 200)
    assert session not in json.dumps(logged)


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(240)
@pytest.mark.usefixtures("serving_ray")
def test_a_server_outside_of_ray_serve_measures_and_passes_ids_on(tmp_path: Path) -> None:
    folder = checkpoint.save(TOYS["emc segformer"](), tmp_path / "checkpoint")
    port, route = free_port(), "/v1/sessions/{session_id}/clicks"
    args = Options(
        checkpoint=str(folder), num_threads=1, device="cpu", sessions=str(tmp_path / "s.db"), log_format="json"
    )

    def counted() -> float:
        return total(exported(), "maskwright_request_ms_count", route=route, status="2xx")

    with (
        serving.serving(args, "127.0.0.1", port),
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False) as client,
    ):
        before = counted()
        opened = client.post("/v1/sessions", content=encoded(picture(48, 64)), headers={"Content-Type": "image/png"})
        for number in range(NUM_CLICKS):
            answer = client.post(
                f"/v1/sessions/{opened.json()['session_id']}/clicks",
                json={"x": 9 + 8 * number, "y": 20},
                headers={"X-Request-ID": f"front-{number}"},
            )
            assert answer.headers.get_list("x-request-id") == [f"front-{number}"]
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and counted() < before + NUM_CLICKS:
            time.sleep(1)
        assert counted() == before + NUM_CLICKS
        # No proxy of Ray Serve counts these, so the server does, by the proxies' names.
        assert total(exported(), "serve_num_http_requests_total", route=route, status_code="200") >= NUM_CLICKS
    found = {
        (line["request_id"], line.get("call"))
        for line in lines_of_replicas()
        if str(line.get("request_id")).startswith("front-")
    }
    assert found == {("front-0", "encode"), *((f"front-{number}", "mask") for number in range(NUM_CLICKS))}
