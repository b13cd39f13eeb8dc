"""Dependencies are declared once, in pyproject.toml, and every installation uses them with the lock."""

import re
import sys
import tomllib
from collections import Counter
from collections.abc import Iterable
from functools import cache
from importlib.metadata import packages_distributions

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.test_architecture import FILES, PACKAGES, ROOT, imported

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CORE = [Requirement(line) for line in PROJECT["dependencies"]]
EXTRAS = {name: [Requirement(line) for line in lines] for name, lines in PROJECT["optional-dependencies"].items()}
EVERY = [*CORE, *(each for extra in EXTRAS.values() for each in extra)]
EXTRA_OF = {"models": [], "pipeline": EXTRAS["train"], "jobs": EXTRAS["train"], "serve": EXTRAS["serve"]}
INDIRECT = {"alembic", "nvidia-ml-py", "onnxscript", "psutil", "sqlalchemy"}
"""Packages that torch.onnx and MLflow (databases, system metrics) import without requiring them."""
ELSEWHERE = ROOT / "serve/faces/cvat_agent.py"
"""Files that cvat-cli runs in its environment (docs/HTTP.md)."""
INSTALL = re.compile(r'pip install --[a-z-]+ --constraint constraints\.txt.* "\.\[([a-z,]+)\]"')

installed = cache(packages_distributions)


def names(requirements: Iterable[Requirement]) -> set[str]:
    return {canonicalize_name(each.name) for each in requirements}


@cache
def modules(package: str) -> dict[str, set[str]]:
    """Return the third-party modules that a package imports, with the distributions that provide each (may be none)."""
    files = [path for path in FILES if path.is_relative_to(ROOT / package) and path != ELSEWHERE]
    found = {name.split(".")[0] for path in files for name in imported(path)}
    others = found - {*PACKAGES, *sys.stdlib_module_names}
    return {module: {canonicalize_name(name) for name in installed().get(module, [])} for module in others}


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_of_a_package_are_declared_for_it(package: str) -> None:
    declared = names([*CORE, *EXTRA_OF[package]])
    assert len(modules(package)) >= 5
    missing = {module: by for module, by in modules(package).items() if not by & declared}
    assert not missing, f"{package} imports {missing}, which pyproject.toml does not declare for it"


def test_declared_dependencies_are_needed() -> None:
    models, pipeline, jobs, serve = (set().union(*modules(package).values()) for package in PACKAGES)
    training = pipeline | jobs
    assert not names(CORE) - INDIRECT - models - (serve & training), "for one side alone, or for nothing"
    assert not names(EXTRAS["serve"]) - serve
    assert not names(EXTRAS["train"]) - INDIRECT - training


def test_a_dependency_is_stated_once() -> None:
    stated = Counter(name for part in (CORE, *EXTRAS.values()) for name in names(part))
    assert {name for name, times in stated.items() if times > 1} == {"ray"}, "ray alone has extras"
    assert [each.name for each in EVERY if each.name == "ray" and each.specifier] == ["ray"]


def test_constraints_pin_every_requirement_and_name_no_index() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    pins = {canonicalize_name(name): version for name, version in (line.split("==") for line in lines)}
    assert all(each.specifier.contains(pins[canonicalize_name(each.name)]) for each in EVERY)
    assert pins["torch"] == "2.13.0"
    assert pins["torchvision"] == "0.28.0"
    assert not any("://" in line or "+" in line for line in lines)


@pytest.mark.parametrize(
    ("file", "extras"),
    [("Makefile", "serve,train,dev"), ("deploy/docker/Dockerfile", "serve,train,aws"), ("README.md", "serve")],
)
def test_every_installation_takes_extras_that_exist_and_the_lock(file: str, extras: str) -> None:
    assert INSTALL.findall((ROOT / file).read_text()) in ([extras], [extras, extras])
    assert set(extras.split(",")) <= EXTRAS.keys()


def test_ci_installs_by_make() -> None:
    assert "pip install" not in (ROOT / ".ci/run").read_text()
