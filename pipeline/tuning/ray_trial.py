"""A trial of Ray Tune: one setting of a sweep, in a process that only waits for evaluators and the referee.

Every setting has such a process, so this file imports Ray alone, without torch.
"""

from typing import Any

import ray
import ray.tune

PATIENCE_S = 60.0
"""Seconds to wait for all evaluators before a setting continues with those that have started."""


def trial(config: dict[str, Any], *, referee: Any, evaluators: dict[Any, Any], sweep: dict[str, Any]) -> None:
    """Run one setting, rung by rung, until it is dropped or has played everything.

    `evaluators`: actors by a reference that is ready once the actor has started. Actors for which the cluster has no
    room get nothing to play.
    """
    name, values = config["name"], config["values"]
    checkpoint = sweep["checkpoint"]
    if sweep["prepare"] is not None:
        ray.get(referee.take.remote(name))
        try:
            checkpoint = sweep["prepare"](name, values)
        finally:
            ray.get(referee.give.remote(name))
    _up(evaluators, PATIENCE_S)
    for rung in range(sweep["num_rungs"]):
        waiting = ray.get(referee.missing.remote(name, rung))
        running: list[Any] = []
        found = {"objects": 0.0, "iou": 0.0}
        # A few at a time: settings go through the objects together, so shared answers are still in the cache.
        while waiting or running:
            up = _up(evaluators)
            while waiting and len(running) < 2 * len(up):
                piece = waiting.pop(0)
                running.append(up[piece % len(up)].play.remote(name, values, checkpoint, piece))
            done, running = ray.wait(running, num_returns=1)
            found = ray.get(done[0])
        goes_on = ray.get(referee.verdict.remote(name, rung))
        loss, seconds = ray.get(referee.losses.remote(name))
        ray.tune.report({"loss": loss, "seconds_per_click": seconds, "rung": rung, "last_iou": found["iou"]})
        if not goes_on:
            return


def _up(evaluators: dict[Any, Any], patience_s: float = 0.0) -> list[Any]:
    """Return the evaluators that have started within the given time, but wait for at least one."""
    refs = list(evaluators)
    up, _ = ray.wait(refs, num_returns=len(refs), timeout=patience_s)
    return [evaluators[ref] for ref in up or ray.wait(refs, num_returns=1)[0]]
