"""Names that scripts, clients and dashboards rely on: new ones are allowed, none may be removed."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.golden import lists
from tests.golden.growing import broken, gone


def golden_lists(golden: Path) -> dict[str, Any]:
    return json.loads((golden / "lists.json").read_text())


def test_every_flag_is_there(golden: Path) -> None:
    found = lists.flags()
    for program, flags in golden_lists(golden)["flags"].items():
        assert len(flags) >= 5, "what was recorded is whole"
        assert sorted(set(flags) - set(found[program])) == [], program


def test_every_problem_code_has_its_status(golden: Path) -> None:
    assert golden_lists(golden)["codes"].items() <= lists.codes().items()


def test_every_metric_has_its_kind_and_labels(golden: Path) -> None:
    found = lists.metrics()
    for name, metric in golden_lists(golden)["metrics"].items():
        # A query that sums over labels goes on with a new one; one that names a label needs it.
        assert found[name]["kind"] == metric["kind"]
        assert set(metric["labels"]) <= set(found[name]["labels"])


def test_every_name_that_flags_take_is_known(golden: Path) -> None:
    found = lists.words()
    for registry, names in golden_lists(golden)["words"].items():
        assert sorted(set(names) - set(found[registry])) == [], registry


def test_http_interface_stays_compatible(golden: Path) -> None:
    document = json.loads((golden / "openapi.json").read_text())
    assert len(document["paths"]) > 15
    assert broken(document, lists.openapi()) == []


def changed(document: dict[str, Any], change: str) -> dict[str, Any]:
    """The document of a version that has broken something, or only added to it."""
    new = json.loads(json.dumps(document))
    schemas, clicks = new["components"]["schemas"], new["paths"]["/v1/sessions/{session_id}/clicks"]["post"]
    match change:
        case "a path is gone":
            del new["paths"]["/v1/sessions/{session_id}/undo"]
        case "a response is gone":
            del clicks["responses"]["200"]
        case "a field of an answer is gone":
            del schemas["MaskAnswer"]["properties"]["area"]
        case "an answer may lack a field":
            schemas["MaskAnswer"]["required"].remove("area")
        case "another type":
            schemas["MaskAnswer"]["properties"]["area"]["type"] = "string"
        case "a field of a list's entries has another type":
            schemas["ObjectBody"]["properties"]["number"]["type"] = "string"
        case "a request needs a new field":
            schemas["ClickRequest"]["properties"]["tool"] = {"type": "string"}
            schemas["ClickRequest"]["required"].append("tool")
        case "a request's field is gone":
            del schemas["ClickRequest"]["properties"]["sequence"]
        case "a query's parameter is gone":
            new["paths"]["/v1/sessions/{session_id}/mask"]["get"]["parameters"].pop()
        case "a body must be sent":
            new["paths"]["/v1/sessions/{session_id}/undo"]["post"]["requestBody"]["required"] = True
        case "more":
            schemas["ClickRequest"]["properties"]["tool"] = {"type": "string"}
            schemas["MaskAnswer"]["properties"]["iou"] = {"type": "number"}
            schemas["MaskAnswer"]["required"].append("iou")
            clicks["responses"]["418"] = clicks["responses"]["409"]
            new["paths"]["/v1/new"] = {}
    return new


BREAKING = (
    "a path is gone", "a response is gone", "a field of an answer is gone", "an answer may lack a field",
    "another type", "a field of a list's entries has another type", "a request needs a new field",
    "a request's field is gone", "a query's parameter is gone", "a body must be sent",
)  # fmt: skip


@pytest.mark.parametrize("change", BREAKING)
def test_breaking_changes_for_clients_are_found(golden: Path, change: str) -> None:
    document = json.loads((golden / "openapi.json").read_text())
    assert broken(document, changed(document, change)) != []


def test_additions_are_not_breaking(golden: Path) -> None:
    document = json.loads((golden / "openapi.json").read_text())
    assert broken(document, changed(document, "more")) == []


def test_removed_and_changed_keys_and_columns_are_found() -> None:
    golden = {"a": ["number"], "b": ["null", "text"]}
    assert gone(golden, {"a": ["number"], "b": ["text"], "c": ["list"]}) == []
    assert gone(golden, {"a": ["text"]}) == ["a: number has become text", "b is gone"]
    assert gone({"x": "int32"}, {"x": "int64"}) == ["x: int32 has become int64"]
