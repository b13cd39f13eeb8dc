"""Rules of the architecture: allowed imports, files that may use Ray and MLflow, and no effects at import time."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("models", "pipeline", "jobs", "serve")
MAY_IMPORT = {
    "models": {"models"},
    "pipeline": {"pipeline", "models"},
    "jobs": {"jobs", "pipeline", "models"},
    "serve": {"serve", "models"},
}
RAY_FILES = {
    "jobs/doctor/nodes.py",
    "jobs/ray_env.py",
    "jobs/ray_pending.py",
    "pipeline/ray_refusals.py",
    "pipeline/data/ray_data.py",
    "pipeline/data/ray_parts.py",
    "pipeline/training/ray_train.py",
    "pipeline/evaluation/ray_evaluate.py",
    "pipeline/tuning/ray_trial.py",
    "pipeline/tuning/ray_tune.py",
    "serve/on_ray/app.py",
    "serve/on_ray/calls.py",
    "serve/on_ray/compat.py",
    "serve/on_ray/observing.py",
    "serve/on_ray/refusals.py",
    "serve/on_ray/replicas.py",
    "serve/on_ray/serving.py",
}
MLFLOW_FILES = {"jobs/mask_model.py", "jobs/tracking.py", "serve/loading/model_source.py"}
NUMPY_ONLY = (
    "models.interaction",
    "models.geometry",
    "models.errors",
    "models.rle",
    "pipeline.data.sample",
    "pipeline.data.local",
    "pipeline.data.readers",
    "pipeline.clicks.random_clicks",
    "pipeline.metrics",
)
ROOMS = ("client", "core", "observing", "wire", "engine", "loading", "sessions", "faces", "http", "on_ray", "start")
"""Rooms of serve, from the bottom up: each may import those before it."""
ROOMS_OF_PIPELINE = (
    *("metrics", "boundaries", "text_table", "saved", "nodes", "ray_refusals"),
    *("clicks", "data", "drawing", "evaluation", "training", "tuning", "pages"),
)
"""Rooms of pipeline, from the bottom up; the first ones import no other room."""
ROOT_OF_SERVE = {"__init__.py", "__main__.py", "access.py", "deployments.py", "config.yaml", "web", *ROOMS}
INTERFACES = {
    "serve/access.py",
    "serve/core/networks.py",
    "serve/deployments.py",
    "serve/faces/registry.py",
}
"""Short files of serve: those that users name, lists, and networks, which options and requests concern."""
OPEN_OTHERS = ("models.published.icmformer", "pipeline.data.readers.several")
"""Entries of a registry that look up other entries."""
MAX_LINES = 400
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in FILES
    if path.name != "__main__.py"
)


@cache
def imported(path: Path) -> frozenset[str]:
    """Return the top-level and dotted names that a file imports, at any place in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(node.module or "")
    return frozenset(names)


def test_there_is_something_to_check() -> None:
    assert len(FILES) > 50
    assert {path.relative_to(ROOT).parts[0] for path in FILES} == set(PACKAGES)


def test_imports_flow_one_way() -> None:
    for path in FILES:
        ours = {name.split(".")[0] for name in imported(path)} & set(PACKAGES)
        assert ours <= MAY_IMPORT[path.relative_to(ROOT).parts[0]], path


def test_the_root_of_serve_holds_rooms_and_what_users_name() -> None:
    assert {path.name for path in (ROOT / "serve").iterdir()} - {"__pycache__"} == ROOT_OF_SERVE
    assert len(ROOMS) <= 12


def test_every_file_of_pipeline_stands_in_a_room() -> None:
    found = {path.stem for path in (ROOT / "pipeline").iterdir()} - {"__init__", "__pycache__"}
    assert found == set(ROOMS_OF_PIPELINE)


@pytest.mark.parametrize(
    ("package", "room"),
    [*(("serve", room) for room in ROOMS), *(("pipeline", room) for room in ROOMS_OF_PIPELINE)],
)
def test_rooms_stand_on_those_below(package: str, room: str) -> None:
    order = {"serve": ROOMS, "pipeline": ROOMS_OF_PIPELINE}[package]
    below = order[: order.index(room) + 1]
    for path in [*(ROOT / package / room).rglob("*.py"), *(ROOT / package).glob(f"{room}.py")]:
        rooms = {name.split(".")[1] for name in imported(path) if name.startswith(f"{package}.")}
        assert rooms <= set(below), f"{path.relative_to(ROOT)} imports {sorted(rooms - set(below))}"


def test_no_imports_go_in_a_circle() -> None:
    """Imports inside functions and for types only count too."""
    left = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): imported(path)
        for path in FILES
    }
    left = {name: names & set(left) - {name} for name, names in left.items()}
    for name in OPEN_OTHERS:
        left[name] -= {name.rpartition(".")[0]}
    while free := {name for name, names in left.items() if not names & set(left)}:
        left = {name: names for name, names in left.items() if name not in free}
    assert left == {}


def test_rooms_of_serve_are_neither_crowded_nor_empty() -> None:
    folders = {path.parent for path in FILES if path.is_relative_to(ROOT / "serve")}
    for folder in folders:
        assert len(list(folder.glob("*.py"))) <= 16, f"{folder} holds more than 15 files and __init__"
    lines = {
        str(path.relative_to(ROOT)): len(path.read_text().splitlines())
        for path in FILES
        if path.is_relative_to(ROOT / "serve") and path.name != "__init__.py"
    }
    assert {name for name, num in lines.items() if num < 40} == INTERFACES


@pytest.mark.parametrize(("library", "allowed"), [("ray", RAY_FILES), ("mlflow", MLFLOW_FILES)])
def test_frameworks_stay_at_the_rim(library: str, allowed: set[str]) -> None:
    found = {
        str(path.relative_to(ROOT)) for path in FILES if library in {name.split(".")[0] for name in imported(path)}
    }
    assert found == allowed


def test_files_stay_small() -> None:
    lines = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in FILES}
    assert {name: num for name, num in lines.items() if num > MAX_LINES} == {}


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_data_workers_never_load_torch() -> None:
    code = f"import sys\nfor m in {NUMPY_ONLY!r}: __import__(m)\n"
    loaded = run_python(code + "print([m for m in ('torch', 'ray', 'mlflow', 'timm') if m in sys.modules])")
    assert loaded.strip() == "[]"


@pytest.mark.networks
def test_a_setting_of_a_sweep_waits_without_torch() -> None:
    assert run_python("import sys, pipeline.tuning.ray_trial; print('torch' in sys.modules)").strip() == "False"


@pytest.mark.parametrize("module", ["serve.client", "serve.faces.remote_clicks"])
def test_clients_need_only_httpx_websockets_and_numpy(module: str) -> None:
    heavy = ("torch", "ray", "mlflow", "fastapi", "pydantic", "starlette", "cv2", "PIL", "tyro", "scipy")
    assert run_python(f"import sys, {module}; print([m for m in {heavy!r} if m in sys.modules])").strip() == "[]"


@pytest.mark.networks
def test_importing_everything_starts_nothing(tmp_path: Path) -> None:
    code = (
        f"import os, sys, threading; sys.path.insert(0, {str(ROOT)!r}); os.chdir({str(tmp_path)!r})\n"
        f"for m in {MODULES!r}: __import__(m)\n"
        "import ray; print(ray.is_initialized(), os.listdir('.'), 'matplotlib.pyplot' in sys.modules)"
    )
    assert run_python(code).splitlines()[-1] == "False [] False"


def test_top_level_names_are_ours() -> None:
    """An installed package could shadow generic names, and the failure would be hard to explain."""
    code = f"import {', '.join(PACKAGES)}\nprint([m.__path__[0] for m in ({', '.join(PACKAGES)})])"
    assert run_python(code).strip() == str([str(ROOT / package) for package in PACKAGES])
