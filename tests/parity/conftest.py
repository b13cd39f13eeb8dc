from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.parity.cases import discover
from tests.parity.kinds import KINDS

DEFAULT = Path(__file__).parent / "fixtures"
worst = pytest.StashKey[dict[str, float]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--parity-dir", default=None, help="replay every fixture below this folder")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[worst] = {}


def parity_dir(config: pytest.Config) -> Path:
    given = config.getoption("--parity-dir", default=None)
    return Path(given) if given else DEFAULT


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "kind_and_case" not in metafunc.fixturenames:
        return
    found = discover(parity_dir(metafunc.config), KINDS)
    # An empty list would be a silent skip: one parameter stands for "nothing found", and fails.
    parameters = [pytest.param(entry, id=f"{entry[0]}-{entry[1].id}") for entry in found]
    metafunc.parametrize("kind_and_case", parameters or [pytest.param(None, id="no-case-found")])


@pytest.fixture(scope="session")
def parity_folder(request: pytest.FixtureRequest) -> Path:
    return parity_dir(request.config)


@pytest.fixture
def deviations(request: pytest.FixtureRequest) -> dict[str, float]:
    """Largest deviation met per kind and quantity in this run; printed at its end."""
    return request.config.stash[worst]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """The public answers were computed on one thread; a second one moves them by up to 1e-5."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    met = config.stash.get(worst, {})
    if met:
        terminalreporter.section("parity: largest deviations")
        for name, value in sorted(met.items()):
            terminalreporter.write_line(f"{name:45s} {value:.3g}")
