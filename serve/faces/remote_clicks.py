"""One image on a server, for a caller that tells all clicks each time: the session there is brought to them.

What the server's own faces do by content (serve/faces/by_content.py) is done here at the client's end, so the image
travels once. Needs what serve/client needs: no torch, no Ray.
"""

import math
from collections.abc import Sequence

import numpy as np

from models.interaction import Click, in_known_order
from serve.client import Client, RemoteSession, ServerError

LOST = ("session_unknown", "session_expired", "stale_sequence")
"""Refusals after which a new session on the same image gives the same masks."""
Places = Sequence[tuple[float, float]]


class RemoteClicks:
    """An image file and its session, which is opened here and lives on the server until it expires."""

    def __init__(self, client: Client, image: bytes) -> None:
        """Upload the image; raises ServerError."""
        self._client, self._image = client, image
        self._session: RemoteSession | None = client.open(image)
        self._made: tuple[Click, ...] = ()
        self._mask = np.zeros(self._session.hw, bool)
        self.hw = self._session.hw
        """Height and width of the image as displayed."""

    def mask(self, positive: Places, negative: Places) -> np.ndarray:
        """The mask, bool (h, w), of places (x, y) measured from the image's corner; raises ServerError.

        A call that adds clicks to the last one's, or takes some back, costs no more than these. A session that the
        server has lost is opened again.
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
        """Take back what is not among `clicks`, then make those that are missing."""
        # After any failure it is not known where the session stands: it is kept only if all goes well.
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
    """The pixel under a position; the far edge counts as inside, and the server refuses what is farther out."""
    return size - 1 if position == size else math.floor(position)
