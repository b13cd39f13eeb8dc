"""The doctor reports problems in time and without secrets, on a real Ray, bucket, MLflow and Redis."""

import http.server
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from jobs.doctor import services
from jobs.doctor.__main__ import main
from jobs.doctor.finding import Finding, look, without_secrets
from jobs.doctor.machine import GIB, disk, gpus, memory, packages, reduce_alone, shared_memory
from jobs.doctor.storage import skew, storage
from tests import bucket
from tests.jobs.test_head import head
from tests.jobs.test_submit import ENVIRONMENT, RAY
from tests.ports import free_port
from tests.serve.redis_server import RedisServer

ROOT = Path(__file__).parents[2]


def test_a_probe_ends_in_time_and_its_errors_are_failures() -> None:
    def waits() -> Iterator[Finding]:
        yield Finding("x", "ok", "began")
        time.sleep(60)
        yield Finding("x", "ok", "never")

    def breaks() -> Iterator[Finding]:
        raise ConnectionRefusedError("nothing there")
        yield

    began = time.monotonic()
    assert [(each.level, each.said) for each in look("x", waits, 0.2)] == [
        ("ok", "began"),
        ("failure", "did not finish within 0.2 s"),
    ]
    assert time.monotonic() - began < 5
    ((level, said),) = [(each.level, each.said) for each in look("x", breaks, 5)]
    assert (level, said) == ("failure", "ConnectionRefusedError: nothing there")


def test_no_secret_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "verysecret")
    monkeypatch.setenv("A_TOKEN", "ok")  # too short to be one
    text = "s3://id:word@bucket/a failed with verysecret: ok?"
    assert without_secrets(text) == "s3://bucket/a failed with ***: ok?"


def test_packages_are_those_of_the_lock() -> None:
    (found,) = packages()
    assert found.level == "ok"
    assert torch.__version__.partition("+")[0] in found.said


def test_packages_that_are_missing_or_too_old_are_failures(monkeypatch: pytest.MonkeyPatch) -> None:
    from jobs.doctor import machine

    real = machine.installed_version
    monkeypatch.setattr(
        machine, "installed_version", lambda name: {"torch": "1.0", "redis": None}.get(name, real(name))
    )
    (found,) = packages()
    assert found.level == "failure"
    assert "torch 1.0 (>=2.10)" in found.said
    assert "redis (for serve)" in found.said
    monkeypatch.setattr(machine, "installed_version", lambda name: "99" if name == "timm" else real(name))
    (found,) = packages()
    assert found.level == "warning"
    assert "timm 99 (1." in found.said


@pytest.mark.parametrize(
    ("finding", "level"),
    [
        (shared_memory(2 * GIB, 2 * GIB), "ok"),
        (shared_memory(2 * GIB, 64 * 2**20), "warning"),
        (disk("/tmp", 100 * GIB, 50 * GIB), "ok"),
        (disk("/tmp", 100 * GIB, 9 * GIB), "warning"),
        (disk("/tmp", 100 * GIB, 4 * GIB), "failure"),
        (memory(50), "ok"),
        (memory(97), "warning"),
        (skew("clock", 3), "ok"),
        (skew("clock", -600), "warning"),
    ],
)
def test_each_state_of_a_machine_has_its_level(finding: Finding, level: str) -> None:
    assert finding.level == level
    assert bool(finding.do) == (level != "ok")


def test_gpus_that_ray_counts_and_torch_does_not_see(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert list(gpus(0)) == []
    (found,) = gpus(8)
    assert found.level == "failure"
    reduce_alone("gloo", torch.device("cpu"))  # the same check as for NCCL


def test_a_folder_that_can_be_written_and_one_that_cannot(tmp_path: Path) -> None:
    assert [each.level for each in storage(str(tmp_path / "new"))] == ["ok", "ok"]
    assert list((tmp_path / "new").iterdir()) == []
    (tmp_path / "file").touch()
    (found,) = storage(str(tmp_path / "file"))
    assert found.level == "failure"
    assert str(tmp_path / "file") in found.said


def test_a_bucket_is_checked_without_showing_secrets(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with bucket.Server() as server:
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "verysecret")
        place = server.address.format(folder="runs")
        assert [each.level for each in storage(place)] == ["ok", "ok"]
        missing = place.replace("masks", "no-such-bucket")
        (found,) = storage(missing)
        assert found.level == "failure"
        assert "verysecret" not in found.said
    (refused,) = look("storage", lambda: storage("s3://id:verysecret@bucket/x"), 20)
    assert refused.level == "failure"
    assert "verysecret" not in refused.said


@pytest.fixture
def answering() -> Iterator[Callable[[dict[str, tuple[int, str]]], str]]:
    """Serve the given answers by path on loopback."""
    running = []

    def serve(answers: dict[str, tuple[int, str]]) -> str:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, body = answers.get(self.path, (404, "{}"))
                self.send_response(status)
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *_: object) -> None:
                return

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        running.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield serve
    for each in running:
        each.shutdown()


def test_label_studio_that_refuses_the_token_and_private_addresses_is_reported(
    answering: Callable[[dict[str, tuple[int, str]]], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = answering({"/api/version": (200, '{"release": "1.23.2"}'), "/api/current-user/whoami": (401, "{}")})
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "verysecret")
    found = list(services.label_studio(url, "http://127.0.0.1:8000"))
    assert [each.level for each in found] == ["ok", "failure", "warning"]
    assert "ML_BLOCK_LOCAL_IP=false" in found[2].do
    assert (ROOT / "docs/HTTP.md").read_text().count("ML_BLOCK_LOCAL_IP=false SSRF_PROTECTION_ENABLED=false")
    monkeypatch.delenv("LABEL_STUDIO_API_KEY")
    assert [each.level for each in services.label_studio(url, "")] == ["ok"]


def test_cvat_and_a_maskwright_server_are_checked(answering: Callable[[dict[str, tuple[int, str]]], str]) -> None:
    url = answering({"/api/server/about": (200, '{"version": "2.40"}')})
    assert [each.level for each in services.cvat(url, "http://host:8000")] == ["ok"]
    assert [each.level for each in services.cvat(url, "http://host:8000/masks")] == ["ok", "failure"]
    url = answering({"/v1/health/live": (200, "{}"), "/v1/health/ready": (503, '{"detail": "is warming up"}')})
    (found,) = services.server(url)
    assert (found.level, "warming up" in found.said) == ("failure", True)
    (found,) = look("server", lambda: services.server(f"http://127.0.0.1:{free_port()}"), 20)
    assert found.level == "failure"


def test_ports_that_other_machines_reach() -> None:
    port = free_port()
    program = (
        "import socket,sys,time; s=socket.socket(); s.bind(('0.0.0.0', int(sys.argv[2]))); s.listen(); time.sleep(60)"
    )
    running = subprocess.Popen([sys.executable, "-c", program, "redis-server", str(port)])
    try:
        deadline = time.monotonic() + 20
        while not (found := [each for each in services.ports(True) if str(port) in each.said]):
            assert time.monotonic() < deadline
            time.sleep(0.2)
    finally:
        running.kill()
        running.wait()
    assert [each.level for each in found] == ["warning"]


def test_status_and_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["--ray", "local", "--storage", str(tmp_path / "a"), "--json"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {each["about"] for each in found} >= {"Ray", "packages", "disk", "MLflow", "ports"}
    dead = f"http://127.0.0.1:{free_port()}"
    assert main(["--ray", "local", "--tracking-uri", dead]) == 1
    said = capsys.readouterr().out
    assert "failure  MLflow" in said
    assert said.splitlines()[-1].startswith("1 failures")


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(300)
def test_a_submitted_doctor_checks_every_node(tmp_path: Path) -> None:
    store, port, dashboard = free_port(), free_port(), free_port()
    with RedisServer("--port", str(store), "--bind", "127.0.0.1"), head(store, port, dashboard):
        node = subprocess.Popen(
            [
                str(RAY),
                "start",
                "--block",
                f"--address=127.0.0.1:{port}",
                "--num-cpus=1",
                "--object-store-memory=100000000",
            ],
            env=ENVIRONMENT,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            command = [str(RAY), "job", "submit", "--address", f"http://127.0.0.1:{dashboard}", "--working-dir", "."]
            command += ["--", sys.executable, "-m", "jobs.doctor", "--json", "--storage", str(tmp_path)]
            deadline = time.monotonic() + 150
            while True:
                done = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=200)
                found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"about"')]
                if [each["about"] for each in found].count("clock") == 2 or time.monotonic() > deadline:
                    break
                time.sleep(3)
        finally:
            node.terminate()
            node.wait(30)
    about = [each["about"] for each in found]
    assert about.count("clock") == about.count("packages") == 2, done.stdout + done.stderr
    assert about.count(f"storage {tmp_path}") == 4
    levels = {(each["about"], each["level"]) for each in found}
    assert ("Ray", "warning") in levels  # this cluster requires no token
    assert done.returncode == 0, found
