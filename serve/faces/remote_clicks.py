"""A client for callers that pass all clicks of an image each time: it brings the session on the server to them.

This does in the client what serve/faces/by_content.py does in the server, so that the image is uploaded only once. It
needs only what serve/client needs: no torch, no Ray.
"""

import math
from collections.abc import Sequence

import numpy as np

from models.interaction import Click, in_known_order
from serve.client import Client, RemoteSession, ServerError

LOST = ("session_unknown", "session_expired", "stale_sequence")
"""Problem codes after which a new session on the same image gives the same masks."""
Places = Sequence[tuple[float, float]]


class RemoteClicks:
    """An image file and its session, which stays on the server until it expires."""

    def __init__(self, client: Client, image: bytes) -> None:
        """Upload the image and open a session; raises ServerError."""
        self._client, self._image = client, image
        self._session: RemoteSession | None = client.open(image)
        self._made: tuple[Click, ...] = ()
        self._mask = np.zeros(self._session.hw, bool)
        self.hw = self._session.hw
        """Height and width of the image as displayed."""

    def mask(self, positive: Places, negative: Places) -> np.ndarray:
        """Return the mask, bool (h, w), of clicks at (x, y), measured from the image's corner; raises ServerError.

        A call that adds or removes clicks costs no more than these changes. A session that the server has lost is
        opened again.
        """
        clicks = in_known_order(
            self._made,
            [self._click(x, y, True) for x, y in positive],
            [self._click(x, y, False) for x, y in negative],
        )
        try:
            return self._bring(clicks)
        except ServerError as error:
            if error.code not in LOST:
                raise
        return self._bring(clicks)

    def _click(self, x: float, y: float, positive: bool) -> Click:
        height, width = self.hw
        return Click(y=_pixel(y, height), x=_pixel(x, width), positive=positive)

    def _bring(self, clicks: tuple[Click, ...]) -> np.ndarray:
        """Undo the clicks that are not in `clicks`, then make the missing ones."""
        # After a failure the state of the session is unknown, so it is kept only if all changes succeed.
        session, self._session = self._session, None
        if session is None:
            session = self._client.open(self._image)
            self._made, self._mask = (), np.zeros(self.hw, bool)
        kept = 0
        while kept < min(len(self._made), len(clicks)) and self._made[kept] == clicks[kept]:
            kept += 1
        if kept == 0 and self._made:
            self._mask = session.clear()
        else:
            for _ in self._made[kept:]:
                self._mask = session.undo()
        for click in clicks[kept:]:
            self._mask = session.click(x=click.x, y=click.y, positive=click.positive)
        self._made, self._session = clicks, session
        return self._mask


def _pixel(position: float, size: int) -> int:
    """Return the pixel under a position; the far edge counts as inside, and the server refuses positions beyond it."""
    return size - 1 if position == size else math.floor(position)
