"""Complete the OpenAPI document with the bodies and errors that FastAPI cannot see, because the app handles them."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from serve.core.problems import CODES
from serve.http.access import PROBES
from serve.http.openapi_examples import add_examples
from serve.wire.protocol import (
    AddRequest,
    ChangeRequest,
    ClickBody,
    ClickRequest,
    FinishRequest,
    NumberRequest,
    PredictRequest,
    ProblemBody,
    SessionRequest,
    SettingsRequest,
)

REFERENCE = "#/components/schemas/{model}"
EVERYWHERE = ("bad_host", "bad_origin", "token_missing", "token_wrong", "forbidden", "too_many", "internal")
BODIES: tuple[type[BaseModel], ...] = (
    SessionRequest,
    ClickBody,
    ClickRequest,
    ChangeRequest,
    SettingsRequest,
    FinishRequest,
    AddRequest,
    NumberRequest,
    PredictRequest,
    ProblemBody,
)


def json_request(model: type[BaseModel], required: bool = True) -> dict[str, Any]:
    """Describe a JSON body of `model`, for a route's `openapi_extra`."""
    schema = {"$ref": REFERENCE.format(model=model.__name__)}
    return {"requestBody": {"required": required, "content": {"application/json": {"schema": schema}}}}


def image_request() -> dict[str, Any]:
    """Describe the three ways to send an image: JSON, a form, or the file itself."""
    described = json_request(SessionRequest)
    binary = {"type": "string", "format": "binary"}
    form = {"type": "object", "required": ["image"], "properties": {"image": binary, "mask": binary}}
    described["requestBody"]["content"] |= {
        "multipart/form-data": {"schema": form},
        "image/*": {"schema": binary},
    }
    described["parameters"] = [
        {"name": name, "in": "query", "schema": {"type": kind}, "description": f"{what}; in a JSON body, use the field"}
        for name, kind, what in (
            ("model", "string", "Name of the model"),
            ("refinement", "string", "Name of the refinement"),
            ("mask_threshold", "number", "Probability above which a pixel is inside"),
        )
    ]
    return described


def problems(*codes: str) -> dict[int | str, dict[str, Any]]:
    """Describe the errors of a route, including those of EVERYWHERE, for its `responses`: one entry per status."""
    described: dict[int | str, dict[str, Any]] = {}
    for code in (*codes, *EVERYWHERE):
        status, title = CODES[code]
        entry = described.setdefault(
            status,
            {
                "description": "",
                "content": {"application/problem+json": {"schema": {"$ref": REFERENCE.format(model="ProblemBody")}}},
            },
        )
        entry["description"] = "; ".join(filter(None, [entry["description"], f"`{code}`: {title}"]))
    return described


def document(app: FastAPI, asks_for_token: bool = False) -> dict[str, Any]:
    """Return the document, built on the first call; installed as `app.openapi`."""
    if app.openapi_schema is None:
        schema = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        _, definitions = models_json_schema([(model, "validation") for model in BODIES], ref_template=REFERENCE)
        components = schema.setdefault("components", {}).setdefault("schemas", {})
        for name, definition in definitions["$defs"].items():
            components.setdefault(name, definition)
        _drop_validation_errors(schema)
        _say_summaries(schema)
        add_examples(schema)
        if asks_for_token:
            schema["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
            schema["security"] = [{"token": []}]
            for path in PROBES:
                schema["paths"][path]["get"]["security"] = []
        app.openapi_schema = schema
    return app.openapi_schema


def _say_summaries(schema: dict[str, Any]) -> None:
    # FastAPI takes summaries from function names; the first paragraph of the docstring says more.
    for operations in schema["paths"].values():
        for operation in operations.values():
            first, _, rest = operation["description"].partition("\n\n")
            operation["summary"] = first.replace("\n", " ").rstrip(".")
            if rest:
                operation["description"] = rest
            else:
                del operation["description"]


def _drop_validation_errors(schema: dict[str, Any]) -> None:
    # FastAPI adds its validation error to every route with a path parameter; these are texts and cannot fail.
    for operations in schema["paths"].values():
        for operation in operations.values():
            if "HTTPValidationError" in str(operation["responses"].get("422")):
                del operation["responses"]["422"]
    for name in ("HTTPValidationError", "ValidationError"):
        schema["components"]["schemas"].pop(name, None)
