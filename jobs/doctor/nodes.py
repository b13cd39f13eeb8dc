"""Ray: whether it can be joined, and what each of its nodes has. The doctor's rim to Ray."""

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
    """An actor on one node."""

    def look(self, store_bytes: int, temp: str, num_gpus: int, places: Sequence[str], seconds: float) -> list[Finding]:
        """Look at the machine, and at places from there."""
        found = look("machine", lambda: machine(store_bytes, temp, num_gpus), seconds)
        for place in places:
            found += look(without_secrets(f"storage {place}"), lambda place=place: storage(place), seconds)
        return found

    def now(self) -> float:
        """Tell the time."""
        return time.time()


def has_token() -> bool:
    """Whether this process talks to Ray with a token; its cluster then asks for one."""
    return os.environ.get("RAY_AUTH_MODE", "") == TOKEN


def is_joined() -> bool:
    """Whether this process is connected to a Ray."""
    import ray

    return ray.is_initialized()


def cluster(stack: ExitStack, given: str) -> Iterator[Finding]:
    """Join the Ray that a job would join, for as long as the stack is open."""
    address, source = chosen(given)
    if address == LOCAL:
        yield Finding("Ray", "ok", "none is named or recorded here: jobs start a separate one on this machine")
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
        do = "start it, and all that talk to it, with RAY_AUTH_MODE=token (docs/CLUSTER.md)"
        yield Finding("Ray", "warning", "asks for no token: anyone who reaches it may run programs on it", do)


def on_nodes(places: Sequence[str], seconds: float) -> Iterator[Finding]:
    """Look at every node of the Ray that is joined."""
    import ray
    from ray.exceptions import RayError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    asked: list[tuple[dict[str, Any], Any, Any]] = []
    for node in ray.nodes():
        if node["Alive"]:
            # Without a CPU it runs on the head too; with GPUs to see it takes none from a training.
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
            yield Finding("node", "failure", said, "look at its logs (`ray logs`), or end the machine", name)
