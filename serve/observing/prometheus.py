"""Metrics without Ray: kept in this process and served in Prometheus's format at GET /metrics."""

import ipaddress

from fastapi import FastAPI, Request, Response
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from serve.core.problems import Problem
from serve.observing.metrics import METRICS, Metric

TEXT = "text/plain; version=0.0.4; charset=utf-8"


class PrometheusSink:
    """A Sink with a separate registry, so that several servers can run in one process."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._kept = {metric: self._made(metric) for metric in METRICS}

    def _made(self, metric: Metric) -> Histogram | Counter | Gauge:
        about = (metric.name, metric.help, metric.labels)
        if metric.kind == "histogram":
            return Histogram(*about, registry=self._registry, buckets=metric.bounds)
        return (Counter if metric.kind == "counter" else Gauge)(*about, registry=self._registry)

    def put(self, metric: Metric, value: float, labels: tuple[str, ...]) -> None:
        """Record a value."""
        kept = self._kept[metric]
        kept = kept.labels(*labels) if labels else kept
        if isinstance(kept, Histogram):
            kept.observe(value)
        elif isinstance(kept, Counter):
            kept.inc(value)
        else:
            kept.set(value)

    def text(self) -> bytes:
        """Return all metrics in Prometheus's text format (TEXT)."""
        return generate_latest(self._registry)


def add_metrics(app: FastAPI, sink: PrometheusSink, asks_for_token: bool) -> None:
    """Add GET /metrics, for the role admin (serve/http/access.py) or, without tokens, only for this machine."""

    @app.get("/metrics", include_in_schema=False)
    def metrics(request: Request) -> Response:
        if not asks_for_token and not _is_near(request):
            raise Problem("address_refused", "without tokens, only the server's machine may read the metrics")
        return Response(sink.text(), media_type=TEXT, headers={"Cache-Control": "no-store"})


def _is_near(request: Request) -> bool:
    try:
        return request.client is not None and ipaddress.ip_address(request.client.host).is_loopback
    except ValueError:
        return False
