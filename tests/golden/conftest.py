"""Each test runs on every version's folder, in an empty folder."""

from pathlib import Path

import pytest

from tests.elsewhere import mlflow_uri, nothing_in_the_checkout

__all__ = ["mlflow_uri", "nothing_in_the_checkout"]

HERE = Path(__file__).parent
VERSIONS = sorted(path for path in HERE.iterdir() if path.name.startswith("v"))


@pytest.fixture(params=VERSIONS, ids=lambda path: path.name)
def golden(request: pytest.FixtureRequest) -> Path:
    return request.param
