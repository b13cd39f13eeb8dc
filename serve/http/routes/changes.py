"""Routes that change the current object: clicks, undo, redo, clear, and other settings for the same clicks."""

import time
from typing import Annotated

from fastapi import Depends, Request

from serve.http.openapi import json_request, problems
from serve.http.routes.context import CHANGE_CODES, Context, answer, caller
from serve.sessions.sessions import Change
from serve.wire.bodies import json_body
from serve.wire.protocol import ChangeRequest, ClickBody, ClickRequest, MaskAnswer, SettingsRequest


def add_changes(context: Context) -> None:
    """Add POST /v1/sessions/{id}/clicks, preview, undo, redo, clear, settings."""
    app, limit = context.app, context.options.max_click_body_bytes
    change_body = Depends(json_body(ChangeRequest, limit, optional=True))

    @app.post(
        "/v1/sessions/{session_id}/clicks",
        responses=problems(*CHANGE_CODES, "bad_click"),
        openapi_extra=json_request(ClickRequest),
    )
    async def click(
        request: Request, session_id: str, body: Annotated[ClickRequest, Depends(json_body(ClickRequest, limit))]
    ) -> MaskAnswer:
        """Add a click and return the new mask."""
        return await context.change(request, session_id, Change(kind="click", click=body.click()), body.sequence)

    @app.post(
        "/v1/sessions/{session_id}/preview",
        responses=problems(*CHANGE_CODES, "bad_click"),
        openapi_extra=json_request(ClickBody),
    )
    async def preview(
        request: Request, session_id: str, body: Annotated[ClickBody, Depends(json_body(ClickBody, limit))]
    ) -> MaskAnswer:
        """Return the mask that a click would give.

        The session does not change. If the same click follows, its mask is returned without new computation.
        """
        started, who = time.perf_counter(), caller(request)

        def run() -> MaskAnswer:
            return answer(context.store.preview(session_id, body.click(), who), started)

        return await context.turns.run(run, request)

    extra = json_request(ChangeRequest, required=False)

    @app.post("/v1/sessions/{session_id}/undo", responses=problems(*CHANGE_CODES), openapi_extra=extra)
    async def undo(request: Request, session_id: str, body: Annotated[ChangeRequest, change_body]) -> MaskAnswer:
        """Undo the last click."""
        return await context.change(request, session_id, Change(kind="undo"), body.sequence)

    @app.post("/v1/sessions/{session_id}/redo", responses=problems(*CHANGE_CODES), openapi_extra=extra)
    async def redo(request: Request, session_id: str, body: Annotated[ChangeRequest, change_body]) -> MaskAnswer:
        """Make the click again that was undone last."""
        return await context.change(request, session_id, Change(kind="redo"), body.sequence)

    @app.post("/v1/sessions/{session_id}/clear", responses=problems(*CHANGE_CODES), openapi_extra=extra)
    async def clear(request: Request, session_id: str, body: Annotated[ChangeRequest, change_body]) -> MaskAnswer:
        """Undo all clicks; redo restores them one by one."""
        return await context.change(request, session_id, Change(kind="clear"), body.sequence)

    @app.post(
        "/v1/sessions/{session_id}/settings",
        responses=problems(*CHANGE_CODES, "bad_refinement"),
        openapi_extra=json_request(SettingsRequest),
    )
    async def settings(
        request: Request, session_id: str, body: Annotated[SettingsRequest, Depends(json_body(SettingsRequest, limit))]
    ) -> MaskAnswer:
        """Change the refinement or the mask threshold, and return the mask of the same clicks."""
        change = Change(kind="settings", refinement=body.refinement, mask_threshold=body.mask_threshold)
        return await context.change(request, session_id, change, body.sequence)
