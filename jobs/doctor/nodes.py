"""Checks of Ray: that the cluster can be joined, and each of its nodes. The doctor's only file that imports Ray."""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from jobs.doctor.finding import Finding, look, without_secrets
from jobs.doctor.machine import machine
from jobs.doctor.storage import skew, storage
from jobs.ray_env import LOCAL, chosen, connected

TOKEN = "token"


class Doctor:
    """An actor that checks one node."""

    def look(self, store_bytes: int, temp: str, num_gpus: int, places: Sequence[str], seconds: float) -> list[Finding]:
        """Check the machine, and storage places from it."""
        found = look("machine", lambda: machine(store_bytes, temp, num_gpus), seconds)
        for place in places:
            found += look(without_secrets(f"storage {place}"), lambda place=place: storage(place), seconds)
        return found

    def now(self) -> float:
        """Return the time of the node's clock."""
        return time.time()


def has_token() -> bool:
    """Return whether this process uses a token for Ray, which its cluster then requires."""
    return os.environ.get("RAY_AUTH_MODE", "") == TOKEN


def is_joined() -> bool:
    """Return whether this process is connected to Ray."""
    import ray

    return ray.is_initialized()


def cluster(stack: ExitStack, given: str) -> Iterator[Finding]:
    """Join the cluster that a job would join, as long as the stack is open, and report on it."""
    address, source = chosen(given)
    if address == LOCAL:
        yield Finding("Ray", "ok", "no cluster is named or recorded: jobs start a separate Ray on this machine")
        return
    stack.enter_context(connected(given))
    import ray

    up = [node for node in ray.nodes() if node["Alive"]]
    total = {
        key: round(value)
        for key, value in ray.cluster_resources().items()
        if key in ("CPU", "GPU", "augment", "driver")
    }
    shape = ", ".join(f"{value} {key}" for key, value in sorted(total.items()))
    yield Finding("Ray", "ok", f"{address} ({source}), Ray {ray.__version__}, {len(up)} nodes up: {shape or 'no CPU'}")
    if not has_token():
        do = "set RAY_AUTH_MODE=token for it and for everything that connects to it (docs/CLUSTER.md)"
        yield Finding("Ray", "warning", "requires no token: anyone who can connect can run programs on it", do)


def on_nodes(places: Sequence[str], seconds: float) -> Iterator[Finding]:
    """Check every node of the joined cluster."""
    import ray
    from ray.exceptions import RayError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    asked: list[tuple[dict[str, Any], Any, Any]] = []
    for node in ray.nodes():
        if node["Alive"]:
            # It reserves no CPU, so it also runs on the head, and sees the GPUs without reserving them.
            actor: Any = ray.remote(Doctor)
            doctor = actor.options(
                num_cpus=0,
                scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False),
                runtime_env={"env_vars": {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}},
            ).remote()
            has = node["Resources"]
            temp = node["ObjectStoreSocketName"].partition("/session_")[0]
            found = doctor.look.remote(
                int(has.get("object_store_memory", 0)), temp, int(has.get("GPU", 0)), list(places), seconds
            )
            asked.append((node, doctor, found))
    for node, doctor, found in asked:
        name = node["NodeManagerAddress"]
        try:
            seen: Any = ray.get(found, timeout=(2 + len(places)) * seconds)
            for each in seen:
                yield replace(each, node=name)
            before = time.time()
            theirs: Any = ray.get(doctor.now.remote(), timeout=seconds)
            after = time.time()
            yield replace(skew("clock", theirs - (before + after) / 2), node=name)
        except RayError as error:
            said = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            yield Finding("node", "failure", said, "check its logs (`ray logs`), or remove the node", name)
