"""The OpenAPI document is complete: each operation has a description, bodies, errors and valid examples."""

import json
import re
from typing import Any

import jsonschema
import pytest

from serve.core.problems import CODES
from serve.http.openapi import EVERYWHERE
from serve.http.openapi_examples import BY_SCHEMA
from tests.serve.conftest import Server

DOCUMENT: dict[str, Any] = json.loads(json.dumps(Server().app.openapi()))
OPERATIONS = [
    pytest.param(method, path, operation, id=f"{method} {path}")
    for path, operations in DOCUMENT["paths"].items()
    for method, operation in operations.items()
]
NOT_UNDER_V1 = {"not_found", "method_not_allowed", "address_refused", "url_fetch_disabled", "url_blocked", "url_failed"}
ONLY_LOGGED = {"client_gone"}


def check_example(content: dict[str, Any]) -> None:
    jsonschema.validate(content["example"], {**content["schema"], "components": DOCUMENT["components"]})


@pytest.mark.parametrize(("method", "path", "operation"), OPERATIONS)
def test_every_operation_is_described(method: str, path: str, operation: dict[str, Any]) -> None:
    assert len(operation["summary"].split()) >= 3, operation["summary"]
    assert {str(CODES[code][0]) for code in EVERYWHERE} <= set(operation["responses"])
    for status, response in operation["responses"].items():
        if status.startswith("2"):
            assert response.get("content") or status == "204"
            for kind, content in response.get("content", {}).items():
                if kind == "application/json":
                    check_example(content)
                else:
                    assert content["schema"] == {"type": "string", "format": "binary"}
        else:
            (content,) = response["content"].values()
            check_example(content)
            listed = re.findall(r"`(\w+)`", response["description"])
            assert listed, "which codes"
            assert {CODES[code][0] for code in listed} == {int(status)}
    if "requestBody" in operation:
        check_example(operation["requestBody"]["content"]["application/json"])


def test_every_code_is_documented_where_it_may_occur() -> None:
    listed = set(re.findall(r"`(\w+)`: ", json.dumps(DOCUMENT["paths"])))
    assert set(CODES) - listed == NOT_UNDER_V1 - {"not_found"} | ONLY_LOGGED


def test_every_example_is_used() -> None:
    assert set(BY_SCHEMA) <= set(DOCUMENT["components"]["schemas"])


@pytest.mark.parametrize(("method", "path", "operation"), OPERATIONS)
def test_examples_of_requests_are_accepted(method: str, path: str, operation: dict[str, Any]) -> None:
    if "requestBody" not in operation:
        return
    server = Server()
    opened = server.client.post("/v1/sessions", json=BY_SCHEMA["SessionRequest"])
    assert opened.status_code == 201, opened.text
    session = opened.json()["session_id"]
    server.click(session, 2, 1)
    if "{number}" in path or path.endswith("recall"):
        server.change(session, "finish")
    body = {**operation["requestBody"]["content"]["application/json"]["example"]}
    if "sequence" in body:
        body["sequence"] = server.client.get(f"/v1/sessions/{session}").json()["sequence"] + 1
    address = path.replace("{session_id}", session).replace("{number}", "1")
    answer = server.client.request(method, address, json=body)
    if path.endswith("recall"):  # of a network that takes no exemplar
        assert answer.json()["code"] == "no_exemplar"
        return
    assert answer.status_code in (200, 201), answer.text
    schema = operation["responses"][str(answer.status_code)]["content"]["application/json"]["schema"]
    jsonschema.validate(answer.json(), {**schema, "components": DOCUMENT["components"]})


def test_answers_of_get_fit_their_schemas() -> None:
    server = Server()
    server.engine.warm_up()
    session = server.open()
    server.click(session, 5, 5)
    server.change(session, "finish")
    for path, operations in DOCUMENT["paths"].items():
        content = operations.get("get", {}).get("responses", {}).get("200", {}).get("content", {})
        if "application/json" in content:
            answer = server.client.get(path.replace("{session_id}", session))
            assert answer.status_code == 200, path
            schema = content["application/json"]["schema"]
            jsonschema.validate(answer.json(), {**schema, "components": DOCUMENT["components"]})
