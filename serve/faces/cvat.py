"""The three calls that CVAT's server makes to nuclio, answered in place of nuclio.

CVAT is configured with a host and a port but no path, so these routes are at the root. It sends no token, so only
addresses in `Options.cvat_clients` are answered.
"""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import numpy as np
from fastapi import Depends, FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, Field, FiniteFloat

from serve.core.networks import IPNetwork, is_within, parse_networks
from serve.core.options import MAX_CLICKS, Options
from serve.core.problems import Problem
from serve.core.tokens import Secrets
from serve.engine.fleet import Fleet
from serve.engine.waiting import Turns
from serve.faces.by_content import ByContent
from serve.wire.bodies import json_body
from serve.wire.images import from_base64

FUNCTION = "maskwright"
HELP = "Click on the object, then correct the mask: left-click what is missing, right-click what is too much."
Point = Annotated[list[FiniteFloat], Field(min_length=2, max_length=2)]
Points = Annotated[list[Point], Field(max_length=MAX_CLICKS)]


class Invocation(BaseModel):
    """The body of CVAT's call; other fields (a threshold, and a box, which is not requested) are ignored."""

    image: str
    pos_points: Points = Field(default_factory=list)
    neg_points: Points = Field(default_factory=list)


def add_cvat(app: FastAPI, fleet: Fleet, options: Options, secrets: Secrets, turns: Turns) -> None:
    """Add the routes of one interactor, named FUNCTION; raises InputError for invalid networks in the options."""
    content = ByContent(fleet, options, "cvat", originals=True)
    only = [Depends(_only_from(parse_networks(options.cvat_clients, "cvat_clients")))]

    def described() -> dict[str, Any]:
        info = fleet.info()
        return function(info.network, info.model_version)

    @app.get("/api/functions", dependencies=only, include_in_schema=False)
    async def functions() -> dict[str, Any]:
        return {FUNCTION: await run_in_threadpool(described)}

    @app.get("/api/functions/{name}", dependencies=only, include_in_schema=False)
    async def one_function(name: str) -> dict[str, Any]:
        _check_name(name)
        return await run_in_threadpool(described)

    # The address is checked first, so that the body of an unlisted caller is not read.
    @app.post("/api/function_invocations", dependencies=only, include_in_schema=False)
    async def invoke(
        request: Request, body: Annotated[Invocation, Depends(json_body(Invocation, options.max_body_bytes))]
    ) -> Response:
        _check_name(request.headers.get("x-nuclio-function-name", ""))

        def run() -> bytes:
            picture = content.picture(from_base64(body.image))
            positive = [picture.click(x, y, True) for x, y in body.pos_points]
            negative = [picture.click(x, y, False) for x, y in body.neg_points]
            return mask_json(content.mask(picture, content.ordered(picture, positive, negative)))

        return Response(await turns.run(run, request), media_type="application/json")


def function(network: str, model_version: str) -> dict[str, Any]:
    """Describe the interactor like nuclio. Annotations are texts, and CVAT treats any text, even "false", as true."""
    return {
        "metadata": {
            "name": FUNCTION,
            "annotations": {
                "name": "Maskwright",
                "version": "2",
                "type": "interactor",
                "spec": "",
                "min_pos_points": "1",
                "min_neg_points": "0",
                "help_message": HELP,
                "animated_gif": "",
            },
        },
        "spec": {"description": f"Masks by clicks ({network}, {model_version})"},
        "status": {"state": "ready", "httpPort": 0},
    }


def mask_json(mask: np.ndarray) -> bytes:
    """Write {"mask": [[0, 1, ...], ...]} of a bool mask (h, w)."""
    # The text has the shape of the mask and is filled as an array: lists would take at least 8 bytes per pixel, and
    # seconds for a photograph.
    height, width = mask.shape
    text = np.full((height, 2 * width + 2), ord(","), np.uint8)
    text[:, 0] = ord("[")
    text[:, 1:-1:2] = mask + np.uint8(ord("0"))
    text[:, -2] = ord("]")
    return b'{"mask":[' + text.tobytes()[:-1] + b"]}"


def _only_from(allowed: list[IPNetwork]) -> Callable[[Request], Awaitable[None]]:
    async def check(request: Request) -> None:
        host = request.client.host if request.client else ""
        if not is_within(host, allowed):
            detail = f"CVAT may not call from {host[:60] or 'this address'}: add it to the option cvat_clients"
            raise Problem("address_refused", detail)

    return check


def _check_name(name: str) -> None:
    if name != FUNCTION:
        raise Problem("not_found", f"there is no function {name[:60]!r}: the only one is {FUNCTION!r}")
