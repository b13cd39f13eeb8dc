"""The record of the server that routes share, and helpers that several of them use."""

import time
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
from fastapi import FastAPI, Request

from models import rle
from models.rle import Rle
from serve.core.options import Options
from serve.core.values import Basis, Exemplar, check_wire_click
from serve.engine.fleet import Fleet
from serve.engine.waiting import Turns
from serve.sessions.sessions import Change, Outcome, Sessions
from serve.wire import protocol
from serve.wire.bodies import SessionBody
from serve.wire.images import decode_image, decode_mask_png, decode_mask_rle
from serve.wire.protocol import ExemplarBody, MaskAnswer

IMAGE_CODES = ("image_missing", "bad_image", "image_too_large", "unsupported_image", "bad_encoding", "bad_mask")
BASIS_CODES = ("model_unknown", "bad_refinement", "no_exemplar", "bad_rle", "bad_click")
BODY_CODES = ("bad_json", "bad_request", "body_too_large", "unsupported_body")
SESSION_CODES = ("session_unknown", "session_expired", "unavailable")
WAIT_CODES = ("at_capacity", "gpu_oom", "timeout")
MASK_CODES = (*SESSION_CODES, *WAIT_CODES, "bad_request", "model_nan", "model_unknown")
CHANGE_CODES = (*MASK_CODES, *BODY_CODES, "stale_sequence")


@dataclass(frozen=True, kw_only=True, eq=False)
class Context:
    """The parts of the server that routes use.

    Hold `decoding` while decoding an image, and run work that needs the model in `turns`.
    """

    app: FastAPI
    fleet: Fleet
    store: Sessions
    options: Options
    decoding: AbstractContextManager[object]
    turns: Turns

    async def change(self, request: Request, session_id: str, change: Change, sequence: int | None) -> MaskAnswer:
        """Make a change in a thread, and return the answer with its mask."""
        started = time.perf_counter()
        who = caller(request)

        def run() -> MaskAnswer:
            return answer(self.store.change(session_id, change, sequence, who), started)

        return await self.turns.run(run, request)

    def arrays(self, body: SessionBody) -> tuple[np.ndarray, Basis]:
        """Return the decoded image and the basis of its masks; call it in a thread, with `decoding` held."""
        image = decode_image(body.image, self.options.max_pixels, self.options.bit_depth)
        hw, asked = (image.shape[0], image.shape[1]), body.options
        basis = Basis(
            model=asked.model or self.fleet.default,
            refinement=asked.refinement,
            mask_threshold=asked.mask_threshold,
            initial_mask=_initial(body, hw),
            exemplar=exemplar_of(asked.exemplar, hw),
            bit_depth=self.options.bit_depth,
        )
        self.fleet.of(basis.model)  # raises if there is no such model
        return image, basis


def caller(request: Request) -> str | None:
    """Return the name of the caller's token; None if the server requires none."""
    return getattr(request.state, "token", None)


def answer(outcome: Outcome, started: float) -> MaskAnswer:
    """Return the answer for an outcome; `started`: time.perf_counter() at the start of the request."""
    value = outcome.value
    return protocol.answer(
        outcome.made,
        num_clicks=len(value.clicks),
        num_redo=value.num_redo,
        sequence=value.sequence,
        milliseconds=round(1000 * (time.perf_counter() - started), 1),
        num_objects=len(value.objects),
    )


def exemplar_of(body: ExemplarBody | None, hw: tuple[int, int]) -> Exemplar | None:
    """Read an exemplar for an image of (height, width); raises bad_mask, bad_rle, bad_click."""
    if body is None:
        return None
    clicks = tuple(click.click() for click in body.clicks)
    for click in clicks:
        check_wire_click(click, hw)
    return Exemplar(mask=rle.encode(decode_mask_rle(body.mask, hw)), clicks=clicks)


def _initial(body: SessionBody, hw: tuple[int, int]) -> Rle | None:
    if body.mask is None:
        return None
    mask = decode_mask_png(body.mask, hw) if isinstance(body.mask, bytes) else decode_mask_rle(body.mask, hw)
    return rle.encode(mask)
