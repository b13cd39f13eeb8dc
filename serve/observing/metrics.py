"""The metrics of the server, and the sink that receives their values. Pure: no Ray, no Prometheus.

Values are dropped until `install` sets a sink: Ray's metrics agent in a process of Ray (serve/on_ray/observing.py),
otherwise this process (prometheus.py). Labels come from short lists. They never hold a session, a path, a token or a
file name, because each would be a new time series, and a leak.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

Kind = Literal["histogram", "counter", "gauge"]
MS = (1, 2, 5, 10, 20, 30, 50, 75, 100, 150, 200, 300, 500, 750, 1_000, 2_000, 5_000, 10_000, 30_000, 60_000)
"""Upper bounds of the buckets in milliseconds: fine for clicks, and up to the length of timeouts."""
SIZES = (1, 2, 4, 8, 16, 32, 64)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Metric:
    """A metric. Counters are exported with the suffix _total; `bounds` are the bounds of a histogram's buckets."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    bounds: tuple[int, ...] = ()


REQUEST_MS = Metric(
    name="maskwright_request_ms",
    kind="histogram",
    help="Time of a request, or of a message of a live socket. click: first or correction, if a mask was made",
    labels=("route", "status", "model", "click"),
    bounds=MS,
)
PROBLEMS = Metric(name="maskwright_problems", kind="counter", help="Error responses by code", labels=("route", "code"))
QUEUE_MS = Metric(
    name="maskwright_queue_ms",
    kind="histogram",
    help="Time in a queue. at: session (an earlier change of it), image (decoders), preparation, network, batch",
    labels=("at",),
    bounds=MS,
)
CALL_MS = Metric(
    name="maskwright_call_ms",
    kind="histogram",
    help="Time of a call from the ingress to a replica and back",
    labels=("call",),
    bounds=MS,
)
WORK_MS = Metric(
    name="maskwright_work_ms", kind="histogram", help="Time of a call inside the replica", labels=("call",), bounds=MS
)
FORWARD_MS = Metric(
    name="maskwright_forward_ms",
    kind="histogram",
    help="Time of a batch in the network. half: start, encode (heavy), correct, prompt (light), whole, close_up",
    labels=("half", "version"),
    bounds=MS,
)
BATCH_SIZE = Metric(
    name="maskwright_batch_size",
    kind="histogram",
    help="Views in a batch",
    labels=("half", "version"),
    bounds=SIZES,
)
VIEWS = Metric(
    name="maskwright_views",
    kind="counter",
    help="Views that went through the network; divided by the batches, their mean size (Ray only estimates sums)",
    labels=("half", "version"),
)
DECODE_MS = Metric(name="maskwright_decode_ms", kind="histogram", help="Time to decode an image file", bounds=MS)
CACHE_LOOKUPS = Metric(
    name="maskwright_cache_lookups",
    kind="counter",
    help="Lookups of sessions in the cache of the model's process. found: hit, or miss (computed again)",
    labels=("found", "version"),
)
CACHE_EVICTIONS = Metric(
    name="maskwright_cache_evictions", kind="counter", help="Sessions evicted from the cache", labels=("version",)
)
CACHE_BYTES = Metric(
    name="maskwright_cache_bytes",
    kind="gauge",
    help="Bytes of cached sessions: images, masks, features",
    labels=("version",),
)
SESSIONS = Metric(name="maskwright_sessions", kind="gauge", help="Open sessions of all servers with this store")
SOCKETS = Metric(name="maskwright_live_sockets", kind="gauge", help="Open live sockets of this ingress")
MODEL_NAN = Metric(name="maskwright_model_nan", kind="counter", help="Masks with NaN or infinity", labels=("version",))
RETRIES = Metric(
    name="maskwright_retries",
    kind="counter",
    help="Repetitions. what: change (a client repeated it), file (a replica needed the image file again)",
    labels=("what",),
)
HTTP_REQUESTS = Metric(
    name="serve_num_http_requests",
    kind="counter",
    help="HTTP requests, under the name of Ray Serve's proxies, when another process answers instead",
    labels=("route", "method", "application", "status_code"),
)
HTTP_ERRORS = Metric(
    name="serve_num_http_error_requests",
    kind="counter",
    help="HTTP requests with a status of 400 and above, under the name of Ray Serve's proxies",
    labels=("route", "error_code", "method", "application"),
)
HTTP_MS = Metric(
    name="serve_http_request_latency_ms",
    kind="histogram",
    help="Time of an HTTP request, under the name of Ray Serve's proxies",
    labels=("method", "route", "application", "status_code"),
    bounds=MS,
)
METRICS = (
    REQUEST_MS,
    PROBLEMS,
    QUEUE_MS,
    CALL_MS,
    WORK_MS,
    FORWARD_MS,
    BATCH_SIZE,
    VIEWS,
    DECODE_MS,
    CACHE_LOOKUPS,
    CACHE_EVICTIONS,
    CACHE_BYTES,
    SESSIONS,
    SOCKETS,
    MODEL_NAN,
    RETRIES,
    HTTP_REQUESTS,
    HTTP_ERRORS,
    HTTP_MS,
)


class Sink(Protocol):
    """Receives values. `put` is called from any thread during requests, so it must be fast and never raise.

    `value` is an observation of a histogram, the increment of a counter, or the value of a gauge; `labels` are in the
    metric's order.
    """

    def put(self, metric: Metric, value: float, labels: tuple[str, ...]) -> None:
        """Record a value."""
        ...


class Nowhere:
    """A Sink that drops all values."""

    def put(self, metric: Metric, value: float, labels: tuple[str, ...]) -> None:
        """Drop a value."""


_sink: Sink = Nowhere()


def install(sink: Sink) -> Sink:
    """Send the values of this process to `sink` from now on; return the previous sink."""
    global _sink
    before, _sink = _sink, sink
    return before


def put(metric: Metric, value: float, *labels: str) -> None:
    """Observe, add or set a value, according to the metric's kind."""
    _sink.put(metric, value, labels)


def since(metric: Metric, started: float, *labels: str) -> None:
    """Observe the milliseconds since `started` (time.perf_counter)."""
    _sink.put(metric, 1000 * (time.perf_counter() - started), labels)


@contextmanager
def timed(metric: Metric, *labels: str) -> Iterator[None]:
    """Observe how long the block takes, unless it raises."""
    started = time.perf_counter()
    yield
    since(metric, started, *labels)


class Waited(AbstractContextManager[object]):
    """A lock or semaphore that records each wait for it in QUEUE_MS."""

    def __init__(self, inner: "threading.Lock | threading.Semaphore", at: str) -> None:
        self._inner, self._at = inner, at

    def __enter__(self) -> object:
        started = time.perf_counter()
        self._inner.acquire()
        since(QUEUE_MS, started, self._at)
        return self

    def __exit__(self, *_: Any) -> None:
        self._inner.release()
