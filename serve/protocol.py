"""What travels: the requests and answers of /v1. Coordinates on the wire are x, y; inside they are y, x."""

from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from models import rle
from models.interaction import Click
from serve.made import Made

Coordinate = Annotated[float, Field(strict=True, allow_inf_nan=False, description="pixels; an integer is its centre")]
Flag = Annotated[bool, Field(strict=True)]
MAX_CLICKS = 200  # of one request, whatever the server's settings: a list this long is checked in no time
Sequence = Annotated[int, Field(strict=True, ge=1, description="number of this change in its session: last one + 1")]


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


Id = Annotated[int, Field(strict=True)] | Annotated[str, Field(strict=True, max_length=64)] | None


class LiveClick(ClickRequest):
    """A click sent over /live; `latest`: leave the mask out of the answer if another change already waits."""

    kind: Literal["click"]
    id: Id = None
    latest: Flag = False


class LiveChange(ChangeRequest):
    """Undo, redo or clear sent over /live."""

    kind: Literal["undo", "redo", "clear"]
    id: Id = None
    latest: Flag = False


class SessionRequest(Message):
    """An image as base64 text or data URI, and where given the mask to start from."""

    image: str | None = Field(None, description="base64 or data URI of a JPEG, PNG or WebP file")
    mask: MaskRle | None = None


class PredictRequest(SessionRequest):
    """An image and all its clicks: an answer without a session."""

    clicks: list[ClickBody] = Field(default_factory=list, max_length=MAX_CLICKS)


class SessionOpened(Message):
    """A new session."""

    session_id: str
    width: int
    height: int
    model_version: str
    expires_in_s: int = Field(description="idle seconds after which the session is forgotten")


class SessionState(SessionOpened):
    """Everything needed to rebuild the session elsewhere, except the image and initial mask themselves."""

    image_sha256: str
    has_initial_mask: bool
    sequence: int
    clicks: list[ClickBody]
    num_redo: int


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


class Health(Message):
    """What the server runs."""

    status: str
    model_version: str
    network: str
    refinement: str
    sessions: int


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
    pointer: str | None = None


def answer(made: Made, *, num_clicks: int, num_redo: int, sequence: int, milliseconds: float = 0.0) -> MaskAnswer:
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
    )
