"""The application on Ray Serve: the ingress, which manages the sessions, and the functions that build all of it.

The deployments that run the models are in replicas.py. A kill of any process loses no session, because their values
are in a store.
"""

import os
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
import ray.serve as ray_serve
from fastapi import FastAPI
from ray.serve import Application

from models.errors import InputError
from serve.core.options import Options
from serve.core.sources import ONLY, Source
from serve.engine.fleet import Fleet
from serve.http.app import create_app
from serve.loading.model_source import SCHEME, impatient, pin, registry_uri, resolve
from serve.on_ray.environment import ADDRESS, LOCAL
from serve.on_ray.observing import observe_replica
from serve.on_ray.refusals import refusing
from serve.on_ray.replicas import RemoteModel, owner_of
from serve.on_ray.shares import INGRESS_CPUS, Share, share_of

APP_NAME = "maskwright"
"""Name of the application that answers HTTP; with `serve deploy`, of the whole application."""


@ray_serve.deployment(
    num_replicas=1,
    # Open sockets count too; the app itself limits the requests that need the model.
    max_ongoing_requests=1000,
    max_queued_requests=200,
    max_surge_percent=100,
    health_check_period_s=10,
    health_check_timeout_s=30,
    ray_actor_options={"num_cpus": INGRESS_CPUS},
)
@ray_serve.ingress()
class Maskwright:
    """The ingress, with the sessions' values and without a model. Its routes are those of serve/http/app.py."""

    def __init__(self, options: Options, owners: Mapping[str, Any]) -> None:
        self.options, self.owners = options, owners

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Build the app around the models' deployments; Ray Serve calls this in the replica."""
        observe_replica(self.options.log_format)
        timeout_s = self.options.request_timeout_s
        fleet = Fleet({name: RemoteModel(owner, timeout_s) for name, owner in self.owners.items()})
        # behind_serve, because Ray Serve's proxy adds the request id to the answer.
        with refusing():
            return create_app(fleet, self.options, behind_serve=True)


def build_app(args: dict[str, Any]) -> Application:
    """Build the application for `serve run` and `serve deploy` from `args` (see Options); raises InputError.

    Aliases are resolved here, so that replicas that start later serve the same version as the others.
    """
    options = Options.of(args)
    if any(each.place.startswith(SCHEME) for each in options.checkpoint):
        uri = registry_uri(options.tracking_uri)  # now, because a replica may have another environment
        with impatient():
            sources = [Source(each.name, pin(each.place, uri)) for each in options.checkpoint]
        options = replace(options.serving(sources), tracking_uri=uri)
    return bind(options)


def with_sessions(options: Options) -> Options:
    """Choose a file of sessions if none is given, so that binding again gives the same deployments."""
    return replace(
        options, sessions=options.sessions or str(Path(tempfile.mkdtemp(prefix="maskwright-")) / "sessions.db")
    )


def bind(options: Options) -> Application:
    """Bind one application of all models and the ingress, which `serve deploy` updates as a whole."""
    options = with_sessions(options)
    return Maskwright.bind(options, owners_of(options, halves_of(options)))


def halves_of(options: Options) -> dict[str, bool]:
    """Return, by name, whether each model's network has two halves."""
    return {name: is_split(each) for name, each in options.models().items()}


def owners_of(options: Options, split: Mapping[str, bool]) -> dict[str, Application]:
    """Bind the deployments of each model, by name; `split` says which models get two.

    A network without halves may get two deployments, and one with halves may run as a whole on FirstClick: an update
    keeps the existing deployments, because removing one would fail its calls.
    """
    models = replace(options, sessions=None, tokens=None).models()  # only the ingress needs these
    share = share_for(options, len(models))
    return {
        name: owner_of("" if name == ONLY else f"_{name}", each, share, split[name]) for name, each in models.items()
    }


def is_split(options: Options) -> bool:
    """Return whether the checkpoint's network has two halves.

    True for a checkpoint that cannot be read, so that its replicas report why. Without the second deployment, Ray Serve
    would only report that `Correction`, which the configuration mentions, does not exist.
    """
    import torch

    from models import checkpoint

    try:
        with impatient():
            description = checkpoint.describe(resolve(options.place, options.tracking_uri))
    except InputError:
        return True
    with torch.device("meta"):
        return checkpoint.network_of(description).traits.split


def share_for(options: Options, num_models: int) -> Share:
    """Return what each model reserves: its share of a Ray that this server started, else what the options say.

    The resources of a Ray that was already running are ignored, because it may start empty and grow; there, device
    `auto` means the CPU.
    """
    if ray.is_initialized() and os.environ.get(ADDRESS) == LOCAL:
        have = ray.cluster_resources()
        gpus = have.get("GPU", 0.0)
        use_gpu = options.backend == "torch" and options.device != "cpu" and (options.device == "cuda" or gpus >= 1)
        return share_of(num_models, have.get("CPU", 1.0), gpus, use_gpu)
    return Share(cpus=options.model_cpus, gpus=options.model_gpus if options.device == "cuda" else 0.0)
