"""GET /metrics, for servers without Ray: what Prometheus asks for."""

import ipaddress

from fastapi import FastAPI, Request, Response

from serve.problems import Problem
from serve.prometheus import TEXT, PrometheusSink


def add_metrics(app: FastAPI, sink: PrometheusSink, asks_for_token: bool) -> None:
    """Add GET /metrics: for the role admin (serve/access.py) or, without tokens, for this machine alone."""

    @app.get("/metrics", include_in_schema=False)
    def metrics(request: Request) -> Response:
        if not asks_for_token and not _is_near(request):
            raise Problem("address_refused", "without tokens the metrics are for callers on the server's own machine")
        return Response(sink.text(), media_type=TEXT, headers={"Cache-Control": "no-store"})


def _is_near(request: Request) -> bool:
    try:
        return request.client is not None and ipaddress.ip_address(request.client.host).is_loopback
    except ValueError:
        return False
