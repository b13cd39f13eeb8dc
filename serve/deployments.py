"""Ray Serve around the HTTP app: one deployment, one replica, sessions in its memory.

More replicas would need a session to find its replica; until serving is split into first clicks and corrections,
`num_replicas` stays 1. The only file of serve/ that imports Ray.
"""

import logging
import os
import secrets
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import ray.serve as ray_serve
from fastapi import FastAPI
from ray.serve import Application
from ray.serve.config import HTTPOptions

from models.errors import InputError
from serve.api import create_app
from serve.engine import Engine
from serve.model_source import resolve
from serve.settings import Settings

APP_NAME = "maskwright"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeArgs:
    """What a deployment is told; every field may come as text, as `serve run module:builder key=value` sends it.

    `checkpoint` a folder or models:/name@alias; `refinement` a name (None: what the checkpoint recommends).
    """

    checkpoint: str
    refinement: str | None = None
    examples: str | None = None
    tracking_uri: str | None = None
    num_threads: int = 0

    @classmethod
    def of(cls, args: dict[str, Any]) -> "ServeArgs":
        """Check the arguments of a builder; raises InputError for a missing or unknown one."""
        known = set(cls.__slots__)
        unknown = sorted(set(args) - known)
        if unknown:
            raise InputError(f"unknown argument {unknown[0]!r}; known: {', '.join(sorted(known))}")
        if not args.get("checkpoint"):
            raise InputError("no checkpoint: expected checkpoint=FOLDER or checkpoint=models:/name@alias")
        num_threads = str(args.get("num_threads") or 0)
        if not num_threads.isdigit():
            raise InputError(f"num_threads is {num_threads!r}: expected 0 (let torch decide) or a positive number")
        return cls(**{**args, "num_threads": int(num_threads)})


def build_engine(args: ServeArgs) -> Engine:
    """Load the model in this process; raises InputError."""
    import torch

    from models.predictor import Predictor
    from models.refinement import REFINEMENTS

    if args.num_threads:
        torch.set_num_threads(args.num_threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    predictor = Predictor(resolve(args.checkpoint, args.tracking_uri), refinement=args.refinement, device=device)
    names = [name for name, refinement in REFINEMENTS.items() if refinement == predictor.refinement]
    return Engine(predictor, names[0] if names else args.refinement or "as the checkpoint says")


def build_settings(args: ServeArgs) -> Settings:
    """The settings that follow from the arguments."""
    return Settings(examples=Path(args.examples) if args.examples else None)


@ray_serve.deployment(
    num_replicas=1,
    max_ongoing_requests=100,
    max_queued_requests=200,
    health_check_period_s=10,
    health_check_timeout_s=30,
    ray_actor_options={"num_cpus": 1},
)
@ray_serve.ingress()
class Maskwright:
    """The replica: it loads the model once and holds the sessions. Its routes are those of serve/api.py."""

    def __init__(self, args: ServeArgs) -> None:
        self.args = args
        self.engine = build_engine(args)

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Build the app around the engine that __init__ has loaded; Ray Serve calls this in the replica."""
        return create_app(self.engine, build_settings(self.args))

    def check_health(self) -> None:
        """Ask for a new replica after several failures of the network in a row."""
        if not self.engine.healthy:
            raise RuntimeError("the network failed several times in a row")


def build_app(args: dict[str, Any]) -> Application:
    """Build the application for `serve run`, `serve deploy` and `run_local`; `args` as in ServeArgs."""
    return Maskwright.bind(ServeArgs.of(args))


def prepare_ray_auth() -> None:
    """Give a Ray that is about to start here a token of its own, unless the environment already decides.

    Otherwise Ray would write a token file into the home folder, readable by everyone. The mode is left unset: a local
    `ray.init` then turns tokens on by itself, also in this process, which has read the environment at import.
    """
    decided = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_ADDRESS")
    if not any(name in os.environ for name in decided):
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def start(args: ServeArgs, host: str, port: int) -> None:
    """Serve on the Ray of RAY_ADDRESS, or on one started in this process tree, until `stop`; returns when ready."""
    prepare_ray_auth()
    if not ray.is_initialized():
        address = os.environ.get("RAY_ADDRESS") or "local"
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    ray_serve.start(http_options=HTTPOptions(host=host, port=port), logging_config={"enable_access_log": False})
    ray_serve.run(Maskwright.bind(args), name=APP_NAME, route_prefix="/")


def stop() -> None:
    """Stop serving, and the Ray of this process."""
    ray_serve.shutdown()
    ray.shutdown()


def run_local(args: ServeArgs, host: str, port: int, on_ready: Callable[[], None]) -> None:
    """Serve until Ctrl-C or SIGTERM; `on_ready` is called once requests are answered."""
    stopped = threading.Event()
    try:
        start(args, host, port)
        for number in (signal.SIGINT, signal.SIGTERM):  # after Ray, which installs its own
            signal.signal(number, lambda *_: stopped.set())
        on_ready()
        stopped.wait()
    finally:
        stop()
