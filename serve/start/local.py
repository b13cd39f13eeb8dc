"""The models of a server without Ray: engines of this process, one of which may be replaced while it serves."""

from serve.engine.masks import LocalMasks
from serve.http.app import fleet_of
from serve.loading.args import ServeArgs, build_engine, build_settings


class LocalFleet:
    """Reads every model of `args`, or raises InputError."""

    def __init__(self, args: ServeArgs) -> None:
        self.args, self.settings = args, build_settings(args)
        self.fleet = fleet_of({name: build_engine(each) for name, each in args.models().items()}, self.settings)

    def take(self, name: str, place: str) -> None:
        """Put another checkpoint in the place of a model; one that is of no use changes nothing: raises InputError."""
        moved = self.args.moved(name, place)
        engine = build_engine(moved.models()[name])
        self.fleet.replace(name, LocalMasks(engine, self.settings, len(self.fleet.names)))
        self.args = moved
