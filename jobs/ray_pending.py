"""Say which resources a job waits for, on a Ray that may have no room for it yet."""

import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

PATIENCE_S, LOOK_S = 60.0, 10.0
"""How long something may wait before that is said, and the time between looks."""
UNPLACED = {"PENDING_CREATION", "RESTARTING", "PENDING", "RESCHEDULING"}
"""States of actors and placement groups for which Ray looks for room."""


@contextmanager
def said_while_pending(patience_s: float = PATIENCE_S, look_s: float = LOOK_S) -> Iterator[None]:
    """While the block runs, say what of the connected job has waited for room for `patience_s`.

    It is said again after twice the time that it took before, and once more when nothing waits any longer.
    """
    ends = threading.Event()

    def watch() -> None:
        waits = Waits(patience_s, 2.5 * look_s)
        while not ends.wait(look_s):
            try:
                found = pending()
            except Exception as error:  # the state of a cluster is asked of its dashboard, which need not run
                print(f"Ray does not say what this job waits for: {' '.join(str(error).split())[:200]}", flush=True)
                return
            if (text := waits.look(found, time.monotonic())) and not ends.is_set():
                print(text, flush=True)

    thread = threading.Thread(target=watch, name="pending", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ends.set()
        thread.join(5)


class Waits:
    """What waits since when, from looks at it; seconds are of any clock that only goes forward."""

    def __init__(self, patience_s: float, forget_s: float) -> None:
        self.patience_s, self.forget_s = patience_s, forget_s
        self.since: dict[str, float] = {}
        self.last: dict[str, float] = {}
        self.next_s = patience_s
        self.said = False

    def look(self, found: Mapping[str, int], now: float) -> str:
        """Take how many wait for each set of resources, and return what is to be said; "" for nothing.

        What is gone for less than `forget_s` still counts: Ray Train gives up a request and makes another.
        """
        for shape in found:
            self.since.setdefault(shape, now)
            self.last[shape] = now
        for shape in [shape for shape, seen in self.last.items() if now - seen > self.forget_s]:
            del self.since[shape], self.last[shape]
        waited_for = {shape: self.last[shape] - since for shape, since in self.since.items()}
        long = {shape: waited for shape, waited in waited_for.items() if waited >= self.patience_s}
        if not long:
            said, self.said, self.next_s = self.said, False, self.patience_s
            return "nothing waits for resources any longer" if said else ""
        waited = max(long.values())
        if waited < self.next_s:
            return ""
        self.said, self.next_s = True, 2 * waited
        wanted = ", ".join(f"{found.get(shape, 1)} x {shape}" for shape in sorted(long))
        return (
            f"waiting for resources since {waited:.0f} s: {wanted}; this Ray has no room for them now. It goes on when "
            "nodes come or others end; if none can have them, ask for less (--scaling..., --nodes, --actors)"
        )


def pending() -> Counter[str]:
    """Count what of this job has no place yet, by the resources that it asks for."""
    import ray
    from ray.util.state import list_actors, list_placement_groups

    job = ray.get_runtime_context().get_job_id()
    found: Counter[str] = Counter()
    actor: Any  # of records that Ray makes by a decorator, which hides their fields
    group: Any
    for actor in list_actors(filters=[("job_id", "=", job)], limit=1000, detail=True):
        if actor.state in UNPLACED and not actor.placement_group_id:
            found[shown(actor.required_resources or {})] += 1
    for group in list_placement_groups(limit=1000, detail=True):
        if group.state in UNPLACED and group.creator_job_id == job:
            for bundle in group.bundles or []:
                if not bundle.get("node_id"):
                    found[shown(bundle["unit_resources"])] += 1
    return found


def shown(resources: Mapping[str, float]) -> str:
    """Write resources as people do: 1 CPU + 1 GPU."""
    return " + ".join(f"{amount:g} {name}" for name, amount in sorted(resources.items())) or "no resources"
