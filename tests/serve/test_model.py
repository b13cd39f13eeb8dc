"""The model side: where checkpoints come from, the command line, and the app on a real (untrained) network."""

import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from fastapi.testclient import TestClient
from ray.serve.schema import ServeDeploySchema

from models import checkpoint, rle
from models.errors import InputError
from models.networks import create
from models.predictor import Predictor
from serve import __main__ as command
from serve.api import create_app
from serve.deployments import ServeArgs, build_engine, prepare_ray_auth
from serve.engine import Engine
from serve.model_source import resolve
from tests.serve.conftest import encoded, picture

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def small_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    network = create("simpleclick_vit_xtiny", input_hw=(64, 64), depth=4)
    return checkpoint.save(network, tmp_path_factory.mktemp("model") / "small", refinement="zoom_in")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_a_session_over_http_is_a_session_in_process(small_checkpoint: Path) -> None:
    client = TestClient(create_app(Engine(Predictor(small_checkpoint))))
    image = picture()
    opened = client.post("/v1/sessions", content=encoded(image), headers={"Content-Type": "image/png"})
    address = f"/v1/sessions/{opened.json()['session_id']}/clicks"
    session = Predictor(small_checkpoint).open(image)
    for x, y, positive in ((30, 20, True), (5, 5, False), (50, 30, True)):
        answer = client.post(address, json={"x": x, "y": y, "positive": positive}).json()
        session.click(y, x, positive)
        np.testing.assert_array_equal(rle.decode(answer["mask"]), session.mask)
    assert answer["model_version"].startswith("simpleclick_vit_xtiny-")


def test_the_engine_names_its_refinement(small_checkpoint: Path) -> None:
    assert build_engine(ServeArgs(checkpoint=str(small_checkpoint))).refinement == "zoom_in"
    assert build_engine(ServeArgs(checkpoint=str(small_checkpoint), refinement="flip")).refinement == "flip"


def test_checkpoints_by_folder(small_checkpoint: Path, tmp_path: Path) -> None:
    assert resolve(str(small_checkpoint)) == small_checkpoint
    with pytest.raises(InputError, match="no checkpoint at"):
        resolve(str(tmp_path))


@pytest.fixture
def registry(tmp_path: Path, small_checkpoint: Path) -> Iterator[str]:
    import mlflow

    before = mlflow.get_tracking_uri(), mlflow.get_registry_uri()
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    mlflow.set_tracking_uri(uri)
    client = mlflow.MlflowClient(uri, uri)
    experiment = client.create_experiment("t", artifact_location=(tmp_path / "artifacts").as_uri())
    run = client.create_run(experiment)
    client.log_artifacts(run.info.run_id, str(small_checkpoint), "checkpoint")
    client.create_registered_model("clicks")
    version = client.create_model_version("clicks", f"{run.info.artifact_uri}/checkpoint", run.info.run_id)
    client.set_registered_model_alias("clicks", "champion", version.version)
    yield uri
    mlflow.set_tracking_uri(before[0])
    mlflow.set_registry_uri(before[1])


def test_checkpoints_by_registry(registry: str, small_checkpoint: Path) -> None:
    folder = resolve("models:/clicks@champion", registry)
    assert checkpoint.describe(folder) == checkpoint.describe(small_checkpoint)
    with pytest.raises(InputError, match="no model 'models:/clicks@nobody'"):
        resolve("models:/clicks@nobody", registry)


def test_the_config_is_one_that_ray_serve_reads() -> None:
    config = ServeDeploySchema.model_validate(yaml.safe_load((ROOT / "serve/config.yaml").read_text()))
    (application,) = config.applications
    assert application.import_path == "serve.deployments:build_app"
    assert [deployment.name for deployment in application.deployments] == ["Maskwright"]
    assert config.http_options.host == "127.0.0.1"
    assert ServeArgs.of(application.args).checkpoint.startswith("models:/")


def test_arguments_of_the_builder() -> None:
    assert ServeArgs.of({"checkpoint": "a", "num_threads": "3"}).num_threads == 3
    for args in ({}, {"checkpoint": "a", "refine": "flip"}, {"checkpoint": "a", "num_threads": "many"}):
        with pytest.raises(InputError):
            ServeArgs.of(args)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--checkpoint", "/nowhere"], "no checkpoint at"),
        (["--checkpoint", "SMALL", "--host", "0.0.0.0"], "no login"),
        (["--checkpoint", "SMALL", "--host", "example.org"], "no login"),
        (["--checkpoint", "SMALL", "--port", "0"], "--port"),
        (["--checkpoint", "SMALL", "--refine", "zoom_inn"], "did you mean 'zoom_in'"),
        (["--checkpoint", "SMALL", "--examples", "/nowhere"], "--examples"),
    ],
)
def test_bad_options_end_with_one_line(
    options: list[str],
    words: str,
    small_checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = [str(small_checkpoint) if option == "SMALL" else option for option in options]
    monkeypatch.setattr("sys.argv", ["serve", *given])
    with pytest.raises(SystemExit) as caught:
        command.main()
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert words in error
    assert "Traceback" not in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize(
    ("host", "expected"), [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False)]
)
def test_loopback(host: str, expected: bool) -> None:
    assert command.is_loopback(host) is expected


def test_ray_gets_a_token_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    names = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_ADDRESS")
    for name in names:
        monkeypatch.setenv(name, "x")  # remembered, so that what the function sets is undone
        monkeypatch.delenv(name)
    prepare_ray_auth()
    assert "RAY_AUTH_MODE" not in os.environ
    assert len(os.environ["RAY_AUTH_TOKEN"]) == 64
    monkeypatch.setenv("RAY_AUTH_TOKEN", "mine")
    prepare_ray_auth()
    assert os.environ["RAY_AUTH_TOKEN"] == "mine"


@pytest.fixture
def own_ray() -> Iterator[None]:
    """A Ray with room for the replica: the one that runs already, else one of our own."""
    import ray

    started = not ray.is_initialized()
    if started:
        prepare_ray_auth()
        options = {"object_store_memory": 200 << 20, "include_dashboard": False, "log_to_driver": False}
        ray.init(address="local", num_cpus=4, **options)
    yield
    if started:
        ray.shutdown()


@pytest.mark.ray
@pytest.mark.usefixtures("own_ray")
def test_a_session_on_ray_serve(small_checkpoint: Path) -> None:
    import httpx
    import ray.serve as ray_serve

    from serve import deployments

    port = free_port()
    deployments.start(ServeArgs(checkpoint=str(small_checkpoint), num_threads=1), "127.0.0.1", port)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False) as client:
            image = picture()
            opened = client.post("/v1/sessions", content=encoded(image), headers={"Content-Type": "image/png"})
            assert opened.status_code == 201, opened.text
            address = f"/v1/sessions/{opened.json()['session_id']}"
            session = Predictor(small_checkpoint).open(image)
            for sequence, (x, y) in enumerate([(30, 20), (5, 5)], start=1):
                answer = client.post(f"{address}/clicks", json={"x": x, "y": y, "sequence": sequence}).json()
                session.click(y, x)
                assert (answer["num_clicks"], answer["mask"]) == (sequence, rle.encode(session.mask))
            assert client.post(f"{address}/undo").json()["num_clicks"] == 1
            problem = client.post(f"{address}/clicks", json={"x": 1000, "y": 0})
            assert (problem.status_code, problem.json()["code"]) == (422, "bad_click")
            assert client.get("/").headers["content-security-policy"].startswith("default-src 'self'")
            assert client.delete(address).status_code == 204
    finally:
        ray_serve.shutdown()
