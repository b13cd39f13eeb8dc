"""Label Studio's ML backend under /ls: a mask for the key points of an interactive annotation.

Label Studio shows its users only the status line of an error; the reason is in this server's answer.
"""

import re
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, Field

from serve.core.options import Options
from serve.core.problems import Problem
from serve.core.tokens import Secrets
from serve.engine.fleet import Fleet
from serve.engine.waiting import Turns
from serve.faces.by_content import ByContent
from serve.faces.fetch import Fetcher
from serve.faces.label_config import parse_config
from serve.faces.regions import Region, clicks_of, key_points, mask_regions
from serve.wire.bodies import json_body
from serve.wire.images import from_base64

ACTIONS = ("ANNOTATION_CREATED", "ANNOTATION_UPDATED", "ANNOTATION_DELETED", "START_TRAINING")
MAX_TASKS = 1000
URL = re.compile(r"(?!data:)[a-z][a-z0-9+.-]*:|/(data|storage-data|tasks)/", re.IGNORECASE)
"""An absolute URL or a path on Label Studio; base64 text of a JPEG also begins with a slash."""


class Task(BaseModel):
    """One task: its data by variable."""

    data: dict[str, Any] = Field(default_factory=dict)


class Context(BaseModel):
    """The regions that the user has drawn with smart tools."""

    result: list[Region] | None = None


class Params(BaseModel):
    """The context; Label Studio also sends a login, which is not read."""

    context: Context | None = None


class PredictBody(BaseModel):
    """A request for predictions; unknown fields are ignored, as in all of this protocol."""

    tasks: list[Task] = Field(max_length=MAX_TASKS)
    label_config: str | None = None
    params: Params | None = None


class SetupBody(BaseModel):
    """A project; it contains a user's access token, which is neither stored nor logged."""


class WebhookBody(BaseModel):
    """An event in a project."""

    action: str = ""


def add_label_studio(
    app: FastAPI, fleet: Fleet, options: Options, secrets: Secrets, turns: Turns, fetcher: Fetcher | None = None
) -> None:
    """Add the routes for Label Studio; raises InputError for invalid options. `fetcher`: fetches images by URL."""
    limit = options.max_body_bytes
    predictions = Predictions(fleet, options, fetcher or Fetcher(options, token=secrets.label_studio))

    # Must answer within a second, also while the model is busy, so the model is not called.
    @app.get("/ls", include_in_schema=False)
    @app.get("/ls/", include_in_schema=False)
    @app.get("/ls/health", include_in_schema=False)
    async def health() -> dict[str, str]:
        return {"status": "UP", "model_class": "Maskwright"}

    @app.post("/ls/setup", include_in_schema=False)
    async def setup(
        body: Annotated[SetupBody, Depends(json_body(SetupBody, limit, max_values=None))],
    ) -> dict[str, str]:
        return {"model_version": await run_in_threadpool(lambda: fleet.info().model_version)}

    @app.get("/ls/versions", include_in_schema=False)
    async def versions() -> dict[str, list[str]]:
        return {"versions": [await run_in_threadpool(lambda: fleet.info().model_version)]}

    @app.post("/ls/predict", include_in_schema=False)
    async def predict(
        request: Request,
        # No limit of values, because Label Studio sends run lengths as lists of numbers.
        body: Annotated[PredictBody, Depends(json_body(PredictBody, limit, max_values=None))],
    ) -> dict[str, Any]:
        return {"results": await turns.run(lambda: predictions.make(body), request)}

    @app.post("/ls/webhook", include_in_schema=False)
    async def webhook(
        response: Response, body: Annotated[WebhookBody, Depends(json_body(WebhookBody, limit, max_values=None))]
    ) -> dict[str, str | None]:
        response.status_code = 201 if body.action in ACTIONS else 200
        return {"status": "ok", "job": None}  # annotations start no training


class Predictions:
    """Predictions for tasks. Methods raise Problem and may take as long as a forward, so call them in a thread."""

    def __init__(self, fleet: Fleet, options: Options, fetcher: Fetcher) -> None:
        self._content = ByContent(fleet, options, "label-studio")
        self._options, self._fetcher = options, fetcher

    def make(self, body: PredictBody) -> list[dict[str, Any]]:
        """Return one prediction per task, in order. The clicks belong to the first task; the others stay empty."""
        regions = self._regions(body)
        version = self._content.model_version
        first = {"model_version": version, "score": 1.0 if regions else 0.0, "result": regions}
        empty = {"model_version": version, "score": 0.0, "result": []}
        return [first, *[empty] * (len(body.tasks) - 1)][: len(body.tasks)]

    def _regions(self, body: PredictBody) -> list[dict[str, Any]]:
        context = body.params.context if body.params else None
        points = key_points((context and context.result) or [])
        if not points or not body.tasks:
            return []
        config = parse_config(body.label_config or "")
        image = points[-1].to_name or next(iter(config.images))
        if image not in config.images:
            raise Problem("bad_request", f"the label_config has no image {image[:60]!r}", "/label_config")
        points = [point for point in points if point.to_name in (None, image)]
        picture = self._content.picture(self._image(body.tasks[0], config.images[image]))
        clicked = clicks_of(points, picture, self._options.negative_labels)
        control, label = config.output(image, clicked.label)  # before the forward, because it may raise
        return mask_regions(self._content.mask(picture, clicked.clicks), control, image, label)

    def _image(self, task: Task, variable: str) -> bytes:
        value = task.data.get(variable)
        if not isinstance(value, str) or not value:
            raise Problem("image_missing", f"the task's data has no image under {variable[:60]!r}", "/tasks/0/data")
        return self._fetcher.get(value) if URL.match(value) else from_base64(value)
