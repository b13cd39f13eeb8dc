"""MLflow, in one small file: runs, metrics, artifacts, and the registry of models.

The tracking URI is MLFLOW_TRACKING_URI, or sqlite:///mlflow.db in the folder the user started in. Workers get the URI
and the run's id; nothing here is global, so that a job may run beside others.
"""

import functools
import logging
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from models import box
from pipeline.data.sample import printable

EXPERIMENT = "maskwright"
ALIAS = "champion"  # "latest" is reserved by MLflow


def default_uri(out: Path) -> str:
    """Tracking URI, absolute: workers run in other folders.

    MLFLOW_TRACKING_URI, else a database in the folder the user stands in; for a job that was submitted to a cluster,
    whose folder is a temporary copy, beside `out`.
    """
    given = os.environ.get("MLFLOW_TRACKING_URI", "").strip()
    if given and not given.startswith("sqlite:///"):
        return given
    submitted = "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ
    path = Path(given.removeprefix("sqlite:///")) if given else (out.parent if submitted else Path()) / "mlflow.db"
    path.absolute().parent.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{path.absolute()}"


def client(uri: str) -> Any:
    """MLflow client for a tracking URI."""
    import mlflow

    logging.getLogger("alembic").setLevel(logging.WARNING)  # it narrates the creation of the database
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
    return mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)


def start_run(uri: str, name: str, params: Mapping[str, Any], *, parent: str | None = None) -> str:
    """Open a run and log its parameters (nested ones by dotted names); returns its id."""
    mlflow = client(uri)
    experiment = mlflow.get_experiment_by_name(EXPERIMENT)
    if experiment is not None:
        experiment_id = experiment.experiment_id
    else:
        location = None
        if uri.startswith("sqlite:///"):
            location = (Path(uri.removeprefix("sqlite:///")).parent / "mlartifacts").as_uri()
        experiment_id = mlflow.create_experiment(EXPERIMENT, artifact_location=location)
    tags = {"mlflow.runName": name} | ({"mlflow.parentRunId": parent} if parent else {})
    run_id = mlflow.create_run(experiment_id, tags=tags).info.run_id
    for key, value in flatten(params).items():
        mlflow.log_param(run_id, key, printable(str(value))[:500])
    return run_id


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted names for nested dicts."""
    out: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            out |= flatten(value, f"{prefix}{key}.")
        else:
            out[f"{prefix}{key}"] = value
    return out


def log_metrics(uri: str, run_id: str, step: int, metrics: Mapping[str, float], prefix: str = "") -> None:
    """Log numbers at a step."""
    import time

    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    entries = [Metric(metric_name(prefix + name), float(value), now, step) for name, value in metrics.items()]
    client(uri).log_batch(run_id, metrics=entries)


def metric_name(name: str) -> str:
    """Name that MLflow accepts: letters, digits and _-.:/ and spaces."""
    return re.sub(r"[^\w\-. :/]", "-", name.replace("&", "_at_").replace("@", "_"))


def training_logger(uri: str, run_id: str) -> Callable[[int, dict[str, float]], None]:
    """Logger for rank 0 of a training run; picklable."""
    return functools.partial(_log_training, uri, run_id)


def _log_training(uri: str, run_id: str, step: int, metrics: dict[str, float]) -> None:
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        log_metrics(uri, run_id, step, metrics, prefix="train/")
    except (MlflowException, SQLAlchemyError, OSError) as error:
        # Training of days must not end because a tracker is away; the history file has every number.
        logging.getLogger(__name__).warning("step %d is not in MLflow at %s: %s", step, uri, error)


def file_logger(uri: str, run_id: str, artifact_path: str) -> Callable[[Path], None]:
    """Logger of single files for rank 0 of a training run; picklable."""
    return functools.partial(_log_file, uri, run_id, artifact_path)


def _log_file(uri: str, run_id: str, artifact_path: str, path: Path) -> None:
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        log_files(uri, run_id, path, artifact_path)
    except (MlflowException, SQLAlchemyError, OSError) as error:
        logging.getLogger(__name__).warning("%s is not in MLflow at %s: %s", path, uri, error)


def log_files(uri: str, run_id: str, folder: Path, artifact_path: str) -> None:
    """Log a file or a folder as artifacts of a run."""
    if folder.is_dir():
        client(uri).log_artifacts(run_id, str(folder), artifact_path)
    else:
        client(uri).log_artifact(run_id, str(folder), artifact_path)


def end_run(uri: str, run_id: str, status: str = "FINISHED") -> None:
    """Close a run."""
    client(uri).set_terminated(run_id, status)


def register(uri: str, run_id: str, checkpoint: str | Path, *, name: str = "maskwright", alias: str = ALIAS) -> str:
    """Register a checkpoint as a new version of a model and point the alias at it; returns its URI.

    `checkpoint` is its folder or maskwright:NAME.
    """
    from mlflow.exceptions import MlflowException

    mlflow = client(uri)
    mlflow.log_artifacts(run_id, str(box.resolve(checkpoint)), "checkpoint")
    try:
        mlflow.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    source = f"{mlflow.get_run(run_id).info.artifact_uri}/checkpoint"
    version = mlflow.create_model_version(name, source, run_id)
    mlflow.set_registered_model_alias(name, alias, version.version)
    return f"models:/{name}@{alias}"
