"""A small reverse proxy of the test's own, in front of a server: HTTP and WebSockets below a path, with headers."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

DROPPED = {"connection", "content-length", "host", "keep-alive", "transfer-encoding", "upgrade"}


@dataclass(eq=False)
class ReverseProxy:
    """An ASGI app: what is below `prefix` goes to `upstream` (http://HOST:PORT), the rest is answered 404.

    `strips` takes the prefix off; `named` are headers that it adds, and `asked` the paths that came.
    """

    upstream: str
    prefix: str
    strips: bool
    named: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.asked.append(scope["path"])
        if not scope["path"].startswith(f"{self.prefix}/"):
            if scope["type"] == "http":
                await send({"type": "http.response.start", "status": 404, "headers": []})
                await send({"type": "http.response.body", "body": b"nothing of this server's is here"})
            else:
                await send({"type": "websocket.close"})
            return
        await (self._request if scope["type"] == "http" else self._socket)(scope, receive, send)

    def _target(self, scope: Any) -> str:
        path = scope["path"].removeprefix(self.prefix) if self.strips else scope["path"]
        return f"{path}?{scope['query_string'].decode()}" if scope["query_string"] else path

    def _headers(self, scope: Any) -> list[tuple[str, str]]:
        said = {name.decode(): value.decode("latin-1") for name, value in scope["headers"]}
        kept = [(name, value) for name, value in said.items() if name not in DROPPED]
        host = {"X-Forwarded-Host": said["host"], "X-Forwarded-For": scope["client"][0]}
        return [*kept, *(host | self.named).items()]

    async def _request(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        async with httpx.AsyncClient(base_url=self.upstream, trust_env=False, timeout=60) as http:
            target, headers = self._target(scope), self._headers(scope)
            request = http.build_request(scope["method"], target, headers=headers, content=body)
            answer = await http.send(request, stream=True)
            raw = b"".join([part async for part in answer.aiter_raw()])
            await answer.aclose()
        kept = [(name.lower(), value) for name, value in answer.headers.raw if name.lower().decode() not in DROPPED]
        length = [(b"content-length", str(len(raw)).encode())] if answer.status_code not in (204, 304) else []
        await send({"type": "http.response.start", "status": answer.status_code, "headers": [*kept, *length]})
        await send({"type": "http.response.body", "body": raw})

    async def _socket(self, scope: Any, receive: Any, send: Any) -> None:
        headers = [pair for pair in self._headers(scope) if not pair[0].startswith("sec-websocket-")]
        address = f"ws{self.upstream.removeprefix('http')}{self._target(scope)}"
        offered = scope["subprotocols"] or None
        async with connect(address, additional_headers=headers, subprotocols=offered, proxy=None) as inner:
            await receive()  # websocket.connect
            await send({"type": "websocket.accept", "subprotocol": inner.subprotocol})
            back = asyncio.create_task(_back(inner, send))
            while (message := await receive())["type"] == "websocket.receive":
                await inner.send(message.get("text") or message["bytes"])
            await inner.close()
            await back


async def _back(inner: ClientConnection, send: Any) -> None:
    try:
        async for message in inner:
            kind = "text" if isinstance(message, str) else "bytes"
            await send({"type": "websocket.send", kind: message})
    except ConnectionClosed:
        return
