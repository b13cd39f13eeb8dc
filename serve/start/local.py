"""A server without Ray: its engines run in this process and can be replaced while it serves."""

from collections.abc import Iterator
from contextlib import contextmanager

from serve.core.options import Options
from serve.engine.local_model import LocalModel
from serve.http.app import create_app, fleet_of
from serve.http.server import answering
from serve.http.tls import Tls
from serve.loading.build import build_engine
from serve.loading.follow import Take
from serve.observing import metrics
from serve.observing.prometheus import PrometheusSink, add_metrics


class LocalFleet:
    """The models of a server in one process. Creating it loads every model of `options`, or raises InputError."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.fleet = fleet_of({name: build_engine(each) for name, each in options.models().items()}, options)

    def take(self, name: str, place: str) -> None:
        """Replace the checkpoint of a model; raises InputError, and changes nothing, if it cannot be used."""
        moved = self.options.moved(name, place)
        engine = build_engine(moved.models()[name])
        self.fleet.replace(name, LocalModel(engine, self.options, len(self.fleet.names)))
        self.options = moved


@contextmanager
def serving_here(options: Options, host: str, port: int, tls: Tls | None = None) -> Iterator[Take]:
    """Serve while the block runs, which starts once requests are answered; raises InputError.

    Yields the function that replaces a model's checkpoint, by name.
    """
    sink = PrometheusSink()
    metrics.install(sink)
    local = LocalFleet(options)
    app = create_app(local.fleet, options)
    add_metrics(app, sink, asks_for_token=bool(options.tokens))
    with answering(app, host, port, tls):
        yield local.take
