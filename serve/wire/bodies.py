"""Read request bodies with a limit, and parse them strictly by content type."""

import json
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from email.message import Message as MimeMessage
from typing import Any, TypeVar

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ValidationError

from serve.core.problems import Problem
from serve.wire.images import from_base64
from serve.wire.protocol import MaskRle, SessionRequest

M = TypeVar("M", bound=BaseModel)

MAX_PARTS = 8
CLICK_FIELDS = {"x", "y", "positive", "clicks"}
MAX_VALUES = 10_000
"""Maximum values in a JSON body, counted by its commas, which base64 and run lengths do not contain. Valid bodies have
at most 200 clicks."""
LARGE = 64 * 1024  # JSON longer than this is parsed and validated off the event loop


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionBody:
    """An image file, and optionally a mask (PNG bytes or RLE) and other options."""

    image: bytes
    mask: bytes | MaskRle | None = None
    options: SessionRequest = field(default_factory=lambda: SessionRequest(image=None))
    """Model, refinement, threshold, exemplar."""


async def read_body(request: Request, limit: int) -> bytes:
    """Read the whole body; raises body_too_large as soon as it exceeds `limit` bytes."""
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Problem("unsupported_body", "compressed bodies are not accepted: send the body without Content-Encoding")
    declared = request.headers.get("content-length", "")
    too_large = Problem("body_too_large", f"the body exceeds {limit} bytes")
    if declared.isdigit() and int(declared) > limit:
        raise too_large
    body = bytearray()
    async for chunk in request.stream():
        if len(body) + len(chunk) > limit:
            raise too_large
        body += chunk
    return bytes(body)


def json_body(
    model: type[M], limit: int, optional: bool = False, max_values: int | None = MAX_VALUES
) -> Callable[[Request], Coroutine[Any, Any, M]]:
    """Return a dependency that reads a JSON body into `model`.

    `optional`: an empty body means all defaults. `max_values`: see load_json.
    """

    async def read(request: Request) -> M:
        body = await read_body(request, limit)
        if optional and not body.strip():
            return model()
        _expect_type(request, "application/json")
        return await parse_json(body, model, max_values)

    return read


async def parse_json(body: bytes, model: type[M], max_values: int | None = MAX_VALUES) -> M:
    """Parse JSON into `model`; raises bad_json, bad_click, bad_request."""
    if len(body) > LARGE:
        return await run_in_threadpool(_parse, body, model, max_values)
    return _parse(body, model, max_values)


def validation_problem(errors: Any) -> Problem:
    """Turn the first error of pydantic into a Problem with a JSON pointer."""
    first = errors[0]
    place = [str(part).replace("~", "~0").replace("/", "~1") for part in first["loc"]]
    code = "bad_click" if place and place[0] in CLICK_FIELDS else "bad_request"
    where = "/" + "/".join(place) if place else ""
    return Problem(code, f"{where or 'the body'}: {first['msg']}"[:300], where)


def validated(plain: object, model: type[M]) -> M:
    """Validate parsed JSON as `model`; raises bad_click, bad_request."""
    try:
        return model.model_validate(plain)
    except ValidationError as error:
        raise validation_problem(error.errors(include_url=False, include_input=False)) from None


def load_json(body: bytes, max_values: int | None = MAX_VALUES) -> Any:
    """Parse JSON strictly; raises bad_json, before parsing if there are more than `max_values` values."""
    if max_values is not None and body.count(b",") > max_values:
        raise Problem("bad_json", f"the JSON contains more than {max_values} values")
    try:
        return json.loads(body, object_pairs_hook=_unique)
    except RecursionError:
        raise Problem("bad_json", "the JSON is nested too deeply") from None
    except ValueError as error:  # also bytes that are not UTF-8, and integers of thousands of digits
        raise Problem("bad_json", f"the body is not JSON: {error}"[:200]) from None


async def read_session_body(request: Request, limit: int) -> SessionBody:
    """Read an image, and optionally a mask, from a form, JSON or a bare image file; raises Problem."""
    given = dict(request.query_params)
    body = await read_body(request, limit)
    kind = _media_type(request)
    if given and kind == "application/json":
        raise Problem(
            "bad_request", "with a JSON body, give model, refinement and mask_threshold as its fields, not in the query"
        )
    options = from_query(given)
    if kind == "multipart/form-data":
        parts = parse_form(body, request.headers["content-type"])
        unknown = sorted(set(parts) - {"image", "mask"})
        if unknown:
            raise Problem("bad_request", f"unknown part {unknown[0][:60]!r}: expected image and mask")
        return SessionBody(image=_present(parts.get("image")), mask=parts.get("mask") or None, options=options)
    if kind == "application/json":
        return await decode_session(await parse_json(body, SessionRequest))
    if kind.startswith("image/") or kind == "application/octet-stream" or not body:
        return SessionBody(image=_present(body), options=options)
    raise Problem("unsupported_body", "expected multipart/form-data, application/json or image/*")


def from_query(given: dict[str, str]) -> SessionRequest:
    """Read the settings of a session from the query parameters; raises bad_request."""
    unknown = sorted(set(given) - {"model", "refinement", "mask_threshold"})
    if unknown:
        raise Problem(
            "bad_request", f"unknown parameter {unknown[0][:60]!r}: expected model, refinement, mask_threshold"
        )
    plain: dict[str, Any] = dict(given)
    if "mask_threshold" in plain:
        try:
            plain["mask_threshold"] = float(plain["mask_threshold"])
        except ValueError:
            raise Problem("bad_request", "mask_threshold is not a number: expected one between 0 and 1") from None
    return validated(plain, SessionRequest)


async def decode_session(body: SessionRequest) -> SessionBody:
    """Decode the base64 image of a JSON request; raises image_missing, bad_encoding."""
    data = await run_in_threadpool(from_base64, body.image or "")
    return SessionBody(image=_present(data), mask=body.mask, options=body)


def parse_form(body: bytes, content_type: str) -> dict[str, bytes]:
    """Split a multipart/form-data body into its named parts, ignoring file names; raises bad_form."""
    boundary = _mime("Content-Type", content_type).get_boundary()
    if not boundary or not boundary.isascii():
        raise Problem("bad_form", "the content type has no boundary")
    pieces = (b"\r\n" + body).split(b"\r\n--" + boundary.encode(), MAX_PARTS + 2)
    if len(pieces) < 2 or not pieces[-1].startswith(b"--"):
        raise Problem("bad_form", f"the closing boundary is missing, or there are more than {MAX_PARTS} parts")
    parts: dict[str, bytes] = {}
    for piece in pieces[1:-1]:
        head, separator, content = piece.partition(b"\r\n\r\n")
        name = _part_name(head.decode("latin-1"))
        if not separator or name is None or name in parts:
            raise Problem("bad_form", "a part has no name, no content, or the name of another part")
        parts[name] = content
    return parts


def _part_name(head: str) -> str | None:
    for line in head.split("\r\n"):
        key, _, value = line.partition(":")
        if key.strip().lower() == "content-disposition":
            name = _mime("Content-Disposition", value.strip()).get_param("name", header="Content-Disposition")
            return name if isinstance(name, str) else None
    return None


def _mime(key: str, value: str) -> MimeMessage:
    message = MimeMessage()
    message[key] = value
    return message


def _present(data: bytes | None) -> bytes:
    if not data:
        raise Problem("image_missing", "the request has no image: expected a JPEG, PNG or WebP file", "/image")
    return data


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", "").split(";")[0].strip().lower()


def _expect_type(request: Request, expected: str) -> None:
    kind = _media_type(request)
    if kind != expected:
        raise Problem("unsupported_body", f"the content type is {kind[:60] or 'missing'}: expected {expected}")


def _parse(body: bytes, model: type[M], max_values: int | None) -> M:
    return validated(load_json(body, max_values), model)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("an object has the same key twice")
    return fields
