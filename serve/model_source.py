"""Where the model comes from: a checkpoint folder, or a name in the MLflow registry such as models:/clicks@champion."""

import os
from pathlib import Path

from models.checkpoint import DESCRIPTION
from models.errors import InputError

SCHEME = "models:/"


def resolve(source: str, tracking_uri: str | None = None) -> Path:
    """Find the checkpoint folder of `source`, downloading it from MLflow where it is a models:/ URI.

    The registry is that of `tracking_uri`, else of the environment's MLFLOW_TRACKING_URI, else sqlite:///mlflow.db.
    Raises InputError if there is no such folder or model.
    """
    return _registered(source, tracking_uri) if source.startswith(SCHEME) else _checked(Path(source), source)


def _registered(source: str, tracking_uri: str | None) -> Path:
    from mlflow import artifacts
    from mlflow.exceptions import MlflowException

    uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
    try:
        folder = Path(artifacts.download_artifacts(artifact_uri=source, tracking_uri=uri))
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
