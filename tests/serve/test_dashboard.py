"""The dashboard shows all metrics of the server, with labels that exist."""

import json
import re
from pathlib import Path

import pytest

from serve.observing.metrics import METRICS, Metric
from serve.observing.prometheus import PrometheusSink

ROOT = Path(__file__).parents[2]
BOARD = json.loads((ROOT / "docs/grafana.json").read_text())
EXPRESSIONS = [target["expr"] for panel in BOARD["panels"] for target in panel["targets"]]
SUFFIXES = {"histogram": ("_bucket", "_count", "_sum"), "counter": ("_total",), "gauge": ("",)}
EXPORTED = {metric.name + suffix: metric for metric in METRICS for suffix in SUFFIXES[metric.kind]}
NAME = re.compile(r"\$\{prefix\}(\w+)")


def test_it_shows_all_metrics_of_the_code_and_no_others() -> None:
    named = {name for expression in EXPRESSIONS for name in NAME.findall(expression)}
    assert named <= set(EXPORTED), named - set(EXPORTED)
    assert {EXPORTED[name] for name in named} == set(METRICS)
    (prefix,) = [each for each in BOARD["templating"]["list"] if each["name"] == "prefix"]
    assert prefix["query"] == prefix["current"]["value"] == "ray_", "what Ray puts before every name"
    (model,) = [each for each in BOARD["templating"]["list"] if each["name"] == "model"]
    assert NAME.findall(model["query"]["query"])[0] in EXPORTED


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_its_expressions_use_existing_labels(expression: str) -> None:
    assert all(expression.count(a) == expression.count(b) for a, b in ("()", "[]", "{}"))
    labels = {label for name in NAME.findall(expression) for label in EXPORTED[name].labels}
    assert "_sum" not in expression, "Ray makes sums of the middles of buckets"
    matched = set(re.findall(r"(\w+)(?:=~|!=|=)\"", expression))
    grouped = {word for group in re.findall(r"by \(([^)]*)\)", expression) for word in group.split(", ")}
    assert matched | (grouped - {"le"}) <= labels
    assert ("le" in grouped) == ("_bucket" in expression)
    # Counters and histograms only grow: what tells anything is their rate.
    if not all(EXPORTED[name].kind == "gauge" for name in NAME.findall(expression)):
        assert expression.count("rate(") == len(NAME.findall(expression))


def test_it_can_be_loaded() -> None:
    assert {"title", "uid", "schemaVersion", "panels", "templating", "time"} <= set(BOARD)
    assert BOARD.get("id") is None, "an id of one Grafana is none of another's"
    ids = [panel["id"] for panel in BOARD["panels"]]
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in BOARD["panels"]]
    assert len(set(ids)) == len(ids) == len(set(places))
    for panel in BOARD["panels"]:
        references = [target["refId"] for target in panel["targets"]]
        assert len(set(references)) == len(references) > 0
        assert {target["datasource"]["uid"] for target in panel["targets"]} == {"${datasource}"}


def source() -> str:
    return (
        "".join(
            path.read_text() for path in (ROOT / "serve").rglob("*.py") if path != ROOT / "serve/observing/metrics.py"
        )
        + (ROOT / "serve/observing/metrics.py").read_text().partition("\nclass Sink(")[2]
    )


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_every_listed_metric_is_measured(metric: Metric) -> None:
    from serve.observing import metrics

    (constant,) = [name for name, value in vars(metrics).items() if value is metric]
    assert re.search(rf"\b{constant}\b", source()), f"{constant} is measured nowhere"
    assert list(metric.bounds) == sorted(set(metric.bounds))
    assert bool(metric.bounds) == (metric.kind == "histogram")


def test_every_metric_is_documented() -> None:
    rows = [
        line
        for line in (ROOT / "docs/METRICS.md").read_text().splitlines()
        if re.match(r"\| `(maskwright|serve)_", line)
    ]
    documented = {}
    for row in rows:
        names, labels = (cell.strip() for cell in row.split("|")[1:3])
        for name in re.findall(r"`(\w+)`", names):
            documented[name] = tuple(filter(None, labels.split(", ")))
    suffix = {"counter": "_total"}
    assert documented == {metric.name + suffix.get(metric.kind, ""): metric.labels for metric in METRICS}


def test_names_without_ray_equal_those_of_the_list() -> None:
    sink = PrometheusSink()
    for metric in METRICS:
        sink.put(metric, 1, tuple("x" for _ in metric.labels))
    found = set(re.findall(r"^((?:maskwright|serve)_\w+)", sink.text().decode(), re.M))
    assert {name for name in found if not name.endswith("_created")} == set(EXPORTED)
