"""The requests and answers of /v1. In them, coordinates are x, y; everywhere else in the code they are y, x."""

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from models import rle
from models.interaction import Click
from serve.core.masks import Made
from serve.core.options import MAX_CLICKS
from serve.core.values import Exemplar

Coordinate = Annotated[
    float, Field(strict=True, allow_inf_nan=False, description="in pixels; an integer is the centre of a pixel")
]
Flag = Annotated[bool, Field(strict=True)]
Sequence = Annotated[
    int, Field(strict=True, ge=1, description="number of this change in its session: the previous number plus 1")
]


Number = Annotated[int, Field(strict=True, ge=1, le=2**31, description="number of a finished object")]
Label = Annotated[str, Field(max_length=200, description="class of the object")]
RefinementName = Annotated[
    str,
    Field(
        pattern=r"^[a-z0-9_+]{1,100}$",
        description="name of a refinement, or several names joined by +: see /v1/models and docs/REFINEMENTS.md",
        examples=["cfr_4"],
    ),
]
Threshold = Annotated[
    float,
    Field(strict=True, gt=0, lt=1, allow_inf_nan=False, description="probability above which a pixel is inside"),
]
ModelName = Annotated[str, Field(pattern=r"^[\w.-]{1,64}$", description="name of a model: see /v1/models")]


class Message(BaseModel):
    """Base of requests and answers: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid")


class MaskRle(Message):
    """A mask in COCO run-length encoding: `size` is [height, width], `counts` the compressed text."""

    size: list[Annotated[int, Field(strict=True)]] = Field(min_length=2, max_length=2, examples=[[4, 6]])
    counts: str = Field(examples=["92204O0"])

    @classmethod
    def of(cls, mask: np.ndarray) -> "MaskRle":
        """Encode a bool mask (h, w)."""
        return cls(**rle.encode(mask))


class ClickBody(Message):
    """A click; `positive`: the pixel belongs to the object."""

    x: Coordinate = Field(examples=[412])
    y: Coordinate = Field(examples=[230])
    positive: Flag = True

    def click(self) -> Click:
        """Return the click in the code's order of axes."""
        return Click(y=self.y, x=self.x, positive=self.positive)

    @classmethod
    def of(cls, click: Click) -> "ClickBody":
        """Return a click as it is sent."""
        return cls(x=click.x, y=click.y, positive=click.positive)


class ClickRequest(ClickBody):
    """A click in a session; `sequence` makes a retry safe."""

    sequence: Sequence | None = None


class ChangeRequest(Message):
    """Undo, redo or clear; the body may be omitted."""

    sequence: Sequence | None = None


class SettingsRequest(ChangeRequest):
    """Another refinement or threshold for the same clicks; an omitted field does not change."""

    refinement: RefinementName | None = None
    mask_threshold: Threshold | None = None


class FinishRequest(ChangeRequest):
    """Finish the current object; `parts`: make each connected component a separate object."""

    label: Label = ""
    parts: Flag = False


class AddRequest(ChangeRequest):
    """A finished object that was made elsewhere: its mask, and the clicks and initial mask for editing it later."""

    mask: MaskRle
    label: Label = ""
    clicks: list[ClickBody] = Field(default_factory=list, max_length=MAX_CLICKS)
    initial_mask: MaskRle | None = None
    exemplar: "ExemplarBody | None" = None


class NumberRequest(ChangeRequest):
    """A change that refers to a finished object."""

    number: Number


Id = Annotated[int, Field(strict=True)] | Annotated[str, Field(strict=True, max_length=64)] | None


class LiveClick(ClickRequest):
    """A click over /live; `latest`: omit the mask from the answer if another change is already queued."""

    kind: Literal["click"]
    id: Id = None
    latest: Flag = False


class LivePreview(ClickBody):
    """A preview of a click over /live."""

    kind: Literal["preview"]
    id: Id = None


class LiveSettings(SettingsRequest):
    """Another refinement or threshold over /live."""

    kind: Literal["settings"]
    id: Id = None
    latest: Flag = False


class LiveChange(ChangeRequest):
    """Undo, redo or clear over /live."""

    kind: Literal["undo", "redo", "clear"]
    id: Id = None
    latest: Flag = False


class ExemplarBody(Message):
    """A finished object that shows what to find, for models that take an exemplar."""

    mask: MaskRle
    clicks: list[ClickBody] = Field(default_factory=list, max_length=MAX_CLICKS)
    label: Label = Field("", description="ignored; exports contain it")

    @classmethod
    def of(cls, exemplar: Exemplar | None) -> "ExemplarBody | None":
        """Return an exemplar as it is sent."""
        if exemplar is None:
            return None
        clicks = [ClickBody.of(click) for click in exemplar.clicks]
        return cls(mask=MaskRle(**exemplar.mask), clicks=clicks, label="")


class SessionRequest(Message):
    """An image, and optionally a mask to correct and other options."""

    image: str | None = Field(None, description="JPEG, PNG or WebP file, as base64 text or data URI")
    mask: MaskRle | None = None
    model: ModelName | None = None
    refinement: RefinementName | None = None
    mask_threshold: Threshold | None = None
    exemplar: ExemplarBody | None = None


class PredictRequest(SessionRequest):
    """An image and all its clicks, for a mask without a session."""

    clicks: list[ClickBody] = Field(default_factory=list, max_length=MAX_CLICKS)


class SessionOpened(Message):
    """An open session."""

    session_id: str
    width: int
    height: int
    model: str
    model_version: str
    refinement: str | None = Field(description="null: the default of the model")
    mask_threshold: float | None = Field(description="null: the default of the refinement")
    expires_in_s: int = Field(description="seconds until the session ends, unless it is used before")


class SessionState(SessionOpened):
    """Everything that is needed to rebuild a session, except its image and its finished objects."""

    image_sha256: str
    has_initial_mask: bool
    has_exemplar: bool
    initial_mask: MaskRle | None = Field(None, description="mask with which the current object started")
    exemplar: ExemplarBody | None = None
    sequence: int
    clicks: list[ClickBody]
    num_redo: int
    num_objects: int


class MaskAnswer(Message):
    """The mask after a change."""

    sequence: int = Field(description="number of the latest change of this session; 0 for /v1/predict")
    num_clicks: int
    num_redo: int = Field(description="number of undone clicks that redo can restore")
    mask: MaskRle
    area: int = Field(description="pixels inside the mask")
    bbox_xywh: list[int] = Field(
        min_length=4, max_length=4, description="[x, y, width, height] in pixels; all 0 for an empty mask"
    )
    honoured: bool | None = Field(
        description="whether the mask at the last click agrees with the click's sign; null without clicks"
    )
    milliseconds: float = Field(description="time in the server")
    model_version: str
    num_objects: int = Field(description="number of finished objects of the session")


class ObjectBody(Message):
    """A finished object."""

    number: int
    label: str
    mask: MaskRle
    area: int
    bbox_xywh: list[int] = Field(min_length=4, max_length=4)
    clicks: list[ClickBody]
    initial_mask: MaskRle | None = Field(None, description="mask with which the object started")
    exemplar: ExemplarBody | None = None


class ObjectList(Message):
    """The finished objects of a session."""

    objects: list[ObjectBody]


class ObjectsAnswer(MaskAnswer):
    """The mask of the current object, and the finished objects, after a change of the latter."""

    objects: list[ObjectBody]


class PassBody(Message):
    """One pass of the refinement."""

    name: str = Field(examples=["first look", "pass 1"])
    mask: MaskRle
    num_changed: int = Field(
        description="number of pixels that differ from the previous mask; for the first, from an empty mask"
    )


class Passes(Message):
    """The passes of the refinement at the newest click."""

    steps: list[PassBody]


class ModelBody(Message):
    """A model of this server: its default refinement and threshold, and the `refinements` that a session may choose."""

    name: str
    network: str
    refinement: str
    model_version: str
    mask_threshold: float
    refinements: list[str]
    takes_exemplar: bool
    default: bool


class Models(Message):
    """The models of this server."""

    models: list[ModelBody]


class Health(Message):
    """The default model, and the number of open sessions."""

    status: str
    model_version: str
    network: str
    refinement: str
    sessions: int


class Status(Message):
    """The answer of a probe that succeeds."""

    status: Literal["ok"] = "ok"


class Export(BaseModel):
    """A COCO data set of one image; or `exemplars`, each of which POST /v1/sessions takes as `exemplar`."""

    info: dict[str, Any] | None = None
    images: list[dict[str, Any]] | None = None
    categories: list[dict[str, Any]] | None = None
    annotations: list[dict[str, Any]] | None = None
    exemplars: list[ExemplarBody] | None = None


class Example(Message):
    """One example image and its address, relative to the page."""

    name: str
    url: str


class Examples(Message):
    """The example images of this server."""

    examples: list[Example]


class ProblemBody(BaseModel):
    """An error (RFC 9457); `code` is stable, `detail` is for people."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    instance: str
    request_id: str | None = None
    pointer: str | None = None


def answer(
    made: Made, *, num_clicks: int, num_redo: int, sequence: int, milliseconds: float = 0.0, num_objects: int = 0
) -> MaskAnswer:
    """Return the answer with a mask and the state of its session."""
    return MaskAnswer(
        sequence=sequence,
        num_clicks=num_clicks,
        num_redo=num_redo,
        mask=MaskRle(**made.encoded),
        area=made.area,
        bbox_xywh=made.bbox_xywh,
        honoured=made.honoured,
        milliseconds=milliseconds,
        model_version=made.model_version,
        num_objects=num_objects,
    )
