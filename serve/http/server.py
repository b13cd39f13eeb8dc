"""Answer HTTP in a thread of this process, which finishes requests in flight before it stops."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

from models.errors import InputError
from serve.http.tls import Tls

DRAIN_S = 25
"""Seconds to wait for requests in flight during shutdown."""
START_S = 30.0
MAX_MESSAGE_BYTES = 1 << 20
"""Largest message of a WebSocket that uvicorn accepts, before the app checks its limits."""


@contextmanager
def answering(app: ASGIApp, host: str, port: int, tls: Tls | None = None) -> Iterator[None]:
    """Answer while the block runs, which starts once connections are accepted; raises InputError if none can be."""
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            host=host,
            port=port,
            log_level="warning",
            log_config=None,  # otherwise uvicorn writes its own log
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
                raise InputError(
                    f"cannot listen on {host} port {port}: stop the program there or choose another --port"
                )
            time.sleep(0.01)
        yield
    finally:
        server.should_exit = True
        thread.join(DRAIN_S + 5)


def _run(server: uvicorn.Server) -> None:
    try:
        server.run()
    except SystemExit:  # raised if uvicorn cannot listen, after it has logged the reason
        return
