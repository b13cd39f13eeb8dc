"""HTTP answered by a thread of this process: what is in flight ends before it stops."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

from models.errors import InputError
from serve.http.tls import Tls

DRAIN_S = 25
"""For which requests that are under way are waited for once nothing new is taken."""
START_S = 30.0
MAX_MESSAGE_BYTES = 1 << 20
"""Of a WebSocket, before any of our own limits is asked."""


@contextmanager
def answering(app: ASGIApp, host: str, port: int, tls: Tls | None = None) -> Iterator[None]:
    """Answer while the block runs, which begins when connections are taken; raises InputError where none can be."""
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            host=host,
            port=port,
            log_level="warning",
            log_config=None,  # its own would write past ours
            access_log=False,
            server_header=False,
            proxy_headers=False,  # serve/http/forwarded.py reads them
            ssl_certfile=tls and tls.certificate,
            ssl_keyfile=tls and tls.key,
            ws_max_size=MAX_MESSAGE_BYTES,
            timeout_graceful_shutdown=DRAIN_S,
        )
    )
    thread = threading.Thread(target=_run, args=(server,), name="http", daemon=True)
    thread.start()
    try:
        deadline = time.monotonic() + START_S
        while not server.started:
            if not thread.is_alive() or time.monotonic() > deadline:
                raise InputError(f"cannot listen on {host} port {port}: stop what runs there, or choose another port")
            time.sleep(0.01)
        yield
    finally:
        server.should_exit = True
        thread.join(DRAIN_S + 5)


def _run(server: uvicorn.Server) -> None:
    try:
        server.run()
    except SystemExit:  # how it says that it cannot listen; the reason is logged
        return
