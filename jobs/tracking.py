"""All uses of MLflow in jobs: runs, metrics, data sets, artifacts and the model registry.

The tracking URI is MLFLOW_TRACKING_URI, else sqlite:///mlflow.db in the folder where the job was started. Functions
take the URI and a run's id, and no global state is set, so that several jobs can run in one process.
"""

import contextlib
import functools
import hashlib
import json
import logging
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from models import box
from models.errors import InputError
from models.storage import is_address, without_key
from models.working import place_of, shown
from pipeline.data.sample import Reader, printable

EXPERIMENT = "maskwright"
"""Experiment of runs if neither a flag nor MLFLOW_EXPERIMENT_NAME names one."""
ALIAS = "champion"  # "latest" is reserved by MLflow


def default_uri(out: Path) -> str:
    """Return the tracking URI, with an absolute path because workers run in other folders.

    It is MLFLOW_TRACKING_URI, else a database in the current folder, or beside `out` for a submitted job, whose current
    folder is a temporary copy. On a cluster, using a database prints a warning. Raises InputError for a submitted job
    that writes to an address and has no MLFLOW_TRACKING_URI.
    """
    given = os.environ.get("MLFLOW_TRACKING_URI", "").strip()
    if given and not given.startswith("sqlite:///"):
        return given
    submitted = "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ
    if submitted and not given and is_address(place_of(out)):
        raise InputError(
            f"--out {shown(out)}: a submitted job that writes to an address needs a tracking server: set "
            "MLFLOW_TRACKING_URI to one that all nodes reach (http://HOST:5000 of `mlflow server`; docs/MLFLOW.md)"
        )
    path = Path(given.removeprefix("sqlite:///")) if given else (out.parent if submitted else Path()) / "mlflow.db"
    path.absolute().parent.mkdir(parents=True, exist_ok=True)
    uri = f"sqlite:///{path.absolute()}"
    if not given and (submitted or os.environ.get("RAY_ADDRESS", "local") != "local"):
        print(
            f"warning: MLFLOW_TRACKING_URI is not set, so MLflow writes to the file {uri}, where metrics of workers "
            "on other nodes can be lost. Set it to a server that all nodes reach (http://HOST:5000 of `mlflow server`; "
            "docs/MLFLOW.md), or to this database if the cluster is one machine",
            flush=True,
        )
    return uri


def answering_uri(out: Path) -> str:
    """Return the tracking URI of a job that starts; raises InputError, before any work, if MLflow cannot be reached."""
    from mlflow.exceptions import MlflowException

    uri = default_uri(out)
    try:
        if urlsplit(uri).scheme in ("http", "https"):
            httpx.get(uri, timeout=10)  # MLflow itself would retry for minutes
        client(uri).search_experiments(max_results=1)
    except (httpx.HTTPError, MlflowException) as error:
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise InputError(
            f"MLflow cannot be used at {without_key(uri)} ({reason[:300]}): start it, or set MLFLOW_TRACKING_URI to a "
            "running server or a database (docs/MLFLOW.md)"
        ) from error
    return uri


def client(uri: str) -> Any:
    """Return an MLflow client for a tracking URI."""
    import mlflow

    logging.getLogger("alembic").setLevel(logging.WARNING)  # logs each step of creating the database
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
    return mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)


def start_run(
    uri: str, name: str, params: Mapping[str, Any], *, parent: str | None = None, experiment: str | None = None
) -> str:
    """Start a run, log its parameters (nested ones with dotted names) and return its id.

    `experiment`: None means that of `parent`, else MLFLOW_EXPERIMENT_NAME, else EXPERIMENT.
    """
    from mlflow.entities import Param

    mlflow = client(uri)
    experiment_id = mlflow.get_run(parent).info.experiment_id if parent else _experiment_id(mlflow, uri, experiment)
    tags = {"mlflow.runName": name} | ({"mlflow.parentRunId": parent} if parent else {})
    run_id = mlflow.create_run(experiment_id, tags=tags).info.run_id
    entries = [Param(key, printable(str(value))[:500]) for key, value in flatten(params).items()]
    mlflow.log_batch(run_id, params=entries)
    return run_id


def _experiment_id(mlflow: Any, uri: str, name: str | None) -> str:
    name = name or os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
    known = mlflow.get_experiment_by_name(name)
    if known is not None:
        return known.experiment_id
    location = None
    if uri.startswith("sqlite:///"):
        location = (Path(uri.removeprefix("sqlite:///")).parent / "mlartifacts").as_uri()
    return mlflow.create_experiment(name, artifact_location=location)


def log_dataset(uri: str, run_id: str, name: str, reader: Reader, context: str) -> None:
    """Log a data set as an input of a run: its location, the number of images, and a digest of its location and ids.

    `context`: what it is used for, such as "training".
    """
    from mlflow.entities import Dataset, DatasetInput, InputTag

    inner = reader
    while part_of := getattr(inner, "reader", None):
        inner = part_of
    root = printable(without_key(str(getattr(inner, "root", ""))))
    digest, num_images = hashlib.sha256(root.encode()), 0
    for item in reader.items():  # a loop, because the list can be too large for memory
        digest.update(f"\0{item.id}".encode())
        num_images += 1
    source = {"uri": root} if root else {"tags": {"reader": type(inner).__name__}}
    dataset = Dataset(
        name=printable(name),
        digest=digest.hexdigest()[:16],
        source_type=root.split("://")[0] if is_address(root) else "local" if root else "code",
        source=json.dumps(source),
        profile=json.dumps({"images": num_images}),
    )
    client(uri).log_inputs(run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", context)])])


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested dicts into one with dotted names."""
    out: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            out |= flatten(value, f"{prefix}{key}.")
        else:
            out[f"{prefix}{key}"] = value
    return out


def log_metrics(uri: str, run_id: str, step: int, metrics: Mapping[str, float], prefix: str = "") -> None:
    """Log numbers at a step."""
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    entries = [Metric(metric_name(prefix + name), float(value), now, step) for name, value in metrics.items()]
    client(uri).log_batch(run_id, metrics=entries)


def metric_name(name: str) -> str:
    """Return a name that MLflow accepts, of letters, digits, spaces and _-.:/ only."""
    return re.sub(r"[^\w\-. :/]", "-", name.replace("&", "_at_").replace("@", "_"))


@dataclass
class TrainingLogger:
    """Logs the steps of a training run on rank 0; picklable.

    Steps that the run already has are skipped: a run that resumes from a checkpoint repeats the steps after it.
    """

    uri: str
    run_id: str
    _last: int | None = field(default=None, init=False)

    def __call__(self, step: int, metrics: dict[str, float]) -> None:
        """Log numbers at a step; if MLflow cannot be reached, warn."""
        with _forgiving(f"step {step}", self.uri):
            if (last := self._last) is None:
                known = client(self.uri).get_metric_history(self.run_id, metric_name(f"train/{next(iter(metrics))}"))
                self._last = last = max((entry.step for entry in known), default=-1)
            if step > last:
                log_metrics(self.uri, self.run_id, step, metrics, prefix="train/")


@contextlib.contextmanager
def _forgiving(what: str, uri: str) -> Iterator[None]:
    """Turn errors of MLflow into a warning: a long training must not fail for them; the history has every number."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError) as error:
        logging.getLogger(__name__).warning("could not log %s to MLflow at %s: %s", what, uri, error)


def system_metrics(uri: str, run_id: str, wanted: bool) -> Callable[[str], AbstractContextManager[None]] | None:
    """Return a context manager that logs metrics of a worker's machine to a run, under system/; picklable.

    Its argument is a name for the machine, "" if there is only one. Returns None unless `wanted` is set or
    MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING is true or 1.
    """
    asked = os.environ.get("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "").lower() in ("true", "1")
    return functools.partial(_watching, uri, run_id) if wanted or asked else None


@contextlib.contextmanager
def _watching(uri: str, run_id: str, machine: str) -> Iterator[None]:
    import mlflow

    with _forgiving("system metrics", uri):
        mlflow.set_tracking_uri(uri)  # global, but this worker's process serves this run only
        mlflow.set_system_metrics_node_id(machine or None)
        mlflow.start_run(run_id, log_system_metrics=True)
    try:
        yield
    finally:
        with _forgiving("the last system metrics", uri):
            mlflow.end_run("RUNNING")  # the driver ends the run


def file_logger(uri: str, run_id: str, artifact_path: str) -> Callable[[Path], None]:
    """Return a function that logs single files on rank 0 of a training run; picklable."""
    return functools.partial(_log_file, uri, run_id, artifact_path)


def _log_file(uri: str, run_id: str, artifact_path: str, path: Path) -> None:
    with _forgiving(str(path), uri):
        log_files(uri, run_id, path, artifact_path)


def log_files(uri: str, run_id: str, folder: Path, artifact_path: str) -> None:
    """Log a file or a folder as artifacts of a run."""
    mlflow = client(uri)
    for path in sorted(folder.rglob("*")) if folder.is_dir() else (folder,):
        if path.is_file() and not path.name.startswith("."):  # such as the lock of a running job
            below = path.parent.relative_to(folder).as_posix() if folder.is_dir() else "."
            mlflow.log_artifact(run_id, str(path), artifact_path if below == "." else f"{artifact_path}/{below}")


def end_run(uri: str, run_id: str, status: str = "FINISHED") -> None:
    """End a run with a status of MLflow: FINISHED or FAILED."""
    client(uri).set_terminated(run_id, status)


def register(uri: str, run_id: str, checkpoint: str | Path, *, name: str = "maskwright", alias: str = ALIAS) -> str:
    """Register a checkpoint as a new version of a model, point the alias at it and return its URI.

    `checkpoint` is a folder or maskwright:NAME. Besides the checkpoint, the version holds 0.8 MB of files that make it
    an MLflow pyfunc (jobs/mask_model.py); the weights are uploaded once.
    """
    from mlflow.exceptions import MlflowException

    from jobs import mask_model

    mlflow = client(uri)
    mlflow.log_artifacts(run_id, str(box.resolve(checkpoint)), "checkpoint")
    with tempfile.TemporaryDirectory() as folder:
        mask_model.write(Path(folder) / "model", run_id)
        mlflow.log_artifacts(run_id, str(Path(folder) / "model"), "checkpoint")
    try:
        mlflow.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    source = f"{mlflow.get_run(run_id).info.artifact_uri}/checkpoint"
    version = mlflow.create_model_version(name, source, run_id)
    mlflow.set_registered_model_alias(name, alias, version.version)
    return f"models:/{name}@{alias}"
