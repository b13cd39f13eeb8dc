"""Routes that open, describe and delete a session, and one that predicts a mask without a session."""

import time
from typing import Annotated, Any

from fastapi import Depends, Request, Response
from fastapi.concurrency import run_in_threadpool

from serve.core.problems import Problem
from serve.core.values import SessionValue, check_wire_click
from serve.engine.asking import MASK, Work
from serve.http.openapi import image_request, json_request, problems
from serve.http.routes.context import BASIS_CODES, BODY_CODES, IMAGE_CODES, SESSION_CODES, WAIT_CODES, Context, caller
from serve.wire import protocol
from serve.wire.bodies import decode_session, json_body, read_session_body
from serve.wire.images import MIME_OF, sniff
from serve.wire.protocol import MaskAnswer, PredictRequest

BINARY: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
FILE = {200: {"content": {kind: BINARY for kind, *_ in MIME_OF.values()}}}


def add_sessions(context: Context) -> None:
    """Add POST /v1/sessions, GET and DELETE /v1/sessions/{id}, GET /v1/sessions/{id}/image."""
    app, store, options = context.app, context.store, context.options

    def opened(record: SessionValue) -> dict[str, object]:
        height, width = record.hw
        return {
            "session_id": record.id,
            "width": width,
            "height": height,
            "model": record.basis.model,
            "model_version": record.model_version,
            "refinement": record.basis.refinement,
            "mask_threshold": record.basis.mask_threshold,
            "expires_in_s": store.expires_in_s(record),
        }

    @app.post(
        "/v1/sessions",
        status_code=201,
        responses=problems(*IMAGE_CODES, *BASIS_CODES, *BODY_CODES, *WAIT_CODES, "bad_form", "unavailable"),
        openapi_extra=image_request(),
    )
    async def open_session(request: Request) -> protocol.SessionOpened:
        """Open a session on an image, optionally with a mask to correct."""
        body = await read_session_body(request, options.max_body_bytes)
        who = caller(request)

        def create() -> SessionValue:
            store.check_room(len(body.image))
            with context.decoding:
                image, basis = context.arrays(body)
                return store.create(body.image, image, basis, who)

        return protocol.SessionOpened.model_validate(opened(await context.turns.run(create, request)))

    @app.get("/v1/sessions/{session_id}", responses=problems(*SESSION_CODES))
    async def session_state(request: Request, session_id: str) -> protocol.SessionState:
        """Return the state of a session, which with the image is enough to rebuild it."""
        record = await run_in_threadpool(store.get, session_id, caller(request))
        return protocol.SessionState.model_validate(
            opened(record)
            | {
                "image_sha256": record.image_sha256,
                "has_initial_mask": record.basis.initial_mask is not None,
                "has_exemplar": record.basis.exemplar is not None,
                "initial_mask": record.basis.initial_mask,
                "exemplar": protocol.ExemplarBody.of(record.basis.exemplar),
                "sequence": record.sequence,
                "clicks": [protocol.ClickBody.of(click) for click in record.clicks],
                "num_redo": record.num_redo,
                "num_objects": len(record.objects),
            }
        )

    @app.get("/v1/sessions/{session_id}/image", responses=problems(*SESSION_CODES) | FILE, response_class=Response)
    async def image(request: Request, session_id: str) -> Response:
        """Return the image file of the session as it was sent."""
        data = await run_in_threadpool(store.image, session_id, caller(request))
        return Response(data, media_type=MIME_OF[sniff(data) or "PNG"][0])

    @app.delete("/v1/sessions/{session_id}", status_code=204, responses=problems(*SESSION_CODES))
    async def delete_session(request: Request, session_id: str) -> Response:
        """Delete the session and its image."""
        await run_in_threadpool(store.delete, session_id, caller(request))
        return Response(status_code=204)


def add_predict(context: Context) -> None:
    """Add POST /v1/predict."""
    app, options = context.app, context.options

    @app.post(
        "/v1/predict",
        responses=problems(*IMAGE_CODES, *BASIS_CODES, *BODY_CODES, *WAIT_CODES, "model_nan", "unavailable"),
        openapi_extra=json_request(PredictRequest),
    )
    async def predict(
        request: Request,
        body: Annotated[PredictRequest, Depends(json_body(PredictRequest, options.max_body_bytes))],
    ) -> MaskAnswer:
        """Return the mask of an image and clicks, without opening a session."""
        started = time.perf_counter()
        if len(body.clicks) > options.max_clicks:
            raise Problem(
                "bad_click", f"{len(body.clicks)} clicks: at most {options.max_clicks} are allowed", "/clicks"
            )
        clicks = tuple(click.click() for click in body.clicks)
        files = await decode_session(body)

        def run() -> MaskAnswer:
            with context.decoding:  # until the end, because nothing else limits how many images wait for the network
                image, basis = context.arrays(files)
                for click in clicks:
                    check_wire_click(click, (image.shape[0], image.shape[1]))
                made = context.fleet.ask(
                    MASK, Work(session_id=None, basis=basis, clicks=clicks, image=image, load=lambda: files.image)
                )
            milliseconds = round(1000 * (time.perf_counter() - started), 1)
            return protocol.answer(made, num_clicks=len(clicks), num_redo=0, sequence=0, milliseconds=milliseconds)

        return await context.turns.run(run, request)
