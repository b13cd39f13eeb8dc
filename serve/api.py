"""The HTTP interface as a plain FastAPI app: it parses, hands over to a worker thread, and shapes the answer.

Routes sit directly on the app (routers leak `self` under some versions of Ray Serve and FastAPI).
"""

import threading
import time
from collections.abc import Callable
from typing import Annotated, Literal

import numpy as np
from fastapi import Depends, FastAPI, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware

from models import rle
from serve import protocol
from serve.access import Access
from serve.bodies import SessionBody, decode_session, json_body, read_session_body, validation_problem
from serve.engine import NUM_OPENING, Engine
from serve.faces.cvat import add_cvat
from serve.faces.label_studio import add_label_studio
from serve.guard import Guard
from serve.images import decode_image, decode_mask_png, decode_mask_rle, encode_mask_png
from serve.live import add_live
from serve.masks import LocalMasks, Masks
from serve.openapi import document, image_request, json_request, problems
from serve.pages import add_examples, add_page
from serve.problems import Problem
from serve.protocol import ChangeRequest, ClickRequest, MaskAnswer, MaskRle, PredictRequest
from serve.rates import RateLimit, Rates, client_of
from serve.sessions import Change, Outcome, Sessions, check_wire_click
from serve.settings import Settings
from serve.shield import Shield
from serve.values import SessionValue

IMAGE_CODES = ("image_missing", "bad_image", "image_too_large", "unsupported_image", "bad_encoding", "bad_mask")
BODY_CODES = ("bad_json", "bad_request", "body_too_large", "unsupported_body")
SESSION_CODES = ("session_unknown", "session_expired", "unavailable")
CHANGE_CODES = (*SESSION_CODES, *BODY_CODES, "stale_sequence", "bad_click", "model_nan")
Semaphore = threading.BoundedSemaphore | threading.Semaphore


def create_app(
    model: Engine | Masks, settings: Settings | None = None, clock: Callable[[], float] = time.time
) -> FastAPI:
    """Build the app around an engine of this process or whoever else makes masks; `clock` (s) decides what expires."""
    settings = settings or Settings()
    masks = LocalMasks(model, settings) if isinstance(model, Engine) else model
    decoding = masks.engine.opening if isinstance(masks, LocalMasks) else threading.BoundedSemaphore(NUM_OPENING)
    store = Sessions(masks, settings, clock)
    app = FastAPI(
        title="Maskwright",
        version="1",
        description="Masks by clicks. Errors are application/problem+json with a stable `code`.",
        docs_url=None,
        redoc_url=None,
    )
    app.openapi = lambda: document(app, bool(settings.tokens))
    rates = Rates(settings, clock)
    app.add_middleware(GZipMiddleware, minimum_size=1024, compresslevel=5)
    # The last one added is the outermost.
    app.add_middleware(RateLimit, rates=rates)
    app.add_middleware(Access, tokens=settings.tokens)
    app.add_middleware(Guard, hosts=settings.hosts, origins=settings.origins)
    app.add_middleware(Shield)
    _add_error_handlers(app)
    _add_health(app, masks, store)
    _add_sessions(app, decoding, settings, store)
    _add_changes(app, settings, store)
    _add_predict(app, masks, decoding, settings)
    add_live(app, settings, store, lambda socket: rates.click(client_of(socket.scope)))
    add_label_studio(app, masks, settings)
    add_cvat(app, masks, settings)
    add_examples(app, settings.examples)
    add_page(app)
    return app


def _add_health(app: FastAPI, masks: Masks, store: Sessions) -> None:
    @app.get("/v1/health/live", responses=problems())
    async def live() -> dict[str, str]:
        """The process answers."""
        return {"status": "ok"}

    @app.get("/v1/health/ready", responses=problems("not_ready"))
    async def ready() -> dict[str, str]:
        """The model answers: its first click is made, and the last ones did not all fail."""
        info = await run_in_threadpool(masks.info)
        if not info.ready:
            reason = "the network is warming up" if info.healthy else "the last clicks all failed in the network"
            raise Problem("not_ready", reason, retry_after_s=5)
        return {"status": "ok"}

    @app.get("/v1/health", responses=problems("unavailable"))
    async def health() -> protocol.Health:
        """Which model runs, and how many sessions are open."""

        def look() -> protocol.Health:
            info = masks.info()
            return protocol.Health(
                status="ok" if info.healthy else "unwell",
                model_version=info.model_version,
                network=info.network,
                refinement=info.refinement,
                sessions=len(store),
            )

        return await run_in_threadpool(look)


def _add_sessions(app: FastAPI, decoding: Semaphore, settings: Settings, store: Sessions) -> None:
    def opened(record: SessionValue) -> dict[str, object]:
        height, width = record.hw
        return {
            "session_id": record.id,
            "width": width,
            "height": height,
            "model_version": record.model_version,
            "expires_in_s": store.expires_in_s(record),
        }

    @app.post(
        "/v1/sessions",
        status_code=201,
        responses=problems(*IMAGE_CODES, *BODY_CODES, "bad_rle", "bad_form", "at_capacity", "unavailable"),
        openapi_extra=image_request(),
    )
    async def open_session(request: Request) -> protocol.SessionOpened:
        """Open a session on an image, and on a mask to correct where one is given."""
        body = await read_session_body(request, settings.max_body_bytes)

        def create() -> SessionValue:
            store.check_room(len(body.image))
            with decoding:
                image, mask = _arrays(body, settings)
                return store.create(body.image, image, mask)

        return protocol.SessionOpened.model_validate(opened(await run_in_threadpool(create)))

    @app.get("/v1/sessions/{session_id}", responses=problems(*SESSION_CODES))
    async def session_state(session_id: str) -> protocol.SessionState:
        """What the session holds; with the image this is enough to rebuild it."""
        record = await run_in_threadpool(store.get, session_id)
        return protocol.SessionState.model_validate(
            opened(record)
            | {
                "image_sha256": record.image_sha256,
                "has_initial_mask": record.initial_mask is not None,
                "sequence": record.sequence,
                "clicks": [protocol.ClickBody.of(click) for click in record.clicks],
                "num_redo": record.num_redo,
            }
        )

    @app.delete("/v1/sessions/{session_id}", status_code=204, responses=problems(*SESSION_CODES))
    async def delete_session(session_id: str) -> Response:
        """Forget the session and its image."""
        await run_in_threadpool(store.delete, session_id)
        return Response(status_code=204)

    @app.get(
        "/v1/sessions/{session_id}/mask",
        response_model=MaskRle,
        responses=problems(*SESSION_CODES, "bad_request", "model_nan")
        | {200: {"content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}}},
    )
    async def mask(
        request: Request, session_id: str, format: Annotated[Literal["rle", "png"] | None, Query()] = None
    ) -> Response:
        """The mask as COCO RLE, or as a PNG of one bit; by `format`, else by the Accept header."""
        outcome = await run_in_threadpool(store.current, session_id)
        wants_png = "image/png" in request.headers.get("accept", "") if format is None else format == "png"
        if wants_png:
            return Response(await run_in_threadpool(lambda: encode_mask_png(outcome.mask)), media_type="image/png")
        return JSONResponse(dict(outcome.made.encoded))


def _add_changes(app: FastAPI, settings: Settings, store: Sessions) -> None:
    limit = settings.max_click_body_bytes
    change_body = Depends(json_body(ChangeRequest, limit, optional=True))

    async def change(session_id: str, change: Change, sequence: int | None) -> MaskAnswer:
        started = time.perf_counter()

        def run() -> MaskAnswer:
            outcome = store.change(session_id, change, sequence)
            return _answer(outcome, started)

        return await run_in_threadpool(run)

    @app.post(
        "/v1/sessions/{session_id}/clicks",
        responses=problems(*CHANGE_CODES),
        openapi_extra=json_request(ClickRequest),
    )
    async def click(
        session_id: str, body: Annotated[ClickRequest, Depends(json_body(ClickRequest, limit))]
    ) -> MaskAnswer:
        """Add a click; answers with the new mask."""
        return await change(session_id, Change(kind="click", click=body.click()), body.sequence)

    extra = json_request(ChangeRequest, required=False)

    @app.post("/v1/sessions/{session_id}/undo", responses=problems(*CHANGE_CODES), openapi_extra=extra)
    async def undo(session_id: str, body: Annotated[ChangeRequest, change_body]) -> MaskAnswer:
        """Take the last click back."""
        return await change(session_id, Change(kind="undo"), body.sequence)

    @app.post("/v1/sessions/{session_id}/redo", responses=problems(*CHANGE_CODES), openapi_extra=extra)
    async def redo(session_id: str, body: Annotated[ChangeRequest, change_body]) -> MaskAnswer:
        """Make the click again that was last taken back."""
        return await change(session_id, Change(kind="redo"), body.sequence)

    @app.post("/v1/sessions/{session_id}/clear", responses=problems(*CHANGE_CODES), openapi_extra=extra)
    async def clear(session_id: str, body: Annotated[ChangeRequest, change_body]) -> MaskAnswer:
        """Take all clicks back; redo brings them back one by one."""
        return await change(session_id, Change(kind="clear"), body.sequence)


def _add_predict(app: FastAPI, masks: Masks, decoding: Semaphore, settings: Settings) -> None:
    @app.post(
        "/v1/predict",
        responses=problems(*IMAGE_CODES, *BODY_CODES, "bad_rle", "bad_click", "model_nan", "unavailable"),
        openapi_extra=json_request(PredictRequest),
    )
    async def predict(
        body: Annotated[PredictRequest, Depends(json_body(PredictRequest, settings.max_body_bytes))],
    ) -> MaskAnswer:
        """Image and clicks in, mask out; the server keeps nothing."""
        started = time.perf_counter()
        if len(body.clicks) > settings.max_clicks:
            raise Problem(
                "bad_click", f"{len(body.clicks)} clicks: at most {settings.max_clicks} are allowed", "/clicks"
            )
        clicks = tuple(click.click() for click in body.clicks)
        files = await decode_session(body)

        def run() -> MaskAnswer:
            with decoding:  # to the end: nothing else bounds how many images wait for the network
                image, mask = _arrays(files, settings)
                for click in clicks:
                    check_wire_click(click, (image.shape[0], image.shape[1]))
                made = masks.once(files.image, image, None if mask is None else rle.encode(mask), clicks)
            outcome = Outcome(made=made, clicks=clicks, num_redo=0, sequence=0)
            return _answer(outcome, started)

        return await run_in_threadpool(run)


def _arrays(body: SessionBody, settings: Settings) -> tuple[np.ndarray, np.ndarray | None]:
    image = decode_image(body.image, settings.max_pixels)
    hw = (image.shape[0], image.shape[1])
    if body.mask is None:
        return image, None
    return image, decode_mask_png(body.mask, hw) if isinstance(body.mask, bytes) else decode_mask_rle(body.mask, hw)


def _answer(outcome: Outcome, started: float) -> MaskAnswer:
    return protocol.answer(
        outcome.made,
        num_clicks=len(outcome.clicks),
        num_redo=outcome.num_redo,
        sequence=outcome.sequence,
        milliseconds=round(1000 * (time.perf_counter() - started), 1),
    )


def _add_error_handlers(app: FastAPI) -> None:
    def respond(request: Request, problem: Problem) -> JSONResponse:
        body = problem.body(request.state.instance)
        return JSONResponse(body, problem.status, problem.headers(), media_type="application/problem+json")

    async def on_problem(request: Request, error: Exception) -> Response:
        assert isinstance(error, Problem)
        return respond(request, error)

    async def on_validation(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return respond(request, validation_problem(error.errors()))

    async def on_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "bad_request")
        response = respond(request, Problem(code, "see /openapi.json for what this server answers"))
        response.headers.update(error.headers or {})
        return response

    app.add_exception_handler(Problem, on_problem)
    app.add_exception_handler(RequestValidationError, on_validation)
    app.add_exception_handler(HTTPException, on_http)
