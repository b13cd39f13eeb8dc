"""Find a model's checkpoint: a folder, maskwright:NAME, or models:/NAME@ALIAS in the MLflow registry."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from models import box
from models.checkpoint import DESCRIPTION
from models.errors import InputError

SCHEME = "models:/"
DATABASE = "sqlite:///"
VARIABLE = "MLFLOW_TRACKING_URI"
ADDRESS = re.compile(r"models:/(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<version>\d+))")


def resolve(source: str, tracking_uri: str | None = None) -> Path:
    """Return the checkpoint folder of `source`; a models:/ URI is downloaded from MLflow.

    The registry is `registry_uri(tracking_uri)`. Raises InputError if there is no such folder, registry or model.
    """
    return checked(fetch(source, tracking_uri), source)


def fetch(source: str, tracking_uri: str | None = None, into: Path | None = None) -> Path:
    """Return the folder of `source` like `resolve`, without checking that it is a checkpoint.

    `into`: an existing folder for the copy of a registered model (None: MLflow chooses one, possibly the registry's).
    """
    return _registered(source, tracking_uri, into) if source.startswith(SCHEME) else box.resolve(source)


def checked(folder: Path, source: str) -> Path:
    """Return `folder`, found for `source`; raises InputError if it is not a checkpoint."""
    if not (folder / DESCRIPTION).is_file():
        raise InputError(
            f"no checkpoint at {source}: expected a folder with {DESCRIPTION}, as jobs.train writes it, "
            f"{box.DEFAULT} or {SCHEME}name@alias"
        )
    return folder


def is_alias(source: str) -> bool:
    """Return whether `source` is models:/name@alias, whose version may change."""
    return source.startswith(SCHEME) and "@" in source


def pin(source: str, tracking_uri: str | None = None) -> str:
    """Resolve an alias to models:/name/VERSION; other sources are returned unchanged. Raises InputError."""
    if not is_alias(source):
        return source
    name, version, _, _ = _version(source, tracking_uri)
    return f"{SCHEME}{name}/{version}"


@contextmanager
def impatient() -> Iterator[None]:
    """Let MLflow fail at once if the registry does not answer, instead of retrying for minutes."""
    with _environment(MLFLOW_HTTP_REQUEST_MAX_RETRIES="0", MLFLOW_HTTP_REQUEST_TIMEOUT="10"):
        yield


@contextmanager
def _environment(**wanted: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def registry_uri(tracking_uri: str | None) -> str:
    """Return the registry's URI: `tracking_uri`, else MLFLOW_TRACKING_URI.

    Raises InputError if neither is given or the URI depends on the current folder: a replica runs in a temporary folder
    of Ray, in which MLflow would silently create an empty database.
    """
    uri = tracking_uri or os.environ.get(VARIABLE, "").strip()
    if not uri:
        raise InputError(
            f"{SCHEME} needs an MLflow registry: give tracking_uri (http://HOST:PORT or "
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
    """Return the registry's URI with relative paths resolved in the current folder; by default ./mlflow.db."""
    uri = tracking_uri or os.environ.get(VARIABLE, "").strip() or f"{DATABASE}mlflow.db"
    place = _place(uri)
    if place is None or place.is_absolute():
        return uri
    return f"{DATABASE}{place.absolute()}" if uri.startswith(DATABASE) else str(place.absolute())


def _place(uri: str) -> Path | None:
    """Return the path of a registry that is a file or folder; None for one at a network address."""
    if uri.startswith(DATABASE):
        return Path(uri.removeprefix(DATABASE))
    return None if ":" in uri else Path(uri)


def _present_registry(source: str, tracking_uri: str | None) -> str:
    uri = registry_uri(tracking_uri)
    place = _place(uri)
    if place is not None and not place.exists():
        raise InputError(f"no MLflow registry at {uri}, needed for {source!r}: give another tracking URI")
    return uri


def _unknown(source: str, uri: str, why: object) -> InputError:
    return InputError(
        f"no model {source!r} in the MLflow registry at {uri}: {why}; expected models:/name@alias or models:/name/1"
    )


def _version(source: str, tracking_uri: str | None) -> tuple[str, str, str, str]:
    """Return the name, version and download address of a registered model, and the URI of its registry.

    MLflow's own download of models:/ addresses always uses the registry configured for the process, so it is not used.
    """
    uri = _present_registry(source, tracking_uri)
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    found = ADDRESS.fullmatch(source)
    if found is None:
        raise _unknown(source, uri, "it names no alias or version")
    name, alias, version = found.group("name", "alias", "version")
    client = MlflowClient(uri, uri)
    try:
        version = version or str(client.get_model_version_by_alias(name, alias).version)
        return name, version, client.get_model_version_download_uri(name, version), uri
    except (MlflowException, OSError) as error:
        raise _unknown(source, uri, error) from error


def _registered(source: str, tracking_uri: str | None, into: Path | None) -> Path:
    _, _, address, uri = _version(source, tracking_uri)
    from mlflow import artifacts
    from mlflow.exceptions import MlflowException

    target = None if into is None else str(into)
    try:
        with _environment(MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR="false"):
            folder = Path(
                artifacts.download_artifacts(artifact_uri=address, dst_path=target, tracking_uri=uri, registry_uri=uri)
            )
    except (MlflowException, OSError) as error:
        raise _unknown(source, uri, error) from error
    # A registered model may contain the checkpoint as a folder beside MLflow's files.
    inside = sorted(path.parent for path in folder.rglob(DESCRIPTION))
    return inside[0] if inside else folder
