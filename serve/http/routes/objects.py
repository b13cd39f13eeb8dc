"""Routes for several objects in one session: finish, edit, find more of the same kind, and export."""

import time
from typing import Annotated, Any, Literal

from fastapi import Depends, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse

from models import rle
from serve.core.masks import area_and_box
from serve.core.values import Finished, SessionValue, check_wire_click
from serve.http.openapi import json_request, problems
from serve.http.routes.context import CHANGE_CODES, SESSION_CODES, Context, answer, caller, exemplar_of
from serve.sessions.sessions import Change
from serve.wire.bodies import json_body
from serve.wire.exports import coco, exemplars
from serve.wire.images import decode_mask_rle
from serve.wire.protocol import (
    AddRequest,
    ChangeRequest,
    ClickBody,
    ExemplarBody,
    Export,
    FinishRequest,
    MaskRle,
    NumberRequest,
    ObjectBody,
    ObjectList,
    ObjectsAnswer,
)

OPEN = "object_open"
UNKNOWN = "object_unknown"


def add_objects(context: Context) -> None:
    """Add finish, recall, export and objects under /v1/sessions/{id}."""
    app, limit = context.app, context.options.max_click_body_bytes
    change_body = Depends(json_body(ChangeRequest, limit, optional=True))

    async def change(request: Request, session_id: str, change: Change, sequence: int | None) -> ObjectsAnswer:
        started, who = time.perf_counter(), caller(request)

        def run() -> ObjectsAnswer:
            outcome = context.store.change(session_id, change, sequence, who)
            plain = answer(outcome, started).model_dump()
            return ObjectsAnswer(**plain, objects=[described(each) for each in outcome.value.objects])

        return await context.turns.run(run, request)

    finish_body = Depends(json_body(FinishRequest, limit, optional=True))

    @app.post(
        "/v1/sessions/{session_id}/finish",
        responses=problems(*CHANGE_CODES, "object_empty", "too_many_objects"),
        openapi_extra=json_request(FinishRequest, required=False),
    )
    async def finish(request: Request, session_id: str, body: Annotated[FinishRequest, finish_body]) -> ObjectsAnswer:
        """Finish the current object and start the next one; with `parts`, each connected component becomes an object.

        Components of which more than half belongs to a finished object are left out.
        """
        return await change(
            request, session_id, Change(kind="finish", label=body.label, parts=body.parts), body.sequence
        )

    @app.post(
        "/v1/sessions/{session_id}/recall",
        responses=problems(*CHANGE_CODES, OPEN, UNKNOWN, "no_exemplar"),
        openapi_extra=json_request(NumberRequest),
    )
    async def recall(
        request: Request, session_id: str, body: Annotated[NumberRequest, Depends(json_body(NumberRequest, limit))]
    ) -> ObjectsAnswer:
        """Start a search for all other objects of a finished object's kind.

        Click on one of them next to get the first mask. Only for models that take an exemplar.
        """
        return await change(request, session_id, Change(kind="recall", number=body.number), body.sequence)

    @app.get("/v1/sessions/{session_id}/objects", responses=problems(*SESSION_CODES))
    async def objects(request: Request, session_id: str) -> ObjectList:
        """List the finished objects."""

        def run() -> ObjectList:
            value = context.store.get(session_id, caller(request))
            return ObjectList(objects=[described(each) for each in value.objects])

        return await run_in_threadpool(run)

    @app.post(
        "/v1/sessions/{session_id}/objects",
        responses=problems(*CHANGE_CODES, "bad_mask", "bad_rle", "bad_click", "too_many_objects"),
        openapi_extra=json_request(AddRequest),
    )
    async def add(
        request: Request,
        session_id: str,
        body: Annotated[AddRequest, Depends(json_body(AddRequest, context.options.max_object_body_bytes))],
    ) -> ObjectsAnswer:
        """Add a finished object that was made elsewhere, for example in an expired session.

        The current object does not change.
        """

        def read() -> Finished:
            hw = context.store.get(session_id, caller(request)).hw
            clicks = tuple(click.click() for click in body.clicks)
            for click in clicks:
                check_wire_click(click, hw)
            initial = None if body.initial_mask is None else rle.encode(decode_mask_rle(body.initial_mask, hw))
            mask = rle.encode(decode_mask_rle(body.mask, hw))
            exemplar = exemplar_of(body.exemplar, hw)
            return Finished(
                number=0, mask=mask, label=body.label, clicks=clicks, initial_mask=initial, exemplar=exemplar
            )

        added = await run_in_threadpool(read)
        return await change(request, session_id, Change(kind="add", added=added), body.sequence)

    extra = json_request(ChangeRequest, required=False)

    @app.post(
        "/v1/sessions/{session_id}/objects/{number}/edit",
        responses=problems(*CHANGE_CODES, OPEN, UNKNOWN),
        openapi_extra=extra,
    )
    async def edit(
        request: Request, session_id: str, number: int, body: Annotated[ChangeRequest, change_body]
    ) -> ObjectsAnswer:
        """Make a finished object the current one again, with its clicks."""
        return await change(request, session_id, Change(kind="edit", number=number), body.sequence)

    @app.delete(
        "/v1/sessions/{session_id}/objects/{number}",
        responses=problems(*CHANGE_CODES, UNKNOWN),
        openapi_extra=extra,
    )
    async def drop(
        request: Request, session_id: str, number: int, body: Annotated[ChangeRequest, change_body]
    ) -> ObjectsAnswer:
        """Delete a finished object."""
        return await change(request, session_id, Change(kind="drop", number=number), body.sequence)

    @app.get(
        "/v1/sessions/{session_id}/export",
        response_model=Export,
        responses=problems(*SESSION_CODES, "bad_request"),
    )
    async def export(
        request: Request,
        session_id: str,
        format: Annotated[Literal["coco", "exemplars"], Query()] = "coco",
        file_name: Annotated[str, Query(max_length=300, description="name of the image file in COCO")] = "image",
    ) -> JSONResponse:
        """Return the finished objects as a COCO data set of one image, or as exemplars for POST /v1/sessions."""

        def run() -> Any:
            value: SessionValue = context.store.get(session_id, caller(request))
            return coco(value, file_name) if format == "coco" else exemplars(value)

        return JSONResponse(await run_in_threadpool(run))


def described(finished: Finished) -> ObjectBody:
    """Return a finished object as it is sent."""
    area, box = area_and_box(finished.mask)
    return ObjectBody(
        number=finished.number,
        label=finished.label,
        mask=MaskRle(**finished.mask),
        area=area,
        bbox_xywh=box,
        clicks=[ClickBody.of(click) for click in finished.clicks],
        initial_mask=None if finished.initial_mask is None else MaskRle(**finished.initial_mask),
        exemplar=ExemplarBody.of(finished.exemplar),
    )
