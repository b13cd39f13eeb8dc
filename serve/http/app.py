"""Build the FastAPI app of the HTTP interface; the routes are in serve/http/routes, one file per subject.

Routes are added to the app itself, because routers leak `self` with some versions of Ray Serve and FastAPI.
"""

import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware

from serve.core.options import Options
from serve.core.problems import Problem
from serve.core.sources import ONLY
from serve.core.tokens import Secrets
from serve.engine.asking import Model
from serve.engine.engine import NUM_OPENING, Engine
from serve.engine.fleet import Fleet
from serve.engine.local_model import LocalModel
from serve.engine.waiting import Turns
from serve.faces.registry import FACES
from serve.http.access import Access
from serve.http.forwarded import BehindProxy
from serve.http.guard import Guard
from serve.http.live import add_live
from serve.http.observe import Observe
from serve.http.openapi import document
from serve.http.pages import add_examples, add_page
from serve.http.rates import RateLimit, Rates, client_of
from serve.http.routes.changes import add_changes
from serve.http.routes.context import Context
from serve.http.routes.models import add_models
from serve.http.routes.objects import add_objects
from serve.http.routes.sessions import add_predict, add_sessions
from serve.http.routes.views import add_views
from serve.http.shield import Shield
from serve.observing.metrics import Waited
from serve.observing.record import note_problem, request_id
from serve.sessions.sessions import Sessions
from serve.wire.bodies import validation_problem

Served = Engine | Model


def create_app(
    model: Served | Mapping[str, Served] | Fleet,
    options: Options | None = None,
    clock: Callable[[], float] = time.time,
    *,
    secrets: Secrets | None = None,
    behind_serve: bool = False,
) -> FastAPI:
    """Build the app for one or several models, or engines of this process, by name; raises InputError.

    `clock` (s) decides when sessions expire; `secrets` default to those that the options name; `behind_serve`: a proxy
    of Ray Serve answers, which assigns the request ids and counts the requests.
    """
    options = options or Options()
    secrets = secrets or Secrets.of(options)
    fleet = model if isinstance(model, Fleet) else fleet_of(model, options)
    local = fleet.of(None)
    app = FastAPI(
        title="Maskwright",
        version="1",
        description="Segment objects in images by clicks. Errors are application/problem+json with a stable `code`.",
        docs_url=None,
        redoc_url=None,
    )
    turns = Turns(options.max_waiting, options.request_timeout_s)
    context = Context(
        app=app,
        fleet=fleet,
        store=Sessions(fleet, options, clock),
        options=options,
        decoding=local.engine.opening
        if isinstance(local, LocalModel)
        else Waited(threading.BoundedSemaphore(NUM_OPENING), "image"),
        turns=turns,
    )
    app.openapi = lambda: document(app, bool(secrets.tokens))
    rates = Rates(options, clock)
    app.add_middleware(GZipMiddleware, minimum_size=1024, compresslevel=5)
    # The middleware that is added last runs first.
    app.add_middleware(RateLimit, rates=rates)
    app.add_middleware(Access, tokens=secrets.tokens)
    app.add_middleware(Guard, hosts=options.hosts, origins=options.origins)
    app.add_middleware(Shield)
    app.add_middleware(Observe, behind_serve=behind_serve)
    app.add_middleware(BehindProxy, proxies=options.proxies, root_path=options.root_path)
    _add_error_handlers(app)
    for add in (add_models, add_sessions, add_changes, add_views, add_objects, add_predict):
        add(context)
    add_live(app, options, context.store, turns, lambda socket: rates.click(client_of(socket.scope)))
    for add_face in FACES:
        add_face(app, fleet, options, secrets, turns)
    add_examples(app, Path(options.examples) if options.examples else None)
    add_page(app)
    return app


def fleet_of(model: Served | Mapping[str, Served], options: Options) -> Fleet:
    """Return a Fleet of these models; engines of this process share the memory limit for sessions equally."""
    models: Mapping[str, Served] = model if isinstance(model, Mapping) else {ONLY: model}
    return Fleet(
        {
            name: LocalModel(each, options, len(models)) if isinstance(each, Engine) else each
            for name, each in models.items()
        }
    )


def _add_error_handlers(app: FastAPI) -> None:
    def respond(request: Request, problem: Problem) -> JSONResponse:
        note_problem(problem.code)
        body = problem.body(request.state.instance, request_id())
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
        response = respond(request, Problem(code, "see /openapi.json for the addresses and methods of this server"))
        response.headers.update(error.headers or {})
        return response

    app.add_exception_handler(Problem, on_problem)
    app.add_exception_handler(RequestValidationError, on_validation)
    app.add_exception_handler(HTTPException, on_http)
