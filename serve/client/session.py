"""The client of a server and of its sessions over plain HTTP."""

import ssl
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from models import rle
from models.errors import InputError
from serve.client.live import LiveSession, ServerError

TYPES = {b"\x89PNG": "image/png", b"RIFF": "image/webp"}


@dataclass(eq=False)
class Client:
    """One server. `token` is the secret, if it requires one; `ca` a PEM file of certificate authorities to trust.

    A request without an answer, or with status 429, 500, 502, 503 or 504, is sent again after `pause_s` seconds, which
    double each time, until it was sent `tries` times.
    """

    address: str
    tries: int = 6
    pause_s: float = 0.25
    timeout_s: float = 120.0
    token: str | None = field(default=None, repr=False)
    ca: str | Path | None = None
    num_retries: int = field(default=0, init=False)
    """Number of requests that were sent again so far."""

    def __post_init__(self) -> None:
        headers = None if self.token is None else {"Authorization": f"Bearer {self.token}"}
        self._tls = None if self.ca is None else trusting(self.ca)
        self._http = httpx.Client(
            base_url=self.address,
            timeout=self.timeout_s,
            trust_env=False,
            headers=headers,
            verify=True if self._tls is None else self._tls,
        )

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *error: object) -> None:
        self._http.close()

    def open(
        self,
        image: str | Path | bytes,
        mask: np.ndarray | None = None,
        *,
        model: str | None = None,
        refinement: str | None = None,
        mask_threshold: float | None = None,
    ) -> "RemoteSession":
        """Open a session on an image file (a path, or its bytes), optionally with a mask to correct, bool (h, w).

        `model`, `refinement` and `mask_threshold` hold for this session; None takes the server's default. GET
        /v1/models lists the models and their refinements.
        """
        data = image if isinstance(image, bytes) else Path(image).read_bytes()
        every = {"model": model, "refinement": refinement, "mask_threshold": mask_threshold}
        chosen = {name: value for name, value in every.items() if value is not None}
        if mask is None:
            kind = {"Content-Type": _type(data)}
            opened = self.request("POST", "/v1/sessions", content=data, headers=kind, params=chosen)
        else:
            import base64

            body = {"image": base64.b64encode(data).decode(), "mask": rle.encode(mask), **chosen}
            opened = self.request("POST", "/v1/sessions", json=body)
        return RemoteSession(self, opened["session_id"], (opened["height"], opened["width"]))

    def request(self, method: str, path: str, **options: Any) -> Any:
        """Send a request until it is answered; raises ServerError for a refusal, and after all tries."""
        error = ServerError("no_answer", f"{self.address} does not answer")
        for attempt in range(self.tries):
            if attempt:
                self.num_retries += 1
                time.sleep(self.pause_s * 2 ** (attempt - 1))
            try:
                answer = self._http.request(method, path, **options)
            except httpx.TransportError as failure:
                error = ServerError("no_answer", f"{type(failure).__name__}: {failure}")
                continue
            if answer.status_code < 400:
                return answer.json() if answer.content else None
            error = _refusal(answer)
            # 429: too fast. 500 and 502 to 504: a process may have ended while it answered.
            if answer.status_code not in (429, 500, 502, 503, 504) or error.code == "model_nan":
                break
        raise error


@dataclass(eq=False)
class RemoteSession:
    """A session: one image and the clicks on an object. Changes carry numbers, so that a repetition changes nothing."""

    client: Client
    id: str
    hw: tuple[int, int]
    sequence: int = 0
    last: dict[str, Any] = field(default_factory=dict)
    """The newest answer, as described in docs/HTTP.md."""

    def __enter__(self) -> "RemoteSession":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def click(self, x: float, y: float, positive: bool = True) -> np.ndarray:
        """Make a click at pixel (x, y); return the mask, bool (h, w)."""
        return self._change("clicks", x=x, y=y, positive=positive)

    def undo(self) -> np.ndarray:
        """Undo the last click; return the mask."""
        return self._change("undo")

    def redo(self) -> np.ndarray:
        """Make the click again that was undone last; return the mask."""
        return self._change("redo")

    def clear(self) -> np.ndarray:
        """Undo all clicks; return the mask: the initial mask if there is one, else an empty one."""
        return self._change("clear")

    def live(self) -> LiveSession:
        """Continue over a WebSocket, without a request for each click. Use only one of the two at a time."""
        self.sequence = self.client.request("GET", f"/v1/sessions/{self.id}")["sequence"]
        return LiveSession(self.client.address, self, self.client.token, self.client._tls)

    def close(self) -> None:
        """Delete the session on the server."""
        self.client.request("DELETE", f"/v1/sessions/{self.id}")

    def _change(self, kind: str, **body: Any) -> np.ndarray:
        body["sequence"] = self.sequence + 1
        self.last = self.client.request("POST", f"/v1/sessions/{self.id}/{kind}", json=body)
        self.sequence = self.last["sequence"]
        return rle.decode(self.last["mask"])


def trusting(ca: str | Path) -> ssl.SSLContext:
    """Return a TLS context that trusts the certificates of a PEM file and those that they sign; raises InputError."""
    try:
        return ssl.create_default_context(cafile=str(ca))
    except OSError as error:  # ssl.SSLError is one
        raise InputError(f"ca {ca} contains no certificates: {error}; expected a file in PEM") from None


def _type(data: bytes) -> str:
    return TYPES.get(data[:4], "image/jpeg")


def _refusal(answer: httpx.Response) -> ServerError:
    try:
        problem = answer.json()
        return ServerError(problem["code"], problem["detail"], answer.status_code)
    except (ValueError, KeyError, TypeError):
        return ServerError("no_answer", f"status {answer.status_code}: {answer.text[:200]}", answer.status_code)
