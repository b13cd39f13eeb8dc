"""The application on Ray Serve: the ingress, which keeps the sessions' values, and how it is put together.

The deployments that run the models are in replicas.py. A kill of any process loses no session: values are in a file.
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
"""The application that answers HTTP; of `serve deploy`, all."""


@ray_serve.deployment(
    num_replicas=1,
    # Sockets count too, as long as they are open; what needs the model is bounded by the app itself.
    max_ongoing_requests=1000,
    max_queued_requests=200,
    max_surge_percent=100,
    health_check_period_s=10,
    health_check_timeout_s=30,
    ray_actor_options={"num_cpus": INGRESS_CPUS},
)
@ray_serve.ingress()
class Maskwright:
    """The ingress: it holds the sessions' values and no model. Its routes are those of serve/http/app.py."""

    def __init__(self, options: Options, owners: Mapping[str, Any]) -> None:
        self.options, self.owners = options, owners

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Build the app around those who run the models; Ray Serve calls this in the replica."""
        observe_replica(self.options.log_format)
        timeout_s = self.options.request_timeout_s
        fleet = Fleet({name: RemoteModel(owner, timeout_s) for name, owner in self.owners.items()})
        # Ray Serve's proxy names the request in the answer.
        with refusing():
            return create_app(fleet, self.options, behind_serve=True)


def build_app(args: dict[str, Any]) -> Application:
    """Build the application for `serve run` and `serve deploy`; `args` as in Options; raises InputError.

    Aliases are settled here: replicas that start later must not serve another version than those beside them.
    """
    options = Options.of(args)
    if any(each.place.startswith(SCHEME) for each in options.checkpoint):
        uri = registry_uri(options.tracking_uri)  # a replica elsewhere may have another environment
        with impatient():
            sources = [Source(each.name, pin(each.place, uri)) for each in options.checkpoint]
        options = replace(options.serving(sources), tracking_uri=uri)
    return bind(options)


def with_sessions(options: Options) -> Options:
    """Settle where sessions are, so that binding again gives the same deployments."""
    return replace(
        options, sessions=options.sessions or str(Path(tempfile.mkdtemp(prefix="maskwright-")) / "sessions.db")
    )


def bind(options: Options) -> Application:
    """Bind one application of all models and the ingress: what `serve deploy` updates as a whole."""
    options = with_sessions(options)
    return Maskwright.bind(options, owners_of(options, halves_of(options)))


def halves_of(options: Options) -> dict[str, bool]:
    """Whether each model's network has two halves, by name."""
    return {name: is_split(each) for name, each in options.models().items()}


def owners_of(options: Options, split: Mapping[str, bool]) -> dict[str, Application]:
    """Bind the deployments of each model, by name, in as many halves as `split` says.

    A network without halves may be given two deployments, and one with two may be whole on FirstClick: an update keeps
    those that there are, for one that vanished would take calls with it.
    """
    models = replace(options, sessions=None, tokens=None).models()  # which are the ingress's business
    share = share_for(options, len(models))
    return {
        name: owner_of("" if name == ONLY else f"_{name}", each, share, split[name]) for name, each in models.items()
    }


def is_split(options: Options) -> bool:
    """Whether the checkpoint's network has two halves.

    True for one that cannot be read here: its replicas say why. Without the second deployment Ray Serve would only say
    that `Correction`, for which a configuration has settings, does not exist.
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
    """What each model reserves: its share of a Ray that is this server's own, else what the options say.

    A Ray that was joined is not asked what it has: it may begin with nothing, and grow. There `auto` is a CPU.
    """
    if ray.is_initialized() and os.environ.get(ADDRESS) == LOCAL:
        have = ray.cluster_resources()
        gpus = have.get("GPU", 0.0)
        use_gpu = options.backend == "torch" and options.device != "cpu" and (options.device == "cuda" or gpus >= 1)
        return share_of(num_models, have.get("CPU", 1.0), gpus, use_gpu)
    return Share(cpus=options.model_cpus, gpus=options.model_gpus if options.device == "cuda" else 0.0)
