"""Report which resources a job waits for on a cluster that has no free ones yet."""

import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

PATIENCE_S, LOOK_S = 60.0, 10.0
"""Seconds that a request may wait before it is reported, and seconds between checks."""
UNPLACED = {"PENDING_CREATION", "RESTARTING", "PENDING", "RESCHEDULING"}
"""States of actors and placement groups that are not placed on a node yet."""


@contextmanager
def said_while_pending(patience_s: float = PATIENCE_S, look_s: float = LOOK_S) -> Iterator[None]:
    """While the block runs, print which resources the connected job has waited for longer than `patience_s`.

    The message is repeated each time the wait has doubled, and a last one says that the wait is over.
    """
    ends = threading.Event()

    def watch() -> None:
        waits = Waits(patience_s, 2.5 * look_s)
        while not ends.wait(look_s):
            try:
                found = pending()
            except Exception as error:  # the state comes from the dashboard, which need not run
                print(f"cannot tell what this job waits for: {' '.join(str(error).split())[:200]}", flush=True)
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
    """Tracks since when each request has waited; times are seconds of a monotonic clock."""

    def __init__(self, patience_s: float, forget_s: float) -> None:
        self.patience_s, self.forget_s = patience_s, forget_s
        self.since: dict[str, float] = {}
        self.last: dict[str, float] = {}
        self.next_s = patience_s
        self.said = False

    def look(self, found: Mapping[str, int], now: float) -> str:
        """Update with the number of requests per set of resources; return the message to print, "" for none.

        A request that disappears for less than `forget_s` still counts: Ray Train cancels one and makes another.
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
            return "no longer waiting for resources" if said else ""
        waited = max(long.values())
        if waited < self.next_s:
            return ""
        self.said, self.next_s = True, 2 * waited
        wanted = ", ".join(f"{found.get(shape, 1)} x {shape}" for shape in sorted(long))
        return (
            f"waiting for resources for {waited:.0f} s: {wanted}; this cluster has none free. The job continues when "
            "nodes join or other jobs end. If no node can have them, request less (--scaling..., --nodes, --actors)"
        )


def pending() -> Counter[str]:
    """Count the actors and bundles of this job that are not placed yet, by the resources that they request."""
    import ray
    from ray.util.state import list_actors, list_placement_groups

    job = ray.get_runtime_context().get_job_id()
    found: Counter[str] = Counter()
    actor: Any  # Ray's decorator hides the fields of these records from type checkers
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
    """Format resources as "1 CPU + 1 GPU"."""
    return " + ".join(f"{amount:g} {name}" for name, amount in sorted(resources.items())) or "no resources"
