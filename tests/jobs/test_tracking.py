import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import mlflow
import pytest

from jobs import tracking
from models import checkpoint as checkpoints
from models.errors import InputError
from pipeline.data.hold_out import HoldOut
from pipeline.data.readers import open_reader
from tests.training.tiny import tiny_network


@pytest.mark.networks
def test_a_run_keeps_parameters_and_metrics(mlflow_uri: str, tmp_path: Path) -> None:
    run_id = tracking.start_run(mlflow_uri, "test", {"training": {"steps": 4, "optimizer": {"lr": 0.1}}, "out": ""})
    tracking.log_metrics(mlflow_uri, run_id, 0, {"IoU&1": 0.5}, prefix="standard/")
    log = tracking.TrainingLogger(mlflow_uri, run_id)
    for step in (1, 2):
        log(step, {"loss": 1.0 / step})
    (tmp_path / "note.txt").write_text("hello")
    tracking.log_files(mlflow_uri, run_id, tmp_path / "note.txt", "notes")
    tracking.end_run(mlflow_uri, run_id)

    client = tracking.client(mlflow_uri)
    run = client.get_run(run_id)
    assert run.info.run_name == "test"
    assert run.info.status == "FINISHED"
    assert run.data.params == {"training.steps": "4", "training.optimizer.lr": "0.1", "out": ""}
    assert run.data.metrics == {"standard/IoU_at_1": 0.5, "train/loss": 0.5}
    history = client.get_metric_history(run_id, "train/loss")
    assert [(entry.step, entry.value) for entry in history] == [(1, 1.0), (2, 0.5)]
    assert [file.path for file in client.list_artifacts(run_id, "notes")] == ["notes/note.txt"]
    assert client.get_experiment(run.info.experiment_id).name == tracking.EXPERIMENT


@pytest.mark.networks
def test_a_registered_checkpoint_comes_back_by_alias_byte_for_byte(mlflow_uri: str, tmp_path: Path) -> None:
    from mlflow.artifacts import download_artifacts

    run_id = tracking.start_run(mlflow_uri, "register", {})
    client = tracking.client(mlflow_uri)
    for version, seed in ((1, 0), (2, 1)):
        folder = checkpoints.save(tiny_network(seed), tmp_path / f"checkpoint-{seed}", seed=seed)
        uri = tracking.register(mlflow_uri, run_id, folder, name="tiny")
        assert uri == "models:/tiny@champion"
        assert int(client.get_model_version_by_alias("tiny", "champion").version) == version
    where = {"tracking_uri": mlflow_uri, "registry_uri": mlflow_uri}
    found = download_artifacts(artifact_uri=uri, dst_path=str(tmp_path / "down"), **where)
    for name in (checkpoints.WEIGHTS, checkpoints.DESCRIPTION):
        assert (Path(found) / name).read_bytes() == (folder / name).read_bytes()


def test_the_default_database_is_in_the_starting_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    out = tmp_path / "runs" / "a"
    assert tracking.default_uri(out) == f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")  # a submitted job stands in a temporary copy
    assert tracking.default_uri(out) == f"sqlite:///{tmp_path / 'runs' / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///sub/mine.db")
    assert tracking.default_uri(out) == f"sqlite:///{tmp_path / 'sub' / 'mine.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://tracker.example:5000")
    assert tracking.default_uri(out) == "https://tracker.example:5000"


@pytest.mark.parametrize("variable", ["RAY_ADDRESS", "RAY_JOB_CONFIG_JSON_ENV_VAR"])
def test_on_a_cluster_the_default_database_is_a_warning(
    variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    tracking.default_uri(tmp_path / "run")
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    tracking.default_uri(tmp_path / "run")
    assert capsys.readouterr().out == "", "on one machine no warning is needed"
    monkeypatch.setenv(variable, "auto")
    assert tracking.default_uri(tmp_path / "run") in (said := capsys.readouterr().out)
    assert said.startswith("warning: MLFLOW_TRACKING_URI is not set")
    assert "http://HOST:5000" in said
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/chosen.db")
    tracking.default_uri(tmp_path / "run")
    assert capsys.readouterr().out == "", "an explicit choice needs no warning"


def test_a_run_is_in_the_experiment_that_is_named(mlflow_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    client = tracking.client(mlflow_uri)

    def experiment_of(run_id: str) -> str:
        return client.get_experiment(client.get_run(run_id).info.experiment_id).name

    named = tracking.start_run(mlflow_uri, "a", {}, experiment="by flag")
    assert experiment_of(named) == "by flag"
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "by variable")
    assert experiment_of(tracking.start_run(mlflow_uri, "b", {})) == "by variable"
    assert experiment_of(tracking.start_run(mlflow_uri, "c", {}, experiment="by flag")) == "by flag"
    assert experiment_of(tracking.start_run(mlflow_uri, "d", {}, parent=named)) == "by flag"


def test_data_sets_are_inputs_of_a_run(mlflow_uri: str, tmp_path: Path) -> None:
    run_id = tracking.start_run(mlflow_uri, "data", {})
    for split in ("train", "val"):
        scenes = open_reader("scenes", None, split, {"num_images": "20"})
        tracking.log_dataset(mlflow_uri, run_id, f"scenes/{split}", scenes, "training")
    held = HoldOut(reader=scenes, fraction=0.5, side="held_out")
    tracking.log_dataset(mlflow_uri, run_id, "held", held, "validation")
    tracking.log_dataset(mlflow_uri, run_id, "held", held, "validation")
    found = {entry.dataset.name: entry for entry in tracking.client(mlflow_uri).get_run(run_id).inputs.dataset_inputs}
    assert found.keys() == {"scenes/train", "scenes/val", "held"}
    assert {entry.tags[0].value for entry in found.values()} == {"training", "validation"}
    assert len({entry.dataset.digest for entry in found.values()}) == 3
    assert json.loads(found["scenes/val"].dataset.profile) == {"images": 20}
    assert json.loads(found["held"].dataset.profile) == {"images": len(held.items())}
    assert all(mlflow.data.get_source(entry.dataset) is not None for entry in found.values())

    @dataclass(frozen=True)
    class Stored:
        root: str

        items = staticmethod(scenes.items)
        load = staticmethod(scenes.load)

    for root, kind in (("/data/coco", "local"), ("s3://key:secret@masks/coco?region=us-east-1", "s3")):
        run_id = tracking.start_run(mlflow_uri, kind, {})
        tracking.log_dataset(mlflow_uri, run_id, "stored", Stored(root), "evaluation")
        (entry,) = tracking.client(mlflow_uri).get_run(run_id).inputs.dataset_inputs
        assert entry.dataset.source_type == kind
        assert "secret" not in entry.dataset.source
        assert mlflow.data.get_source(entry.dataset).uri.endswith(("/data/coco", "//masks/coco"))


WATCH = """
import sys, time
from jobs import tracking
watch = tracking.system_metrics(sys.argv[1], sys.argv[2], True)
with watch("node_1"):
    time.sleep(2.5)
"""


@pytest.mark.networks
def test_a_worker_logs_system_metrics_and_does_not_end_the_run(
    mlflow_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", raising=False)
    assert tracking.system_metrics(mlflow_uri, "run", False) is None
    run_id = tracking.start_run(mlflow_uri, "watched", {})
    done = subprocess.run(
        [sys.executable, "-c", WATCH, mlflow_uri, run_id],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL": "0.5"},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    run = tracking.client(mlflow_uri).get_run(run_id)
    assert {"system/node_1/cpu_utilization_percentage", "system/node_1/system_memory_usage_megabytes"} <= set(
        run.data.metrics
    )
    assert run.info.status == "RUNNING", "the driver ends it"


def test_training_continues_if_system_metrics_cannot_be_logged(
    mlflow_uri: str, caplog: pytest.LogCaptureFixture
) -> None:
    before = mlflow.get_tracking_uri()
    watch = tracking.system_metrics(mlflow_uri, "0" * 32, True)
    assert watch is not None
    with watch(""):
        trained = True
    mlflow.set_tracking_uri(before)
    assert trained
    assert f"could not log system metrics to MLflow at {mlflow_uri}" in caplog.text


def test_nested_parameters_get_dotted_names() -> None:
    assert tracking.flatten({"a": 1, "b": {"c": (2,), "d": {"e": None}}}) == {"a": 1, "b.c": (2,), "b.d.e": None}


@pytest.mark.networks
def test_names_of_refinements_are_accepted_in_metrics(mlflow_uri: str) -> None:
    run = tracking.start_run(mlflow_uri, "evaluate", {})
    tracking.log_metrics(mlflow_uri, run, 0, {"iou_at_1": 0.5}, prefix="data/zoom_in+cfr_1/")
    assert tracking.client(mlflow_uri).get_run(run).data.metrics == {"data/zoom_in-cfr_1/iou_at_1": 0.5}


@pytest.mark.parametrize("uri", ["http://127.0.0.1:9", "foo://bar"])
def test_an_unreachable_mlflow_is_reported_before_the_work(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(InputError, match=f"^MLflow cannot be used at {uri} .*: start it, or set MLFLOW_TRACKING_URI"):
        tracking.answering_uri(tmp_path)


def test_a_resumed_run_logs_no_step_twice(mlflow_uri: str) -> None:
    run_id = tracking.start_run(mlflow_uri, "run", {})
    for steps in (range(1, 5), range(3, 7)):  # the second from a checkpoint at step 2
        log = tracking.TrainingLogger(mlflow_uri, run_id)
        for step in steps:
            log(step, {"loss": 1.0 / step, "iou": 0.5})
    for name in ("train/loss", "train/iou"):
        history = mlflow.MlflowClient(mlflow_uri).get_metric_history(run_id, name)
        assert [entry.step for entry in history] == [1, 2, 3, 4, 5, 6]
