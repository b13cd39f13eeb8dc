"""Fixtures for tests of commands, which write to a temporary folder and to one MLflow database.

A folder's conftest.py imports them. Making MLflow's tables takes seconds, so a folder's tests share one database.
"""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def mlflow_uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"


@pytest.fixture(autouse=True)
def nothing_in_the_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mlflow_uri: str) -> None:
    """Defaults such as runs/ and the tracking database go to a temporary folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_uri)
