"""The model side: where checkpoints come from, its options, and the app on a real (untrained) network."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
import yaml
from fastapi.testclient import TestClient
from ray.serve.schema import ServeDeploySchema

from models import checkpoint, rle
from models.box import DEFAULT
from models.errors import InputError
from models.interaction import Click
from models.networks import create
from models.predictor import Predictor
from serve.core.options import Options
from serve.core.tokens import Secrets, find, new_token
from serve.core.values import Basis
from serve.deployments import build_app
from serve.engine.engine import Engine
from serve.http.app import create_app
from serve.loading.build import build_engine
from serve.loading.model_source import local_registry_uri, registry_uri, resolve
from serve.on_ray import app, serving
from serve.on_ray.environment import CHOSEN, MEMORY, prepare_ray_auth
from tests.ports import free_port
from tests.serve.conftest import encoded, picture

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def small_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    network = create("simpleclick_vit_xtiny", input_hw=(64, 64), depth=4)
    return checkpoint.save(network, tmp_path_factory.mktemp("model") / "small", refinement="zoom_in")


@pytest.mark.networks
def test_a_session_over_http_equals_one_in_process(small_checkpoint: Path) -> None:
    client = TestClient(create_app(Engine(Predictor(small_checkpoint))), "http://localhost")
    image = picture()
    opened = client.post("/v1/sessions", content=encoded(image), headers={"Content-Type": "image/png"})
    address = f"/v1/sessions/{opened.json()['session_id']}/clicks"
    session = Predictor(small_checkpoint).open(image)
    for x, y, positive in ((30, 20, True), (5, 5, False), (50, 30, True)):
        answer = client.post(address, json={"x": x, "y": y, "positive": positive}).json()
        session.click(y, x, positive)
        np.testing.assert_array_equal(rle.decode(answer["mask"]), session.mask)
    assert answer["model_version"].startswith("simpleclick_vit_xtiny-")


@pytest.mark.networks
def test_existing_sessions_can_continue_on_onnxruntime(small_checkpoint: Path, tmp_path: Path) -> None:
    folder = checkpoint.copy(small_checkpoint, tmp_path / "checkpoint")
    by_torch, by_onnx = (
        build_engine(Options.of({"checkpoint": str(folder), "backend": backend})) for backend in ("torch", "onnx")
    )
    assert by_onnx.model_version == by_torch.model_version
    sessions = [engine.open(picture(), Basis()) for engine in (by_torch, by_onnx)]
    for session, engine in zip(sessions, (by_torch, by_onnx), strict=True):
        engine.walk(session, (Click(y=20, x=30, positive=True),))
    expected, got = (session.mask_prob for session in sessions)
    assert expected is not None
    assert got is not None
    assert np.abs(expected - got).max() < 1e-3


def test_an_unknown_backend_is_refused() -> None:
    with pytest.raises(InputError, match="backend is 'tensorrt': expected torch, onnx"):
        Options.of({"checkpoint": "somewhere", "backend": "tensorrt"})


def test_the_engine_names_its_refinement(small_checkpoint: Path) -> None:
    assert build_engine(Options(checkpoint=str(small_checkpoint))).refinement == "zoom_in"
    assert build_engine(Options(checkpoint=str(small_checkpoint), refinement="flip")).refinement == "flip"


def test_checkpoints_by_folder(small_checkpoint: Path, tmp_path: Path) -> None:
    assert resolve(str(small_checkpoint)) == small_checkpoint
    with pytest.raises(InputError, match="no checkpoint at"):
        resolve(str(tmp_path))


@pytest.fixture
def registry(tmp_path: Path, small_checkpoint: Path) -> str:
    """A registry that is not configured in this process or its environment."""
    import mlflow

    uri = f"sqlite:///{tmp_path}/mlflow.db"
    client = mlflow.MlflowClient(uri, uri)
    experiment = client.create_experiment("t", artifact_location=(tmp_path / "artifacts").as_uri())
    run = client.create_run(experiment)
    client.log_artifacts(run.info.run_id, str(small_checkpoint), "checkpoint")
    client.create_registered_model("clicks")
    version = client.create_model_version("clicks", f"{run.info.artifact_uri}/checkpoint", run.info.run_id)
    client.set_registered_model_alias("clicks", "champion", version.version)
    return uri


@pytest.mark.networks
def test_checkpoints_by_registry(registry: str, small_checkpoint: Path) -> None:
    folder = resolve("models:/clicks@champion", registry)
    files = {path.name: path.read_bytes() for path in small_checkpoint.iterdir()}
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == files
    for wrong in ("models:/clicks@missing", "models:/clicks/9", "models:/other@champion", "models:/clicks"):
        with pytest.raises(InputError, match=f"no model '{wrong}'"):
            resolve(wrong, registry)


def test_a_registry_may_not_depend_on_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for uri, words in ((None, "needs an MLflow registry"), ("sqlite:///mlflow.db", "depends on the current folder")):
        with pytest.raises(InputError, match=words):
            resolve("models:/clicks@champion", uri)
        with pytest.raises(InputError, match=words):
            build_app({"checkpoint": "models:/clicks@champion", "tracking_uri": uri})
    here = local_registry_uri(None)
    assert here == f"sqlite:///{tmp_path}/mlflow.db"
    assert registry_uri(here) == local_registry_uri("sqlite:///mlflow.db") == here
    assert registry_uri("http://localhost:5000") == local_registry_uri("http://localhost:5000")
    with pytest.raises(InputError, match="no MLflow registry at"):
        resolve("models:/clicks@champion", here)
    assert list(tmp_path.iterdir()) == [], "no empty database is left behind"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://localhost:5000")
    monkeypatch.setattr(app, "is_split", lambda args: False)
    (owner,) = build_app({"checkpoint": "models:/clicks/1"})._bound_deployment.init_args[1].values()
    args = owner._bound_deployment.init_args[0]
    assert args.tracking_uri == "http://localhost:5000", "the builder's environment decides for the replica"


def test_ray_serve_reads_the_config() -> None:
    config = ServeDeploySchema.model_validate(yaml.safe_load((ROOT / "serve/config.yaml").read_text()))
    (application,) = config.applications
    assert application.import_path == "serve.deployments:build_app"
    assert [deployment.name for deployment in application.deployments] == ["Maskwright", "FirstClick", "Correction"]
    assert config.http_options.host == "127.0.0.1"
    for deployment in application.deployments[1:]:
        environment = deployment.ray_actor_options.runtime_env["env_vars"]
        assert environment == MEMORY, "the config's options replace those of the builder"
    args = Options.of(application.args)
    assert args.place == DEFAULT


def test_arguments_of_the_builder() -> None:
    assert Options.of({"checkpoint": "a", "num_threads": "3"}).num_threads == 3
    assert Options.of({"checkpoint": "a", "max_megapixels": "5"}).max_pixels == 5_000_000
    assert Options.of({"checkpoint": "a"}).max_pixels == Options().max_pixels
    for wrong in (
        {"refine": "flip"},
        {"num_threads": "many"},
        {"device": "gpu"},
        {"max_megapixels": -1},
        {"log_format": "xml"},
    ):
        with pytest.raises(InputError):
            Options.of({"checkpoint": "a"} | wrong)


@pytest.mark.parametrize(
    ("device", "num_gpus", "expected"),
    [("auto", 0, 0), ("auto", 2, 1), ("cpu", 2, 0), ("cuda", 0, 1), ("cuda", 2, 1)],
)
def test_the_replica_reserves_a_gpu(device: str, num_gpus: int, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "local")
    monkeypatch.setattr("ray.is_initialized", lambda: True)
    monkeypatch.setattr("ray.cluster_resources", lambda: {"CPU": 4.0} | ({"GPU": float(num_gpus)} if num_gpus else {}))
    assert reserved({"device": device}).get("num_gpus", 0) == expected


@pytest.mark.parametrize(
    ("options", "cpus", "gpus"),
    [
        ({}, 1, 0),
        ({"device": "auto", "model_gpus": 0.5}, 1, 0),
        ({"device": "cuda"}, 1, 1),
        ({"device": "cuda", "model_cpus": "4", "model_gpus": "0.5"}, 4, 0.5),
    ],
)
@pytest.mark.parametrize("address", ["192.0.2.1:6379", None])  # None: a builder that Ray Serve runs in the cluster
def test_a_model_on_a_running_ray_reserves_what_the_options_say(
    options: dict[str, Any], cpus: float, gpus: float, address: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if address:
        monkeypatch.setenv("RAY_ADDRESS", address)
    monkeypatch.setattr("ray.is_initialized", lambda: True)
    monkeypatch.setattr("ray.cluster_resources", lambda: pytest.fail("a Ray that may grow was asked what it has"))
    found = reserved(options)
    assert (found["num_cpus"], found.get("num_gpus", 0)) == (cpus, gpus)


def reserved(options: dict[str, Any]) -> dict[str, Any]:
    """Return the resources that the only model, a network without halves, requests from Ray."""
    with mock.patch.object(app, "is_split", return_value=False):
        (owner,) = build_app({"checkpoint": "a"} | options)._bound_deployment.init_args[1].values()
    return owner._bound_deployment.ray_actor_options or {}


def faked_ray(
    monkeypatch: pytest.MonkeyPatch, address: str | None, applications: dict[str, object], *, ran_before: bool
) -> list[tuple[object, ...]]:
    """Simulate a Ray that serves these applications; return the list of the calls to it."""
    calls: list[tuple[object, ...]] = []
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if address:
        monkeypatch.setenv("RAY_ADDRESS", address)
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray.init", lambda **options: calls.append(("init", options["address"])))
    monkeypatch.setattr("ray.shutdown", lambda: calls.append(("ray.shutdown",)))
    monkeypatch.setattr("ray.serve.start", lambda **_: None)
    monkeypatch.setattr("ray.serve.run", lambda *_, **__: None)
    monkeypatch.setattr("ray.serve.run_many", lambda targets: [None for _ in targets])
    monkeypatch.setattr(serving, "collecting", lambda: nullcontext(lambda: None))
    monkeypatch.setattr("ray.serve.status", lambda: SimpleNamespace(applications=applications))
    monkeypatch.setattr("ray.serve.delete", lambda name: calls.append(("delete", name)))
    monkeypatch.setattr("ray.serve.shutdown", lambda: calls.append(("serve.shutdown",)))
    monkeypatch.setattr(serving, "serve_runs", lambda: ran_before)
    monkeypatch.setattr(serving, "answers", lambda host, port, tls: port == 8000)
    return calls


@pytest.mark.parametrize(
    ("address", "others", "ran_before", "ends"),
    [
        (None, False, False, True),
        ("192.0.2.1:6379", False, False, True),  # a Ray Serve that we started keeps its proxies as we wanted them
        ("192.0.2.1:6379", True, False, False),  # but somebody came meanwhile
        ("192.0.2.1:6379", False, True, False),
    ],
)
def test_other_applications_of_a_cluster_are_not_touched(
    address: str | None, others: bool, ran_before: bool, ends: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = faked_ray(monkeypatch, address, {"other": None} if others else {}, ran_before=ran_before)
    with serving.serving(Options(checkpoint="a"), "127.0.0.1", 8000, proxy=True):
        calls.append(("served",))
    ending = [("delete", "maskwright"), ("delete", "maskwright-default"), *([("serve.shutdown",)] if ends else [])]
    assert calls == [("init", address or "local"), ("served",), *ending, ("ray.shutdown",)]


def test_an_existing_application_of_a_cluster_is_not_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = faked_ray(monkeypatch, "192.0.2.1:6379", {"maskwright": None}, ran_before=True)
    with (
        pytest.raises(InputError, match="already serves"),
        serving.serving(Options(checkpoint="a"), "127.0.0.1", 8000),
    ):
        pass
    assert calls == [("init", "192.0.2.1:6379"), ("ray.shutdown",)]


def test_proxies_that_listen_elsewhere_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    faked_ray(monkeypatch, "192.0.2.1:6379", {}, ran_before=True)
    with (
        pytest.raises(InputError, match="port 8001: give"),
        serving.serving(Options(checkpoint="a"), "127.0.0.1", 8001, proxy=True),
    ):
        pass


@pytest.mark.check(21)
def test_weights_that_give_no_numbers_are_refused(tmp_path: Path) -> None:
    network = create("simpleclick_vit_xtiny", input_hw=(64, 64), depth=4)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(float("nan"))
    folder = checkpoint.save(network, tmp_path / "nan")
    with pytest.raises(InputError, match="not numbers"):
        build_engine(Options(checkpoint=str(folder), device="cpu"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_device_cuda_is_refused_without_a_gpu(small_checkpoint: Path) -> None:
    with pytest.raises(InputError, match="no GPU"):
        build_engine(Options(checkpoint=str(small_checkpoint), device="cuda"))


def test_settings_of_a_deployment(tmp_path: Path) -> None:
    secret, line = new_token("anna", "annotator")
    (tmp_path / "tokens").write_text(line)
    args = {"checkpoint": "a", "tokens": str(tmp_path / "tokens"), "hosts": "masks.example, 0.0.0.0"}
    settings = Options.of(args | {"origins": "https://tools.example", "clicks_per_second": "0"})
    assert find(secret, Secrets.of(settings).tokens).name == "anna"
    assert (settings.hosts, settings.origins) == (("masks.example", "0.0.0.0"), ("https://tools.example",))
    assert (settings.clicks_per_second, settings.opens_per_minute) == (0, 120)
    assert Options.of({"checkpoint": "a"}) == Options(checkpoint="a")
    with pytest.raises(InputError, match="opens_per_minute"):
        Options.of({"checkpoint": "a", "opens_per_minute": "many"})


@pytest.mark.check(28)
def test_ray_gets_a_new_token(monkeypatch: pytest.MonkeyPatch) -> None:
    def cleared() -> None:
        for name in CHOSEN:
            monkeypatch.setenv(name, "x")  # remembered, so that what the function sets is undone
            monkeypatch.delenv(name)

    cleared()
    prepare_ray_auth()
    assert os.environ["RAY_AUTH_MODE"] == "token"
    assert len(os.environ["RAY_AUTH_TOKEN"]) == 64
    for name in CHOSEN:
        cleared()
        monkeypatch.setenv(name, "mine")
        prepare_ray_auth()
        assert {other: os.environ[other] for other in CHOSEN if other in os.environ} == {name: "mine"}


@pytest.mark.networks
def test_the_token_is_set_before_ray_is_imported() -> None:
    code = "import serve.__main__, serve.loading.model_source, sys; assert 'ray' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=300)


@pytest.fixture
def serving_ray(ray_cluster: None) -> Iterator[None]:
    """The shared Ray, without Serve before and after."""
    import ray.serve as ray_serve

    yield
    ray_serve.shutdown()


@pytest.mark.ray
@pytest.mark.usefixtures("serving_ray")
@pytest.mark.parametrize("proxy", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_session_on_ray_serve(small_checkpoint: Path, proxy: bool) -> None:
    import httpx

    port = free_port()
    args = Options(checkpoint=str(small_checkpoint), num_threads=1)
    with (
        serving.serving(args, "127.0.0.1", port, proxy=proxy),
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False) as client,
    ):
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
        assert client.get("/v1/health/ready").status_code == 200
        assert client.get("/").headers["content-security-policy"].startswith("default-src 'self'")
        large = encoded(picture(1200, 1400))
        assert len(large) > 4 << 20, "more than a message of gRPC may bring"
        opened = client.post("/v1/sessions", content=large, headers={"Content-Type": "image/png"})
        assert opened.status_code == 201, opened.text
        assert client.delete(address).status_code == 204


@pytest.mark.check(21)
@pytest.mark.ray
@pytest.mark.usefixtures("serving_ray")
def test_damaged_weights_are_refused_by_the_replica(small_checkpoint: Path, tmp_path: Path) -> None:
    for path in small_checkpoint.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes()[:5000])
    with (
        pytest.raises(InputError, match="cannot be read"),
        serving.serving(Options(checkpoint=str(tmp_path), num_threads=1), "127.0.0.1", free_port()),
    ):
        raise AssertionError("it serves")
