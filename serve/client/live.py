"""The client of a live session: clicks over one WebSocket, masks as run lengths. No torch, no Ray.

Run lengths are smaller than the bits of the changed box, and cheaper for the server; the bits are for clients that
cannot decode run lengths.
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
MAX_IN_FLIGHT = 32  # fewer than the server's queue, so that the two sides cannot wait for each other
MAX_ANSWER_BYTES = 64 << 20


class ServerError(Exception):
    """The server refused a request or did not answer. `code` is a code of docs/HTTP.md, or "no_answer"."""

    def __init__(self, code: str, detail: str, status: int = 0) -> None:
        super().__init__(f"{code}: {detail}")
        self.code, self.detail, self.status = code, detail, status


class Counted(Protocol):
    """The state that a RemoteSession shares with its LiveSession, such as the count of changes."""

    id: str
    hw: tuple[int, int]
    sequence: int


class LiveSession:
    """One WebSocket of a session. Changes carry numbers: after a lost connection, open another one and continue."""

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
        """The newest answer, as described in docs/HTTP.md, without the mask."""

    @property
    def mask(self) -> np.ndarray:
        """The newest mask that was received, bool (h, w), as a new array each time; empty before the first."""
        return np.zeros(self._session.hw, bool) if self._encoded is None else rle.decode(self._encoded)

    def __enter__(self) -> "LiveSession":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; the session stays open."""
        self._socket.close()

    def click(self, x: float, y: float, positive: bool = True) -> np.ndarray:
        """Make a click at pixel (x, y); return the mask as a new bool array (h, w)."""
        return self._change([{"kind": "click", "x": x, "y": y, "positive": positive}])

    def clicks(self, clicks: Iterable[tuple[float, float, bool]]) -> np.ndarray:
        """Make many clicks (x, y, positive) without waiting for each answer; return the mask after the last one."""
        rows = [{"kind": "click", "x": x, "y": y, "positive": positive} for x, y, positive in clicks]
        for start in range(0, len(rows), MAX_IN_FLIGHT):
            self._change(rows[start : start + MAX_IN_FLIGHT])
        return self.mask

    def undo(self) -> np.ndarray:
        """Undo the last click; return the mask."""
        return self._change([{"kind": "undo"}])

    def redo(self) -> np.ndarray:
        """Make the click again that was undone last; return the mask."""
        return self._change([{"kind": "redo"}])

    def clear(self) -> np.ndarray:
        """Undo all clicks; return the mask."""
        return self._change([{"kind": "clear"}])

    def _change(self, rows: list[dict[str, Any]]) -> np.ndarray:
        """Send changes, and read until all are answered and the mask of the last accepted one has arrived."""
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
                # A change may be answered twice: superseded first, and with its mask after the next one was refused.
                waiting -= answer["sequence"] > self._session.sequence
                self._session.sequence, self.last = answer["sequence"], answer
                owed = bool(answer.get("superseded"))
                if not owed:
                    self._encoded = answer.pop("mask")
        except ConnectionClosed as closed:
            code = GONE.get(closed.rcvd.code, "no_answer") if closed.rcvd else "no_answer"
            raise refusal or ServerError(
                code, "the connection was closed; open another one, or a new session if this one ended"
            ) from None
        if refusal is not None:
            raise refusal
        return self.mask


def _refused(error: InvalidStatus) -> ServerError:
    status = error.response.status_code
    try:
        problem = json.loads(error.response.body or b"")
        return ServerError(problem["code"], problem["detail"], status)
    except (ValueError, KeyError, TypeError):
        return ServerError("no_answer", f"the server refused the WebSocket with status {status}", status)
