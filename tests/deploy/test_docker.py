"""The Dockerfile passes a linter and fits the code; compose.yaml fits the programs that it starts."""

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from models.flags import parse
from serve.core.tokens import read_tokens
from serve.start.command import Serve
from tests.deploy.run_dockerfile import FILE, context, instructions, stages

ROOT = Path(__file__).parents[2]
STAGES = stages(FILE.read_text())
COMPOSE = yaml.safe_load(FILE.with_name("compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


def test_the_linter_finds_nothing() -> None:
    lint = Path(sys.executable).with_name("hadolint")
    for text, status in ((FILE.read_text(), 0), (FILE.read_text() + "\nRUN cd /tmp\n", 1)):
        done = subprocess.run([lint, "-"], input=text, capture_output=True, text=True)
        assert done.returncode == status, done.stdout


def test_the_manifests_use_the_images_that_are_built() -> None:
    (version,) = re.findall(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.M)
    kustomization = yaml.safe_load((ROOT / "deploy/kuberay/kustomization.yaml").read_text())
    tags = {image["name"].removeprefix("maskwright-"): image["newTag"] for image in kustomization["images"]}
    assert tags == {target: f"{version}-{target}" for target in ("cpu", "cuda")}
    assert set(tags) < set(STAGES)
    built = {service["image"] for service in SERVICES.values() if service["image"].startswith("maskwright")}
    assert built == {f"maskwright:{version}-{SERVICES['server']['build']['target']}"}
    for tag in (f"maskwright:{version}-{target}" for target in tags):
        assert tag in FILE.read_text()


def test_an_image_installs_the_lock_and_does_not_run_as_root() -> None:
    for target in ("cpu", "cuda"):
        (install,) = [value for name, value in STAGES[f"packages-{target}"][1] if name == "RUN"]
        assert "--constraint constraints.txt" in install
        assert '".[serve,train,aws]"' in install
        assert STAGES[target][0] == "maskwright"
    assert ("USER", "1000") in STAGES["maskwright"][1]
    taken = {path.name for path in context(ROOT)}
    assert taken >= {"models", "pipeline", "jobs", "serve", "LICENSE"}
    assert all((ROOT / name).exists() for name in taken)
    ((_, command),) = [each for each in instructions(FILE.read_text()) if each[0] == "CMD"]
    words = yaml.safe_load(command)
    assert words[:3] == ["python", "-m", "serve"]
    ports = {value for name, value in instructions(FILE.read_text()) if name == "EXPOSE"}
    assert ports == {str(parse(Serve, words[3:], prog="serve").port)}


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Serve:
    """Return the parsed command of the server, with a file of tokens in place of its secret."""
    words = shlex.split(SERVICES["server"]["command"])
    assert words[:3] == ["python", "-m", "serve"]
    (secret,) = SERVICES["server"]["secrets"]
    place = words.index(f"/run/secrets/{secret}")
    words[place] = str(tmp_path / secret)
    Path(words[place]).write_text(f"anna annotator {'0' * 64}\n")
    assert COMPOSE["secrets"][secret]["file"] == f"./{secret}"
    return parse(Serve, words[3:], prog="serve")


def published(service: str) -> set[int]:
    """Return the ports of a service, and check that only this machine can reach them, under the same numbers."""
    ports = set()
    for text in SERVICES[service].get("ports", ()):
        address, outside, inside = text.split(":")
        assert address == "127.0.0.1"
        assert outside == inside
        ports.add(int(inside))
    return ports


def test_the_server_starts_with_the_services_that_are_there(serve: Serve) -> None:
    assert serve.tokens
    assert read_tokens(Path(serve.tokens))
    assert published("server") == {serve.port, serve.metrics_port}
    assert f":{serve.port}/v1/health/ready" in SERVICES["server"]["healthcheck"]["test"]
    assert "server" in serve.hosts  # Label Studio calls it by this name
    assert serve.sessions == "redis://redis:6379/0"
    studio = "http://label-studio:8080"
    assert serve.label_studio_url == studio
    assert list(serve.image_hosts) == [studio.removeprefix("http://")]
    assert published("label-studio") == {8080}
    assert SERVICES["server"]["environment"]["MLFLOW_TRACKING_URI"] == "http://mlflow:5000"
    assert published("redis") == set()
    for name in SERVICES["server"]["depends_on"]:
        assert name in SERVICES
    volumes = [volume for service in SERVICES.values() for volume in service.get("volumes", ())]
    used = {volume.split(":")[0] for volume in volumes if not volume.startswith("$")}
    assert used == set(COMPOSE["volumes"])


@pytest.mark.networks
def test_mlflow_starts_with_its_command_and_answers_under_its_names() -> None:
    from mlflow.cli import server

    words = shlex.split(SERVICES["mlflow"]["command"])
    assert words[:2] == ["mlflow", "server"]
    options = server.make_context("mlflow server", words[2:]).params
    assert published("mlflow") == {int(options["port"])}
    assert options["allowed_hosts"].split(",")[:2] == ["mlflow:5000", "localhost:5000"]


def test_label_studio_has_the_tested_version() -> None:
    (tried,) = re.findall(r"^label-studio==(.+)$", (ROOT / "tests/clients/label-studio.txt").read_text(), re.M)
    assert SERVICES["label-studio"]["image"] == f"heartexlabs/label-studio:{tried}"
    documented = (ROOT / "docs/HTTP.md").read_text()
    for name in ("ML_BLOCK_LOCAL_IP", "SSRF_PROTECTION_ENABLED"):
        assert SERVICES["label-studio"]["environment"][name] == "false"
        assert f"{name}=false" in documented
