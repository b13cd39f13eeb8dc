"""A missing program skips tests on a laptop and fails them in CI."""

import pytest

from tests.programs import PROGRAMS, require


@pytest.fixture(params=sorted(PROGRAMS))
def package(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("PATH", "/nowhere")
    return request.param


def test_a_missing_program_skips(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match=f"apt-get install {package}"):
        require(package)


def test_a_missing_program_fails_in_ci(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match=f"apt-get install {package}"):
        require(package)
