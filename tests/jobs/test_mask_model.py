"""A registered model in MLflow's tools: a pyfunc that gives masks, with and without this repository."""

import base64
import contextlib
import copy
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import mlflow
import numpy as np
import pytest
from PIL import Image

from jobs import mask_model, tracking
from models import box, rle
from models import checkpoint as checkpoints
from models.predictor import Predictor
from serve.loading.model_source import resolve
from tests.bucket import a_bucket
from tests.ports import free_port
from tests.training.tiny import tiny_network

MODEL = "models:/disks@champion"
CLICKS = [{"x": 64, "y": 48}, {"x": 3, "y": 90.5, "positive": False}]


@pytest.fixture
def at_registry(mlflow_uri: str) -> Iterator[str]:
    """Set the registry for the process, which MLflow's functions use."""
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(mlflow_uri)
    yield mlflow_uri
    mlflow.set_tracking_uri(before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints.save(tiny_network(0), tmp_path_factory.mktemp("model") / "tiny", seed=0)


def a_row() -> dict[str, Any]:
    return {
        "image": mask_model.example()["image"][0],
        "clicks": copy.deepcopy(CLICKS),
    }  # MLflow's checks modify their input


def expected(checkpoint: Path | str) -> np.ndarray:
    session = Predictor(checkpoint).open(mask_model.decode(a_row()["image"]))
    for click in CLICKS:
        session.click(**click)
    return session.mask


@pytest.mark.networks
def test_a_registered_model_is_both_a_pyfunc_and_a_checkpoint(at_registry: str, folder: Path) -> None:
    tracking.register(at_registry, tracking.start_run(at_registry, "register", {}), folder, name="disks")
    model = mlflow.pyfunc.load_model(MODEL)
    answer = model.predict([a_row(), a_row()])
    assert list(answer.columns) == model.metadata.get_output_schema().input_names()
    first, second = answer.to_dict("records")
    assert first == second
    mask = expected(folder)
    np.testing.assert_array_equal(rle.decode(first["mask"]), mask)
    np.testing.assert_array_equal(np.array(Image.open(io.BytesIO(base64.b64decode(first["png"])))), mask)
    assert first["area"] == mask.sum()
    (unsigned,) = model.predict([a_row() | {"clicks": [{"x": 64, "y": 48, "positive": None}]}]).to_dict("records")
    assert unsigned["mask"] == model.predict([a_row() | {"clicks": CLICKS[:1]}])["mask"][0]
    assert first["honoured"] == (not mask[91, 3])
    assert first["model_version"] == Predictor(folder).model_version
    assert model.predict(model.input_example)["honoured"].dtype == bool
    assert model.metadata.get_input_schema().input_names() == ["image", "clicks"]

    entry = resolve(MODEL, at_registry)
    assert {"MLmodel", "requirements.txt", "mask_model.py", "code", *box.FILES} <= {
        each.name for each in entry.iterdir()
    }
    for name in box.FILES:
        assert (entry / name).read_bytes() == (folder / name).read_bytes()
    assert len(list(entry.rglob(checkpoints.WEIGHTS))) == 1, "weights are stored once, and those in the box not at all"
    for wrong, words in (
        ({"image": "AAAA"}, "the image cannot be read"),
        ({"clicks": [{"x": 128, "y": 4}]}, "outside the image"),
        ({"clicks": [{"x": 4}]}, "Failed to enforce schema"),
    ):
        with pytest.raises(Exception, match=words):
            model.predict([a_row() | wrong])


@pytest.mark.networks
def test_a_model_registered_by_an_older_version_still_loads(at_registry: str, folder: Path) -> None:
    client = tracking.client(at_registry)
    run_id = tracking.start_run(at_registry, "before", {})
    client.log_artifacts(run_id, str(folder), "checkpoint")
    client.create_registered_model("bare")
    version = client.create_model_version("bare", f"{client.get_run(run_id).info.artifact_uri}/checkpoint", run_id)
    client.set_registered_model_alias("bare", "champion", version.version)
    tracking.register(at_registry, run_id, folder, name="bare", alias="newer")
    for alias in ("champion", "newer"):
        found = resolve(f"models:/bare@{alias}", at_registry)
        assert Predictor(found).model_version == Predictor(folder).model_version


@contextlib.contextmanager
def running(argv: list[str], where: Path, environment: Mapping[str, str], ready: str) -> Iterator[None]:
    """Run an MLflow program in a folder without this repository, and wait until `ready` answers."""
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "MLFLOW_TRACKING_URI")}
    clean["PATH"] = f"{Path(sys.executable).parent}:{clean['PATH']}"  # `mlflow models serve` looks for uvicorn there
    where.mkdir()
    log = where / "log.txt"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", *argv],
            cwd=where,
            env={**clean, "OMP_NUM_THREADS": "1", **environment},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + 150
        while True:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            try:
                if httpx.get(ready, timeout=2).status_code == 200:
                    break
            except httpx.TransportError:
                pass
            time.sleep(0.5)
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):  # it ended by itself
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextlib.contextmanager
def serving(where: Path, environment: Mapping[str, str]) -> Iterator[str]:
    address = f"http://127.0.0.1:{free_port()}"
    argv = ["models", "serve", "-m", MODEL, "--env-manager", "local", "--port", address.rpartition(":")[2]]
    with running(argv, where, environment, f"{address}/ping"):
        yield f"{address}/invocations"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_mlflow_serves_a_registered_model_without_this_repository(
    at_registry: str, folder: Path, tmp_path: Path
) -> None:
    tracking.register(at_registry, tracking.start_run(at_registry, "register", {}), folder, name="disks")
    with serving(tmp_path / "elsewhere", {"MLFLOW_TRACKING_URI": at_registry}) as address:
        answer = httpx.post(address, json={"dataframe_records": [a_row()]}, timeout=60)
        assert answer.status_code == 200, answer.text
        (found,) = answer.json()["predictions"]
        np.testing.assert_array_equal(rle.decode(found["mask"]), expected(folder))
        refused = httpx.post(address, json={"dataframe_records": [a_row() | {"clicks": [{"x": 500, "y": 4}]}]})
        assert refused.status_code == 400
        assert "outside the image" in refused.text


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_tracking_server_keeps_a_registered_model_in_a_bucket(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tracking server forwards artifacts to S3, so clients need only its address and no key."""
    address = f"http://127.0.0.1:{free_port()}"
    with a_bucket() as bucket:
        place = bucket.partition("endpoint_override=")[2].partition("&")[0]
        keys = {
            "MLFLOW_S3_ENDPOINT_URL": f"http://{place}",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        argv = ["server", "--backend-store-uri", f"sqlite:///{tmp_path}/server.db", "--workers", "1"]
        argv += ["--artifacts-destination", "s3://masks/mlflow", "--port", address.rpartition(":")[2]]
        with running(argv, tmp_path / "server", keys, f"{address}/health"):
            monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
            assert tracking.default_uri(tmp_path) == address
            run_id = tracking.start_run(address, "remote", {"a": {str(k): k for k in range(250)}}, experiment="bucket")
            tracking.log_metrics(address, run_id, 1, {"loss": 0.5})
            tracking.register(address, run_id, folder, name="disks")
            tracking.end_run(address, run_id)
            run = tracking.client(address).get_run(run_id)
            assert len(run.data.params) == 250
            assert run.info.artifact_uri.startswith("mlflow-artifacts:/")
            assert (resolve(MODEL, address) / checkpoints.WEIGHTS).read_bytes() == (
                folder / checkpoints.WEIGHTS
            ).read_bytes()
            with serving(tmp_path / "elsewhere", {"MLFLOW_TRACKING_URI": address}) as invocations:
                answer = httpx.post(invocations, json={"dataframe_records": [a_row()]}, timeout=60)
                (found,) = answer.json()["predictions"]
                np.testing.assert_array_equal(rle.decode(found["mask"]), expected(folder))
