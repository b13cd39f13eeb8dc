"""Routes that read a session: its mask in several encodings, its probabilities, and the passes that made it."""

import io
import json
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from PIL import Image

from models import rle
from serve.core.masks import patch_between
from serve.http.openapi import problems
from serve.http.routes.context import MASK_CODES, Context, caller
from serve.wire.images import encode_mask_png
from serve.wire.protocol import MaskRle, PassBody, Passes

BINARY: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
PNG = {200: {"content": {"image/png": BINARY}}}
BITS = "application/x-maskwright-bits"
"""Media type of a line of JSON followed by the bits of the mask inside a box; see "Masks as bits" in docs/HTTP.md."""


def add_views(context: Context) -> None:
    """Add GET /v1/sessions/{id}/mask, probability, steps."""
    app, store = context.app, context.store

    @app.get(
        "/v1/sessions/{session_id}/mask",
        response_model=MaskRle,
        responses=problems(*MASK_CODES) | {200: {"content": {"image/png": BINARY, BITS: BINARY}}},
    )
    async def mask(
        request: Request, session_id: str, format: Annotated[Literal["rle", "png", "bits"] | None, Query()] = None
    ) -> Response:
        """Return the mask as COCO RLE, as a PNG of one bit, or as bits.

        The query parameter `format` chooses, else the Accept header.
        """
        outcome = await context.turns.run(lambda: store.current(session_id, caller(request)), request)
        accepted = request.headers.get("accept", "")
        if format is None:
            format = "png" if "image/png" in accepted else "bits" if BITS in accepted else "rle"
        if format == "png":
            return Response(await run_in_threadpool(lambda: encode_mask_png(outcome.mask)), media_type="image/png")
        if format == "bits":
            return await run_in_threadpool(lambda: bits_response({"sequence": outcome.value.sequence}, outcome.mask))
        return JSONResponse(dict(outcome.made.encoded))

    @app.get("/v1/sessions/{session_id}/probability", responses=problems(*MASK_CODES) | PNG, response_class=Response)
    async def probability(request: Request, session_id: str) -> Response:
        """Return the probabilities of the mask as an 8-bit grey PNG, in which 255 is 1."""

        def run() -> bytes:
            stream = io.BytesIO()
            found = store.probability(session_id, caller(request))
            Image.fromarray(found).save(stream, "PNG", compress_level=1)
            return stream.getvalue()

        return Response(await context.turns.run(run, request), media_type="image/png")

    @app.get("/v1/sessions/{session_id}/steps", responses=problems(*MASK_CODES))
    async def steps(request: Request, session_id: str) -> Passes:
        """Return the mask after each pass of the refinement at the newest click."""

        def run() -> Passes:
            found: list[PassBody] = []
            before: np.ndarray | None = None
            for name, encoded in store.passes(session_id, caller(request)):
                now = rle.decode(encoded)
                changed = now if before is None else now ^ before
                found.append(PassBody(name=name, mask=MaskRle(**encoded), num_changed=int(changed.sum())))
                before = now
            return Passes(steps=found)

        return await context.turns.run(run, request)


def bits_response(header: dict[str, Any], mask: np.ndarray) -> Response:
    """Return an answer with the bits of a mask, bool (h, w), inside the smallest box around it."""
    box, bits = patch_between(None, mask)
    patch = {"bbox_xywh": box, "num_bytes": len(bits), "size": list(mask.shape)}
    line = json.dumps(header | {"patch": patch}).encode()
    return Response(line + b"\n" + bits, media_type=BITS)
