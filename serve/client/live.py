"""The client's end of a live session: clicks over one WebSocket, masks as run lengths. No torch, no Ray.

Run lengths are smaller than the bits of what changed, and cost the server less; bits are for those who cannot decode.
"""

import json
import ssl
from collections.abc import Iterable
from typing import Any, Protocol

import numpy as np
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI
from websockets.sync.client import connect

from models import rle

GONE = {4404: "session_unknown", 4410: "session_expired", 1013: "at_capacity"}
MAX_IN_FLIGHT = 32  # less than the server lets wait, so that neither side waits for the other to read
MAX_ANSWER_BYTES = 64 << 20


class ServerError(Exception):
    """A refusal of the server, or no answer after all tries; `code` is one of docs/HTTP.md, or "no_answer"."""

    def __init__(self, code: str, detail: str, status: int = 0) -> None:
        super().__init__(f"{code}: {detail}")
        self.code, self.detail, self.status = code, detail, status


class Counted(Protocol):
    """The session as its other ways know it; both count its changes here."""

    id: str
    hw: tuple[int, int]
    sequence: int


class LiveSession:
    """One socket of one session. Changes carry their numbers: after a lost connection, open another and go on."""

    def __init__(
        self, address: str, session: Counted, token: str | None = None, tls: ssl.SSLContext | None = None
    ) -> None:
        url = f"ws{address.rstrip('/').removeprefix('http')}/v1/sessions/{session.id}/live?mask=rle"
        headers = None if token is None else {"Authorization": f"Bearer {token}"}
        try:
            self._socket = connect(
                url,
                additional_headers=headers,
                proxy=None,
                max_size=MAX_ANSWER_BYTES,
                ssl=tls if url.startswith("wss") else None,
            )
        except InvalidStatus as error:
            raise _refused(error) from None
        except (OSError, InvalidHandshake, InvalidURI) as error:
            raise ServerError("no_answer", f"{type(error).__name__}: {error}") from None
        self._session = session
        self._encoded: rle.Rle | None = None
        self.last: dict[str, Any] = {}
        """The newest answer, as docs/HTTP.md describes it, without the mask."""

    @property
    def mask(self) -> np.ndarray:
        """The newest mask that this socket brought, bool (h, w), a new array each time; empty before the first."""
        return np.zeros(self._session.hw, bool) if self._encoded is None else rle.decode(self._encoded)

    def __enter__(self) -> "LiveSession":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave; the session goes on."""
        self._socket.close()

    def click(self, x: float, y: float, positive: bool = True) -> np.ndarray:
        """Click; returns the mask, bool (h, w), which is the caller's."""
        return self._change([{"kind": "click", "x": x, "y": y, "positive": positive}])

    def clicks(self, clicks: Iterable[tuple[float, float, bool]]) -> np.ndarray:
        """Make many clicks (x, y, positive) without waiting for each; returns the mask after the last."""
        rows = [{"kind": "click", "x": x, "y": y, "positive": positive} for x, y, positive in clicks]
        for start in range(0, len(rows), MAX_IN_FLIGHT):
            self._change(rows[start : start + MAX_IN_FLIGHT])
        return self.mask

    def undo(self) -> np.ndarray:
        """Take the last click back; returns the mask."""
        return self._change([{"kind": "undo"}])

    def redo(self) -> np.ndarray:
        """Make the click again that was last taken back; returns the mask."""
        return self._change([{"kind": "redo"}])

    def clear(self) -> np.ndarray:
        """Take all clicks back; returns the mask."""
        return self._change([{"kind": "clear"}])

    def _change(self, rows: list[dict[str, Any]]) -> np.ndarray:
        """Send changes, and read until each is answered and the mask is that of the last one made."""
        refusal: ServerError | None = None
        try:
            for number, row in enumerate(rows, start=self._session.sequence + 1):
                self._socket.send(json.dumps(row | {"sequence": number, "id": number, "latest": len(rows) > 1}))
            waiting, owed = len(rows), False
            while waiting or owed:
                answer = json.loads(self._socket.recv())
                if "code" in answer:
                    waiting -= 1
                    refusal = refusal or ServerError(answer["code"], answer["detail"], answer["status"])
                    continue
                # The mask of a change that was answered before, because what superseded it has failed.
                waiting -= answer["sequence"] > self._session.sequence
                self._session.sequence, self.last = answer["sequence"], answer
                owed = bool(answer.get("superseded"))
                if not owed:
                    self._encoded = answer.pop("mask")
        except ConnectionClosed as closed:
            code = GONE.get(closed.rcvd.code, "no_answer") if closed.rcvd else "no_answer"
            raise refusal or ServerError(code, "the connection is closed; open another, or the session again") from None
        if refusal is not None:
            raise refusal
        return self.mask


def _refused(error: InvalidStatus) -> ServerError:
    status = error.response.status_code
    try:
        problem = json.loads(error.response.body or b"")
        return ServerError(problem["code"], problem["detail"], status)
    except (ValueError, KeyError, TypeError):
        return ServerError("no_answer", f"the server refuses the WebSocket with status {status}", status)
