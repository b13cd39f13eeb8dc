"""A small reverse proxy that publishes a server below a path, over HTTP and WebSockets."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

NOT_HERE = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@dataclass(kw_only=True)
class ReverseProxy:
    """Answers on `port` of localhost for the server on port `behind`; says of each request what was asked for.

    `takes_off`: whether the server is asked for what is behind the path; else it gets whole paths.
    """

    path: str
    behind: int
    takes_off: bool
    says: dict[str, str] = field(default_factory=dict)
    """Further headers for the server."""
    port: int = 0
    refused: list[str] = field(default_factory=list)
    """What was asked for outside of the path."""

    async def serve(self, client: asyncio.StreamReader, answer: asyncio.StreamWriter) -> None:
        """Serve one connection, which has one request."""
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            request, *headers = (await client.readuntil(b"\r\n\r\n")).decode("latin-1").strip().split("\r\n")
            method, path, version = request.split(" ")
            if path != self.path and not path.startswith(f"{self.path}/"):
                self.refused.append(f"{method} {path}")
                answer.write(NOT_HERE)
            else:
                path = path.removeprefix(self.path) if self.takes_off else path
                reader, writer = await asyncio.open_connection("127.0.0.1", self.behind)
                writer.write("\r\n".join([f"{method} {path} {version}", *self._rewritten(headers), "", ""]).encode())
                await asyncio.gather(pump(client, writer), pump(reader, answer))
        answer.close()

    def _rewritten(self, headers: list[str]) -> list[str]:
        rows = [tuple(header.split(": ", 1)) for header in headers]
        given = {name.lower(): value for name, value in rows}
        if "upgrade" not in given:
            rows = [(name, value) for name, value in rows if name.lower() != "connection"] + [("Connection", "close")]
        rows = [(name, value) for name, value in rows if name.lower() != "host"]
        said = {"Host": f"localhost:{self.behind}", "X-Forwarded-Host": given["host"], **self.says}
        return [f"{name}: {value}" for name, value in [*rows, *said.items()]]


async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    """Hand over bytes until there are no more."""
    with contextlib.suppress(ConnectionError):
        while data := await source.read(1 << 16):
            sink.write(data)
            await sink.drain()
    sink.close()


@contextlib.contextmanager
def behind(proxy: ReverseProxy) -> Iterator[ReverseProxy]:
    """Run it in a thread until the block ends."""
    loop, started = asyncio.new_event_loop(), threading.Event()

    async def run() -> None:
        server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
        proxy.port = server.sockets[0].getsockname()[1]
        started.set()

    def forever() -> None:
        loop.run_until_complete(run())
        loop.run_forever()

    thread = threading.Thread(target=forever, daemon=True)
    thread.start()
    assert started.wait(10)
    try:
        yield proxy
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
