"""A function for CVAT's agent (cvat-cli) that gets the masks of users' clicks from a Maskwright server.

    pip install cvat-cli "cvat-sdk[masks]" httpx websockets
    FILE="--function-file serve/faces/cvat_agent.py -p url=str:http://127.0.0.1:8000"
    cvat-cli --server-host https://cvat.example.org function create-native maskwright $FILE    # prints ID
    cvat-cli --server-host https://cvat.example.org function run-agent ID $FILE

If the server requires a token, its secret is read from the variable MASKWRIGHT_TOKEN, because a parameter would be
visible in the list of processes.
"""

import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

# cvat-cli runs this file by its path, in an environment in which this repository is not installed.
if (root := str(Path(__file__).resolve().parents[2])) not in sys.path:
    sys.path.insert(0, root)

from serve.client import Client
from serve.faces.remote_clicks import RemoteClicks

TOKEN = "MASKWRIGHT_TOKEN"
MAX_FILE_BYTES = 32 << 20  # the server's default limit (Options.max_body_bytes)
PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16", "I;16B")


class Asked(Protocol):
    """The input of one call from cvat-cli: clicks (x, y) in pixels, measured from the image's top left corner."""

    @property
    def pos_points(self) -> Sequence[tuple[float, float]]:
        """Positive clicks."""
        ...

    @property
    def neg_points(self) -> Sequence[tuple[float, float]]:
        """Negative clicks."""
        ...


class Interactor:
    """An interaction function of cvat_sdk.auto_annotation; the agent caches the result of preprocess_image."""

    def __init__(self, client: Client) -> None:
        from cvat_sdk import auto_annotation  # pyright: ignore[reportMissingImports] - cvat-cli's environment has it

        self._client = client
        self.spec = auto_annotation.InteractionFunctionSpec(min_pos_points=1, min_neg_points=0)

    def preprocess_image(self, context: object, image: Image.Image) -> RemoteClicks:
        """Open a session, so that the image is uploaded only once for all its clicks."""
        return RemoteClicks(self._client, file_of(image))

    def detect(self, context: object, pp_image: RemoteClicks, asked: Asked) -> list[Any]:
        """Return one mask shape for the clicks, or none if the mask is empty."""
        from cvat_sdk import auto_annotation, masks  # pyright: ignore[reportMissingImports]

        mask = pp_image.mask(asked.pos_points, asked.neg_points)
        if not mask.any():
            return []
        return [auto_annotation.InteractionResultShape(type="mask", points=masks.encode_mask(mask))]


def create(url: str, ca: str | None = None) -> Interactor:
    """Return the function for the server at `url`, without connecting yet; `ca`: see Client."""
    return Interactor(Client(url, token=os.environ.get(TOKEN), ca=ca))


def file_of(image: Image.Image) -> bytes:
    """Encode an image as PNG, without loss, or as JPEG of high quality if the PNG is too large to send."""
    shown = image.copy() if image.mode in PNG_MODES else image.convert("I;16" if image.mode == "I" else "RGB")
    shown.info = {}  # CVAT's clicks refer to the pixels as stored, so the orientation must be dropped
    stream = io.BytesIO()
    shown.save(stream, "PNG", compress_level=1)
    if stream.tell() > MAX_FILE_BYTES:
        stream = io.BytesIO()
        shown.convert("RGB").save(stream, "JPEG", quality=95)
    return stream.getvalue()
