"""Where the model comes from: a checkpoint folder, or a name in the MLflow registry such as models:/clicks@champion."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from models.checkpoint import DESCRIPTION
from models.errors import InputError

SCHEME = "models:/"
DATABASE = "sqlite:///"
VARIABLE = "MLFLOW_TRACKING_URI"


def resolve(source: str, tracking_uri: str | None = None, into: Path | None = None) -> Path:
    """Find the checkpoint folder of `source`, downloading it from MLflow where it is a models:/ URI.

    The registry is `registry_uri(tracking_uri)`; `into`: the folder for a copy of a registered model (None: MLflow
    chooses, maybe the registry's own). Raises InputError if there is no such folder, registry or model.
    """
    return _registered(source, tracking_uri, into) if source.startswith(SCHEME) else _checked(Path(source), source)


def is_alias(source: str) -> bool:
    """Whether where `source` leads may change: models:/name@alias."""
    return source.startswith(SCHEME) and "@" in source


def pin(source: str, tracking_uri: str | None = None) -> str:
    """Say where an alias leads now: models:/name/VERSION. All else leads where it did; raises InputError."""
    if not is_alias(source):
        return source
    uri = _present_registry(source, tracking_uri)
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    name, _, rest = source.removeprefix(SCHEME).rpartition("@")
    alias, slash, inside = rest.partition("/")
    try:
        version = MlflowClient(uri, uri).get_model_version_by_alias(name, alias).version
    except (MlflowException, OSError) as error:
        raise _unknown(source, uri, error) from error
    return f"{SCHEME}{name}/{version}{slash}{inside}"


@contextmanager
def impatient() -> Iterator[None]:
    """Let MLflow give up at once where no registry answers; it would try for minutes."""
    wanted = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def registry_uri(tracking_uri: str | None) -> str:
    """Choose the registry: `tracking_uri`, else the environment's MLFLOW_TRACKING_URI.

    Raises InputError where neither is given, or where it depends on the current folder: a replica runs in a temporary
    one of Ray's, in which MLflow would quietly create an empty database.
    """
    uri = tracking_uri or os.environ.get(VARIABLE, "").strip()
    if not uri:
        raise InputError(
            f"{SCHEME} needs to know its registry: give tracking_uri (http://HOST:PORT or "
            f"{DATABASE}/absolute/path/mlflow.db), or set {VARIABLE}"
        )
    place = _place(uri)
    if place is not None and not place.is_absolute():
        raise InputError(
            f"the tracking URI {uri} depends on the current folder: expected an absolute path, such as "
            f"{DATABASE}{place.absolute()}"
        )
    return uri


def local_registry_uri(tracking_uri: str | None) -> str:
    """Choose the registry as a person in this folder means it, absolute; by default ./mlflow.db."""
    uri = tracking_uri or os.environ.get(VARIABLE, "").strip() or f"{DATABASE}mlflow.db"
    place = _place(uri)
    if place is None or place.is_absolute():
        return uri
    return f"{DATABASE}{place.absolute()}" if uri.startswith(DATABASE) else str(place.absolute())


def _place(uri: str) -> Path | None:
    """Path of a registry that is a file or folder; None for one behind an address."""
    if uri.startswith(DATABASE):
        return Path(uri.removeprefix(DATABASE))
    return None if ":" in uri else Path(uri)


def _present_registry(source: str, tracking_uri: str | None) -> str:
    uri = registry_uri(tracking_uri)
    place = _place(uri)
    if place is not None and not place.exists():
        raise InputError(f"no MLflow registry at {uri}, in which to find {source!r}: give another tracking URI")
    return uri


def _unknown(source: str, uri: str, error: Exception) -> InputError:
    return InputError(
        f"no model {source!r} in the MLflow registry at {uri}: {error}; expected models:/name@alias or models:/name/1"
    )


def _registered(source: str, tracking_uri: str | None, into: Path | None) -> Path:
    uri = _present_registry(source, tracking_uri)
    from mlflow import artifacts
    from mlflow.exceptions import MlflowException

    target = None if into is None else str(into)
    try:
        folder = Path(
            artifacts.download_artifacts(artifact_uri=source, dst_path=target, tracking_uri=uri, registry_uri=uri)
        )
    except (MlflowException, OSError) as error:
        raise _unknown(source, uri, error) from error
    # A registered model may hold the checkpoint as a folder beside MLflow's own files.
    inside = sorted(path.parent for path in folder.rglob(DESCRIPTION))
    return _checked(inside[0] if inside else folder, source)


def _checked(folder: Path, source: str) -> Path:
    if not (folder / DESCRIPTION).is_file():
        raise InputError(
            f"no checkpoint at {source}: expected a folder with {DESCRIPTION}, as jobs.train writes it, "
            f"or {SCHEME}name@alias"
        )
    return folder
