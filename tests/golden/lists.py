"""Collect from the code the names that scripts, dashboards and clients rely on."""

import contextlib
import csv
import importlib
import io
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

JOBS = {
    "augment": [], "compare": [], "demo": [], "evaluate": [], "export": [], "import_checkpoint": [], "predict": [],
    "prepare": [], "sweep": ["cfr"], "train": ["cpu_xtiny"],
}  # fmt: skip
"""Jobs, with the preset whose --help lists the flags."""
FLAG = re.compile(r"│ (-[-\w.]+(?:, -[-\w.]+)*)(?= )")


def lists() -> dict[str, Any]:
    """Return all lists that need no run."""
    return {"flags": flags(), "codes": codes(), "metrics": metrics(), "words": words()}


def flags() -> dict[str, list[str]]:
    """Return the names of the flags in every --help."""
    from serve.__main__ import main as serve

    helps = {f"jobs.{name}": _help(importlib.import_module(f"jobs.{name}").main, argv) for name, argv in JOBS.items()}
    with _argv("serve", "--help"):
        helps["serve"] = _help(lambda argv: serve(), [])
    return {name: sorted({flag for group in FLAG.findall(text) for flag in group.split(", ")})
            for name, text in helps.items()}  # fmt: skip


def codes() -> dict[str, int]:
    """Problem codes and their HTTP statuses."""
    from serve.core.problems import CODES

    return {code: status for code, (status, _) in CODES.items()}


def metrics() -> dict[str, dict[str, Any]]:
    """Names of what the server measures."""
    from serve.observing.metrics import METRICS

    return {metric.name: {"kind": metric.kind, "labels": list(metric.labels)} for metric in METRICS}


def words() -> dict[str, list[str]]:
    """Names that flags take."""
    from jobs.presets import PRESETS
    from models.baselines import BASELINES
    from models.networks import NETWORKS
    from models.refinement import REFINEMENTS
    from pipeline.clicks import POLICIES
    from pipeline.data.prepared.stages import STAGES
    from pipeline.data.readers import READERS
    from pipeline.evaluation.tasks import TASKS
    from pipeline.training.objectives import OBJECTIVES
    from pipeline.tuning.spaces import SPACES

    registries: dict[str, Mapping[str, Any]] = {
        "presets": PRESETS, "baselines": BASELINES, "networks": NETWORKS, "refinements": REFINEMENTS,
        "policies": POLICIES, "stages": STAGES, "readers": READERS, "tasks": TASKS, "objectives": OBJECTIVES,
        "spaces": SPACES,
    }  # fmt: skip
    return {name: sorted(registry) for name, registry in registries.items()}


def openapi() -> dict[str, Any]:
    """The description of the HTTP interface, without examples and texts for people."""
    from serve.engine.engine import Engine
    from serve.http.app import create_app
    from tests.serve.disks import DiskPredictor

    return _without(json.loads(json.dumps(create_app(Engine(DiskPredictor())).openapi())))


def _without(value: Any, inside: str = "") -> Any:
    if isinstance(value, dict):
        for_people = () if inside == "properties" else ("description", "summary", "example", "examples", "title")
        return {name: _without(entry, name) for name, entry in value.items() if name not in for_people}
    return [_without(entry) for entry in value] if isinstance(value, list) else value


def columns(folder: Path) -> dict[str, dict[str, str]]:
    """Columns, and of Parquet their types, of the files that a job wrote, by the files' names without numbers."""
    found: dict[str, dict[str, str]] = {}
    for path in sorted(folder.rglob("*.parquet")):
        name = re.sub(r"-?\d+", "", path.name)
        found[name] = {field.name: str(field.type) for field in pq.read_schema(path)}
    for path in sorted(folder.rglob("*.csv")):
        with path.open(newline="") as file:
            found[path.name] = dict.fromkeys(next(csv.reader(file)), "text")
    return found


def keys(*files: Path) -> dict[str, dict[str, list[str]]]:
    """Keys of JSON files, dotted, with the types of their values; [] stands for the entries of a list."""
    found: dict[str, dict[str, list[str]]] = {}
    for file in files:
        shape: dict[str, set[str]] = {}
        _shape(json.loads(file.read_text()), "", shape)
        found[file.name] = {at: sorted(types) for at, types in shape.items()}
    return found


def _shape(value: Any, at: str, shape: dict[str, set[str]]) -> None:
    kind = {bool: "bool", int: "number", float: "number", str: "text", type(None): "null", dict: "object"}
    shape.setdefault(at, set()).add(kind.get(type(value), "list"))
    if isinstance(value, dict):
        for name, entry in value.items():
            _shape(entry, f"{at}.{name}" if at else name, shape)
    elif isinstance(value, list):
        for entry in value:
            _shape(entry, f"{at}[]", shape)


def _help(main: Any, argv: Sequence[str]) -> str:
    said = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")  # frames around flags, as on a terminal
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "400"  # no name is broken over two lines
    try:
        with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
            main([*argv, "--help"])
    finally:
        os.environ.pop("COLUMNS") if before is None else os.environ.update(COLUMNS=before)
    said.flush()
    text = said.buffer.getvalue().decode()  # pyright: ignore[reportAttributeAccessIssue]
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


@contextlib.contextmanager
def _argv(*words: str) -> Iterator[None]:
    import sys

    before, sys.argv = sys.argv, list(words)
    try:
        yield
    finally:
        sys.argv = before
