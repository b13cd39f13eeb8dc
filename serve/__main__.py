"""`python -m serve [--checkpoint DIR]`: run the server on this machine, on Ray Serve or (--plain) on uvicorn alone."""

import signal
import sys
import tempfile
import threading
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

from models.errors import InputError
from models.flags import parse
from serve.core.sources import Source
from serve.loading.checkpoints import Checkpoints
from serve.loading.follow import Follower, Take, following
from serve.loading.model_source import SCHEME, is_alias, local_registry_uri
from serve.observing.logs import install_logs
from serve.on_ray.environment import prepare_ray_auth
from serve.sessions.open_store import settled
from serve.start.command import Serve, check, default_sessions


def say(line: str) -> None:
    """Print a line to the terminal at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def run(command: Serve) -> None:
    """Serve until Ctrl-C; raises InputError for invalid options, before anything starts."""
    check(command)
    with tempfile.TemporaryDirectory(prefix="maskwright-", ignore_cleanup_errors=True) as home:
        _run(command, Path(home))


def _run(command: Serve, home: Path) -> None:
    from models.checkpoint import describe
    from models.onnx_backend import onnx_files
    from models.refinement import named

    sources = command.checkpoint
    registered = any(each.place.startswith(SCHEME) for each in sources)
    checkpoints = Checkpoints(local_registry_uri(command.tracking_uri) if registered else None, home)
    pinned = {each.name: checkpoints.pin(each.place) for each in sources}
    places = {name: checkpoints.load(place) for name, place in pinned.items()}
    refinement = command.refinement
    if refinement is not None and refinement.endswith(".json"):
        refinement = absolute(refinement)
    for place in places.values():
        if command.backend == "onnx":
            onnx_files(place)  # once, before every replica tries to make them
        named(refinement or describe(place).get("info", {}).get("refinement"))
    options = replace(
        command.options(),
        checkpoint=tuple(Source(name, place) for name, place in places.items()),
        refinement=refinement,
        tracking_uri=None,
        examples=absolute(command.examples),
        tokens=absolute(command.tokens),
        sessions=settled(command.sessions or default_sessions(command.port)),
        hosts=(command.host, *command.hosts),
    )

    def follow(take: Take) -> AbstractContextManager[None]:
        def take_and_drop(name: str, place: str) -> None:
            take(name, place)
            places[name] = place
            checkpoints.keep(places.values())

        aliases = [each for each in sources if is_alias(each.place)] if command.follow else []
        follower = Follower(aliases, pinned, checkpoints.pin, checkpoints.fetch, take_and_drop) if aliases else None
        return following(follower, command.follow)

    say(f"Starting {command.url} ... (Ctrl-C stops)")
    install_logs(options.log_format)
    if command.plain:
        from serve.start.local import serving_here

        serving = serving_here(options, command.host, command.port, command.tls)
    else:
        prepare_ray_auth()  # before ray is imported
        from serve.on_ray.serving import serving as serving_on_ray

        serving = serving_on_ray(
            options, command.host, command.port, command.metrics_port, proxy=command.proxy, tls=command.tls
        )
    with serving as take, follow(take):
        until_stopped(f"Ready: open {command.url}")


def absolute(path: str | None) -> str | None:
    """Return an absolute path, for processes that run in other folders."""
    return str(Path(path).resolve()) if path else None


def until_stopped(ready: str) -> None:
    """Print `ready`, and wait for Ctrl-C or SIGTERM."""
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):  # after Ray, which installs handlers too
        signal.signal(number, lambda *_: stopped.set())
    say(ready)
    stopped.wait()


def main() -> None:
    """Run the command; a user's mistake becomes one line on stderr and exit status 2."""
    try:
        run(parse(Serve, sys.argv[1:], prog="python -m serve"))
    except InputError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)
    except KeyboardInterrupt:  # before the server is ready, or a second one while it stops
        sys.exit(130)


if __name__ == "__main__":
    main()
