from pathlib import Path

import pytest

from jobs import tracking
from models import checkpoint as checkpoints
from tests.training.tiny import tiny_network


@pytest.mark.networks
def test_a_run_keeps_parameters_and_metrics(mlflow_uri: str, tmp_path: Path) -> None:
    run_id = tracking.start_run(mlflow_uri, "test", {"training": {"steps": 4, "optimizer": {"lr": 0.1}}, "out": ""})
    tracking.log_metrics(mlflow_uri, run_id, 0, {"IoU&1": 0.5}, prefix="standard/")
    log = tracking.training_logger(mlflow_uri, run_id)
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


def test_the_default_database_lies_where_the_user_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    out = tmp_path / "runs" / "a"
    assert tracking.default_uri(out) == f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")  # a submitted job stands in a temporary copy
    assert tracking.default_uri(out) == f"sqlite:///{tmp_path / 'runs' / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///sub/mine.db")
    assert tracking.default_uri(out) == f"sqlite:///{tmp_path / 'sub' / 'mine.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://tracker.example:5000")
    assert tracking.default_uri(out) == "https://tracker.example:5000"


def test_nested_parameters_get_dotted_names() -> None:
    assert tracking.flatten({"a": 1, "b": {"c": (2,), "d": {"e": None}}}) == {"a": 1, "b.c": (2,), "b.d.e": None}


@pytest.mark.networks
def test_what_refinements_are_called_is_accepted_as_a_metric(mlflow_uri: str) -> None:
    run = tracking.start_run(mlflow_uri, "evaluate", {})
    tracking.log_metrics(mlflow_uri, run, 0, {"iou_at_1": 0.5}, prefix="data/zoom_in+cfr_1/")
    assert tracking.client(mlflow_uri).get_run(run).data.metrics == {"data/zoom_in-cfr_1/iou_at_1": 0.5}
