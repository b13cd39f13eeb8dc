"""Where the model comes from: a checkpoint folder, or a name in the MLflow registry such as models:/clicks@champion."""

import os
from pathlib import Path

from models.checkpoint import DESCRIPTION
from models.errors import InputError

SCHEME = "models:/"
DATABASE = "sqlite:///"
VARIABLE = "MLFLOW_TRACKING_URI"


def resolve(source: str, tracking_uri: str | None = None) -> Path:
    """Find the checkpoint folder of `source`, downloading it from MLflow where it is a models:/ URI.

    The registry is `registry_uri(tracking_uri)`. Raises InputError if there is no such folder, registry or model.
    """
    return _registered(source, tracking_uri) if source.startswith(SCHEME) else _checked(Path(source), source)


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


def _registered(source: str, tracking_uri: str | None) -> Path:
    uri = registry_uri(tracking_uri)
    place = _place(uri)
    if place is not None and not place.exists():
        raise InputError(f"no MLflow registry at {uri}, in which to find {source!r}: give another tracking URI")
    from mlflow import artifacts
    from mlflow.exceptions import MlflowException

    try:
        folder = Path(artifacts.download_artifacts(artifact_uri=source, tracking_uri=uri, registry_uri=uri))
    except (MlflowException, OSError) as error:
        raise InputError(
            f"no model {source!r} in the MLflow registry at {uri}: {error}; "
            "expected models:/name@alias or models:/name/1"
        ) from error
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
