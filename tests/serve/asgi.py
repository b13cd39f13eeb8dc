"""Requests directly to the app in its event loop, for clients that leave before the answer, and for many at once."""

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any


@dataclass(eq=False)
class Asked:
    """One request: `leave` takes the client away, `answer` waits for status, headers and JSON."""

    app: Any
    method: str
    path: str
    body: dict[str, Any] | None = None
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    sent: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._whole = False
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        scope = {
            "type": "http",
            "method": self.method,
            "path": self.path,
            "raw_path": self.path.encode(),
            "root_path": "",
            "query_string": b"",
            "headers": [(b"host", b"localhost"), (b"content-type", b"application/json")],
            "client": ("127.0.0.1", 1),
            "server": ("localhost", 80),
            "scheme": "http",
            "http_version": "1.1",
        }
        await self.app(scope, self._receive, self._send)

    async def _receive(self) -> dict[str, Any]:
        if not self._whole:
            self._whole = True
            body = b"" if self.body is None else json.dumps(self.body).encode()
            return {"type": "http.request", "body": body, "more_body": False}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        self.sent.append(message)

    def leave(self) -> None:
        self.gone.set()

    async def answer(self) -> tuple[int, dict[str, str], Any]:
        await asyncio.wait_for(self.task, 30)
        headers = {key.decode(): value.decode() for key, value in self.sent[0]["headers"]}
        return self.sent[0]["status"], headers, json.loads(b"".join(each["body"] for each in self.sent[1:]))


async def until(condition: Any, seconds: float = 10) -> None:
    """Wait until `condition()` is true."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.002)
