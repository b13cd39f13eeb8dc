"""Time that metrics and logs add to a click: the same clicks with and without them, in one process, on a trivial model.

python -m benchmarks.observability          # --ray: also with Ray's metrics
"""

import asyncio
import io
import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from serve.core.options import Options
from serve.engine.engine import Engine
from serve.http.app import create_app
from serve.http.observe import Observe
from serve.observing import metrics
from serve.observing.logs import install_logs
from serve.observing.metrics import Metric
from serve.observing.prometheus import PrometheusSink
from tests.serve.conftest import encoded, picture
from tests.serve.disks import DiskPredictor

NUM_CLICKS, NUM_ROUNDS = 150, 14


class Counted:
    """A Sink that counts the values it receives."""

    num = 0

    def put(self, metric: Metric, value: float, labels: tuple[str, ...]) -> None:
        self.num += 1


async def call(app: Any, path: str, body: bytes, kind: str) -> dict[str, Any]:
    sent: list[Any] = []

    bodies = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def receive() -> dict[str, Any]:
        return next(bodies, None) or await asyncio.Future()  # the client stays connected

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"host", b"localhost"), (b"content-type", kind.encode()), (b"content-length", str(len(body)).encode())]
    scope = {"type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b""}
    await app(
        {**scope, "headers": headers, "client": ("127.0.0.1", 1), "root_path": "", "scheme": "http"}, receive, send
    )
    assert sent[0]["status"] < 300, sent
    return json.loads(b"".join(message.get("body", b"") for message in sent[1:]))


async def clicks(app: Any, num: int) -> list[float]:
    """Return the seconds of each click in a new session."""
    opened = await call(app, "/v1/sessions", encoded(picture()), "image/png")
    took = []
    for number in range(num):
        body = json.dumps({"x": number % 60, "y": number % 40}).encode()
        started = time.perf_counter()
        await call(app, f"/v1/sessions/{opened['session_id']}/clicks", body, "application/json")
        took.append(time.perf_counter() - started)
    return took


def main() -> None:
    app = create_app(Engine(DiskPredictor()), Options(clicks_per_second=0, opens_per_minute=0))
    whole = Observe.__call__

    async def bare(self: Observe, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)

    def without() -> None:
        metrics.install(metrics.Nowhere())
        install_logs("off", io.StringIO())
        Observe.__call__ = bare

    def with_all(sink: metrics.Sink, log_format: str) -> Callable[[], None]:
        def ready() -> None:
            metrics.install(sink)
            install_logs(log_format, io.StringIO())
            Observe.__call__ = whole

        return ready

    variants: dict[str, Callable[[], None]] = {
        "nothing": without,
        "Prometheus": with_all(PrometheusSink(), "off"),
        "Prometheus, JSON lines": with_all(PrometheusSink(), "json"),
    }
    if "--ray" in sys.argv:
        from serve.on_ray.environment import prepare_ray_auth

        prepare_ray_auth()
        from serve.on_ray.observing import RaySink
        from serve.on_ray.serving import connect

        connect()
        variants["Ray"] = with_all(RaySink(), "off")
    counted = Counted()
    with_all(counted, "off")()
    asyncio.run(clicks(app, 3))
    counted.num = 0
    asyncio.run(clicks(app, 13))
    print(f"{counted.num / 13:.1f} values per click, including those of opening a session")
    found: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(NUM_ROUNDS):
        for name, ready in variants.items():
            ready()
            found[name].append(statistics.median(asyncio.run(clicks(app, NUM_CLICKS))))
    base = statistics.median(found["nothing"])
    for name, seconds in found.items():
        middle = statistics.median(seconds)
        print(f"{name:24} {1e6 * middle:7.0f} us per click, {1e6 * (middle - base):+5.0f}")


if __name__ == "__main__":
    main()
