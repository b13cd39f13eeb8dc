"""The application on Ray Serve: the ingress, which keeps the sessions' values, and how it is put together.

The deployments that run the models are in replicas.py. A kill of any process loses no session: values are in a file.
"""

import os
import secrets
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
import ray.serve as ray_serve
from fastapi import FastAPI
from ray.serve import Application

from models.errors import InputError
from serve.core.sources import ONLY, Source, join_sources, read_sources
from serve.engine.fleet import Fleet
from serve.http.app import create_app
from serve.loading.args import ServeArgs, build_settings
from serve.loading.model_source import SCHEME, impatient, pin, registry_uri, resolve
from serve.on_ray.environment import MEMORY
from serve.on_ray.observing import observe_replica
from serve.on_ray.replicas import RemoteMasks, owner_name, owner_of, versioned
from serve.on_ray.shares import share_of

APP_NAME = "maskwright"


@ray_serve.deployment(
    num_replicas=1,
    # Sockets count too, as long as they are open; what needs the model is bounded by the app itself.
    max_ongoing_requests=1000,
    max_queued_requests=200,
    max_surge_percent=100,
    health_check_period_s=10,
    health_check_timeout_s=30,
    ray_actor_options={"num_cpus": 0.1},
)
@ray_serve.ingress()
class Maskwright:
    """The ingress: it holds the sessions' values and no model. Its routes are those of serve/http/app.py."""

    def __init__(self, args: ServeArgs, owners: Mapping[str, Any]) -> None:
        self.args, self.owners = args, owners

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Build the app around those who run the models; Ray Serve calls this in the replica."""
        observe_replica(self.args.log_format)
        fleet = Fleet({name: RemoteMasks(owner) for name, owner in self.owners.items()})
        # Ray Serve's proxy names the request in the answer.
        return create_app(fleet, replace(build_settings(self.args), answers_request_id=False))


@ray_serve.deployment(num_replicas=1, ray_actor_options={"num_cpus": 0})
class Models:
    """Holds the models of one application together where a process outside of Ray Serve answers HTTP: no more."""

    def __init__(self, owners: Mapping[str, Any]) -> None:
        self.owners = owners


def build_app(args: dict[str, Any]) -> Application:
    """Build the application for `serve run` and `serve deploy`; `args` as in ServeArgs; raises InputError.

    Aliases are settled here: replicas that start later must not serve another version than those beside them.
    """
    checked = ServeArgs.of(args)
    sources = read_sources([checked.checkpoint])
    if any(each.place.startswith(SCHEME) for each in sources):
        uri = registry_uri(checked.tracking_uri)  # a replica elsewhere may have another environment
        with impatient():
            sources = tuple(Source(each.name, pin(each.place, uri)) for each in sources)
        checked = replace(checked, tracking_uri=uri, checkpoint=join_sources(sources))
    return bind(checked)


def settled(args: ServeArgs) -> ServeArgs:
    """Settle what depends on the process that binds, so that binding again gives the same deployments."""
    return replace(
        args,
        # Ray sets OMP_NUM_THREADS to the CPUs that a replica reserves, so torch would decide on one thread.
        num_threads=args.num_threads or os.cpu_count() or 1,
        sessions=args.sessions or str(Path(tempfile.mkdtemp(prefix="maskwright-")) / "sessions.db"),
    )


@dataclass(frozen=True, slots=True)
class Release:
    """What updates of one application share: `name`, and which models (by name) have a deployment for each half.

    An update replaces the replicas of those models alone that changed. Deployments stay: one that vanished would take
    calls of the ingress with it. A network without halves is then asked through Correction, and one with two may be
    whole on FirstClick.
    """

    name: str
    split: Mapping[str, bool]

    @staticmethod
    def of(args: ServeArgs) -> "Release":
        """A separate release: a Ray may hold replicas of an earlier process, whose code was another."""
        return Release(secrets.token_hex(4), {name: is_split(each) for name, each in args.models().items()})


def bind(args: ServeArgs, release: Release | None = None, *, ingress: bool = True) -> Application:
    """Bind the deployments: those of each model, and the ingress. Without a `release` all of them count as new."""
    args = settled(args)
    settings, models = build_settings(args), args.models()
    resources = ray.cluster_resources() if ray.is_initialized() else {}
    cpus, gpus = resources.get("CPU", float(os.cpu_count() or 1)), resources.get("GPU", 0.0)
    share = share_of(len(models), cpus, gpus, wants_gpu(args.device))
    split = release.split if release else {name: is_split(each) for name, each in models.items()}
    label = release.name if release else None
    owners = {
        name: owner_of("" if name == ONLY else f"_{name}", each, settings, share, MEMORY, split[name], label)
        for name, each in models.items()
    }
    if not ingress:
        return versioned(Models, label).bind(owners)
    return versioned(Maskwright, label, replace(args, checkpoint="", tracking_uri=None)).bind(args, owners)


def remote_fleet(args: ServeArgs, release: Release) -> Fleet:
    """The models that are deployed, as a process outside of Ray Serve reaches them."""
    names = {name: owner_name("" if name == ONLY else f"_{name}", release.split[name]) for name in args.models()}
    return Fleet(
        {
            name: RemoteMasks(ray_serve.get_deployment_handle(each, APP_NAME), direct=True)
            for name, each in names.items()
        }
    )


def is_split(args: ServeArgs) -> bool:
    """Whether the checkpoint's network has two halves; one that cannot be read here is refused by the replica."""
    import torch

    from models import checkpoint

    try:
        with impatient():
            description = checkpoint.describe(resolve(args.checkpoint, args.tracking_uri))
    except InputError:
        return False
    with torch.device("meta"):
        return checkpoint.network_of(description).traits.split


def wants_gpu(device: str) -> bool:
    """Whether the replica should ask Ray for a GPU: if it has to, or may choose and the connected Ray has one."""
    has_gpu = ray.is_initialized() and ray.cluster_resources().get("GPU", 0) >= 1
    return device == "cuda" or (device == "auto" and has_gpu)
