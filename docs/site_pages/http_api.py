"""The page of the HTTP API, made from the server's OpenAPI document."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

Json = dict[str, Any]

INTRODUCTION = """\
# HTTP API

The routes of the server, from its OpenAPI document. A running server has the same document at `/openapi.json`.
[HTTP](../HTTP.md) explains sessions, clicks, encodings and problems.
"""


def write_http_api(path: Path) -> None:
    """Write the page, unless it says the same already: an unchanged file is not rebuilt."""
    from models.predictor import Predictor
    from serve.engine.engine import Engine
    from serve.http.app import create_app

    text = page(create_app(Engine(Predictor())).openapi())
    if not path.is_file() or path.read_text() != text:
        path.write_text(text)


def page(document: Json) -> str:
    """Return an OpenAPI document as Markdown: a section for each operation, then one for each schema."""
    operations = (
        section(method, path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    )
    schemas = (schema(name, value) for name, value in sorted(document["components"]["schemas"].items()))
    return "\n".join([INTRODUCTION, "## Routes\n", *operations, "## Bodies\n", *schemas])


def section(method: str, path: str, operation: Json) -> str:
    """Return the section of one operation."""
    lines = [f"### {method.upper()} {path}\n", operation["summary"].rstrip(".") + ".\n"]
    if "description" in operation:
        lines.append(operation["description"].strip() + "\n")
    body = operation.get("requestBody", {}).get("content", {})
    if body:
        lines.append(
            "Body: " + ", ".join(f"`{kind}` {of(value['schema'])}".strip() for kind, value in body.items()) + ".\n"
        )
    if operation.get("parameters"):
        rows = [
            (f"`{at['name']}`", at["in"], of(at.get("schema", {})), at.get("description", ""))
            for at in operation["parameters"]
        ]
        lines += table(("Parameter", "In", "Type", "Meaning"), rows)
    rows = [(status, answer.get("description", "")) for status, answer in sorted(operation["responses"].items())]
    lines += table(("Status", "Answer"), rows)
    return "\n".join(lines)


def schema(name: str, value: Json) -> str:
    """Return the section of one schema: its fields with type and meaning."""
    lines = [f"### {name}\n"]
    if "description" in value:
        lines.append(value["description"].strip() + "\n")
    required = value.get("required", [])
    rows = [
        (f"`{field}`", of(at), "required" if field in required else "", at.get("description", ""))
        for field, at in value.get("properties", {}).items()
    ]
    return "\n".join(lines + (table(("Field", "Type", "", "Meaning"), rows) if rows else []))


def of(value: Json) -> str:
    """Return the type of a schema in words."""
    if "$ref" in value:
        name = value["$ref"].rsplit("/", 1)[1]
        return f"[{name}](#{name.lower()})"
    for choice in ("anyOf", "oneOf"):
        if choice in value:
            return " or ".join(of(at) for at in value[choice])
    if "enum" in value:
        return ", ".join(f"`{at}`" for at in value["enum"])
    if "const" in value:
        return f"`{value['const']}`"
    if value.get("type") == "array":
        return f"list of {of(value.get('items', {}))}"
    return value.get("type", "any")


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    """Return the lines of a Markdown table and an empty one."""
    return [*(f"| {' | '.join(cells)} |" for cells in cleaned(head, rows)), ""]


def cleaned(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> Iterator[list[str]]:
    """Yield the cells of each line: no line break, no bar."""
    yield list(head)
    yield ["---"] * len(head)
    for row in rows:
        yield [" ".join(cell.split()).replace("|", "\\|") for cell in row]
