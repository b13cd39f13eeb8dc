"""What travels: the requests and answers of /v1. Coordinates on the wire are x, y; inside they are y, x."""

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from models import rle
from models.interaction import Click
from serve.core.masks import Made
from serve.core.options import MAX_CLICKS
from serve.core.values import Exemplar

Coordinate = Annotated[float, Field(strict=True, allow_inf_nan=False, description="pixels; an integer is its centre")]
Flag = Annotated[bool, Field(strict=True)]
Sequence = Annotated[int, Field(strict=True, ge=1, description="number of this change in its session: last one + 1")]


Number = Annotated[int, Field(strict=True, ge=1, le=2**31, description="number of a finished object")]
Label = Annotated[str, Field(max_length=200, description="class of the object")]
RefinementName = Annotated[
    str,
    Field(
        pattern=r"^[a-z0-9_+]{1,100}$",
        description="name of a refinement, or names joined by +: see /v1/models and docs/REFINEMENTS.md",
        examples=["cfr_4"],
    ),
]
Threshold = Annotated[
    float,
    Field(strict=True, gt=0, lt=1, allow_inf_nan=False, description="probability above which a pixel is inside"),
]
ModelName = Annotated[str, Field(pattern=r"^[\w.-]{1,64}$", description="name of a model: see /v1/models")]


class Message(BaseModel):
    """Base of everything on the wire: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid")


class MaskRle(Message):
    """COCO run-length encoding: size [height, width], counts the compressed text."""

    size: list[Annotated[int, Field(strict=True)]] = Field(min_length=2, max_length=2, examples=[[4, 6]])
    counts: str = Field(examples=["92204O0"])

    @classmethod
    def of(cls, mask: np.ndarray) -> "MaskRle":
        """Encode a bool mask (h, w)."""
        return cls(**rle.encode(mask))


class ClickBody(Message):
    """One click."""

    x: Coordinate = Field(examples=[412])
    y: Coordinate = Field(examples=[230])
    positive: Flag = True

    def click(self) -> Click:
        """The click in our order of axes."""
        return Click(y=self.y, x=self.x, positive=self.positive)

    @classmethod
    def of(cls, click: Click) -> "ClickBody":
        """The click as it travels."""
        return cls(x=click.x, y=click.y, positive=click.positive)


class ClickRequest(ClickBody):
    """A click on a session; `sequence` makes a retry safe."""

    sequence: Sequence | None = None


class ChangeRequest(Message):
    """Undo, redo and clear; the body may be left out."""

    sequence: Sequence | None = None


class SettingsRequest(ChangeRequest):
    """Another refinement or threshold for the same clicks; what is left out stays."""

    refinement: RefinementName | None = None
    mask_threshold: Threshold | None = None


class FinishRequest(ChangeRequest):
    """The object at hand is finished; `parts`: each connected component is an object."""

    label: Label = ""
    parts: Flag = False


class AddRequest(ChangeRequest):
    """A finished object that was made elsewhere: its mask, and what it is edited from, should it be edited."""

    mask: MaskRle
    label: Label = ""
    clicks: list[ClickBody] = Field(default_factory=list, max_length=MAX_CLICKS)
    initial_mask: MaskRle | None = None
    exemplar: "ExemplarBody | None" = None


class NumberRequest(ChangeRequest):
    """A change that is about a finished object."""

    number: Number


Id = Annotated[int, Field(strict=True)] | Annotated[str, Field(strict=True, max_length=64)] | None


class LiveClick(ClickRequest):
    """A click sent over /live; `latest`: leave the mask out of the answer if another change already waits."""

    kind: Literal["click"]
    id: Id = None
    latest: Flag = False


class LivePreview(ClickBody):
    """A click that is only looked at, sent over /live."""

    kind: Literal["preview"]
    id: Id = None


class LiveSettings(SettingsRequest):
    """Another refinement or threshold, sent over /live."""

    kind: Literal["settings"]
    id: Id = None
    latest: Flag = False


class LiveChange(ChangeRequest):
    """Undo, redo or clear sent over /live."""

    kind: Literal["undo", "redo", "clear"]
    id: Id = None
    latest: Flag = False


class ExemplarBody(Message):
    """A finished object that shows what to find, for models that take one."""

    mask: MaskRle
    clicks: list[ClickBody] = Field(default_factory=list, max_length=MAX_CLICKS)
    label: Label = Field("", description="disregarded: it is there because an export has it")

    @classmethod
    def of(cls, exemplar: Exemplar | None) -> "ExemplarBody | None":
        """The exemplar as it travels."""
        if exemplar is None:
            return None
        clicks = [ClickBody.of(click) for click in exemplar.clicks]
        return cls(mask=MaskRle(**exemplar.mask), clicks=clicks, label="")


class SessionRequest(Message):
    """An image as base64 text or data URI, and where given the mask to start from and other options."""

    image: str | None = Field(None, description="base64 or data URI of a JPEG, PNG or WebP file")
    mask: MaskRle | None = None
    model: ModelName | None = None
    refinement: RefinementName | None = None
    mask_threshold: Threshold | None = None
    exemplar: ExemplarBody | None = None


class PredictRequest(SessionRequest):
    """An image and all its clicks: an answer without a session."""

    clicks: list[ClickBody] = Field(default_factory=list, max_length=MAX_CLICKS)


class SessionOpened(Message):
    """A new session."""

    session_id: str
    width: int
    height: int
    model: str
    model_version: str
    refinement: str | None = Field(description="null: the model's own")
    mask_threshold: float | None = Field(description="null: the refinement's own")
    expires_in_s: int = Field(description="idle seconds after which the session is forgotten")


class SessionState(SessionOpened):
    """Everything needed to rebuild the session elsewhere, except the image and the finished objects themselves."""

    image_sha256: str
    has_initial_mask: bool
    has_exemplar: bool
    initial_mask: MaskRle | None = Field(None, description="that the object at hand began with")
    exemplar: ExemplarBody | None = None
    sequence: int
    clicks: list[ClickBody]
    num_redo: int
    num_objects: int


class MaskAnswer(Message):
    """The mask after a change."""

    sequence: int = Field(description="changes made so far in this session; 0 for /v1/predict")
    num_clicks: int
    num_redo: int = Field(description="undone clicks that redo can bring back")
    mask: MaskRle
    area: int = Field(description="pixels")
    bbox_xywh: list[int] = Field(min_length=4, max_length=4, description="all 0 for an empty mask")
    honoured: bool | None = Field(description="the mask at the last click has the click's sign; null without clicks")
    milliseconds: float
    model_version: str
    num_objects: int = Field(description="finished objects of the session")


class ObjectBody(Message):
    """A finished object."""

    number: int
    label: str
    mask: MaskRle
    area: int
    bbox_xywh: list[int] = Field(min_length=4, max_length=4)
    clicks: list[ClickBody]
    initial_mask: MaskRle | None = Field(None, description="that it began with, before its clicks")
    exemplar: ExemplarBody | None = None


class ObjectList(Message):
    """The finished objects of a session."""

    objects: list[ObjectBody]


class ObjectsAnswer(MaskAnswer):
    """The mask of the object at hand after a change of the finished ones, and these."""

    objects: list[ObjectBody]


class PassBody(Message):
    """One pass of the refinement."""

    name: str = Field(examples=["first look", "pass 1"])
    mask: MaskRle
    num_changed: int = Field(description="pixels that differ from the entry before; of the first, from an empty mask")


class Passes(Message):
    """How the newest click's mask came about."""

    steps: list[PassBody]


class ModelBody(Message):
    """A model of this server; `refinements` and `mask_threshold` are what a session may choose, and what it has."""

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
    """What the server runs."""

    status: str
    model_version: str
    network: str
    refinement: str
    sessions: int


class Status(Message):
    """That something is as it should be."""

    status: Literal["ok"] = "ok"


class Export(BaseModel):
    """A COCO data set of one image; or, as `exemplars`, what POST /v1/sessions takes as `exemplar`, for each object."""

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
    """Example images that this server offers."""

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
    """Describe a mask and its session."""
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
