"""Metrics with Ray: values go to the metrics agent of each node, which Prometheus scrapes."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from ray.util.metrics import Counter, Gauge, Histogram

from serve.core.options import LogFormat
from serve.observing import metrics
from serve.observing.logs import install_logs
from serve.observing.metrics import Metric

REFRESH_S = 5.0
"""Seconds between updates of gauges. Ray drops a gauge that was not set for two of its reports, 10 s apart."""


class RaySink:
    """A Sink on ray.util.metrics, for a process of Ray; exported names have the prefix ray_."""

    def __init__(self) -> None:
        self._kept: dict[Metric, Histogram | Counter | Gauge] = {}
        self._making = threading.Lock()
        self._gauges: dict[tuple[Metric, tuple[str, ...]], float] = {}
        threading.Thread(target=self._refresh, name="gauges", daemon=True).start()

    def put(self, metric: Metric, value: float, labels: tuple[str, ...]) -> None:
        """Record a value."""
        kept, tags = self._metric(metric), dict(zip(metric.labels, labels, strict=True))
        if isinstance(kept, Histogram):
            kept.observe(value, tags)
        elif isinstance(kept, Counter):
            kept.inc(value, tags)
        else:
            self._gauges[metric, labels] = value
            kept.set(value, tags)

    def _metric(self, metric: Metric) -> Histogram | Counter | Gauge:
        # Made on first use, because Ray Serve makes some of these metrics itself when its proxies answer.
        if metric not in self._kept:
            with self._making:
                if metric not in self._kept:
                    self._kept[metric] = _made(metric)
        return self._kept[metric]

    def _refresh(self) -> None:
        pause = threading.Event()
        while not pause.wait(REFRESH_S):
            for metric, labels in list(self._gauges):
                gauge, tags = self._metric(metric), dict(zip(metric.labels, labels, strict=True))
                assert isinstance(gauge, Gauge)
                gauge.set(self._gauges[metric, labels], tags)


def _made(metric: Metric) -> Histogram | Counter | Gauge:
    if metric.kind == "histogram":
        return Histogram(metric.name, metric.help, boundaries=list(metric.bounds), tag_keys=metric.labels)
    return (Counter if metric.kind == "counter" else Gauge)(metric.name, metric.help, tag_keys=metric.labels)


def observe_replica(log_format: LogFormat) -> None:
    """Install metrics and logs in this process of Ray Serve."""
    metrics.install(RaySink())
    install_logs(log_format)


@contextmanager
def observing() -> Iterator[None]:
    """Send the metrics of this process, which is connected to Ray, to Ray while the block runs."""
    before = metrics.install(_sink())
    try:
        yield
    finally:
        metrics.install(before)


@cache
def _sink() -> RaySink:
    return RaySink()  # once per process: Ray accepts each name once, and the gauges need a thread
