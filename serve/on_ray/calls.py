"""Calls of replicas, repeated if the replica goes away, which is safe because a mask depends only on the request."""

import logging
import time
from collections.abc import Callable
from typing import Any, TypeVar

from ray.exceptions import RayActorError
from ray.serve.exceptions import ReplicaUnavailableError

from serve.engine.waiting import current

TRIES = 3  # enough for an update, which ends a replica once; few enough that a call that kills replicas stops
PAUSE_S = 0.1
T = TypeVar("T")
TIMEOUT_S = 60.0
GONE = (RayActorError, ReplicaUnavailableError)  # without cancelled calls, whose callers have left
logger = logging.getLogger("maskwright.serve")


def again(call: Callable[[float], T], gone: tuple[type[BaseException], ...], timeout_s: float) -> T:
    """Call with the seconds that are left, and repeat the call after an error in `gone`, up to 3 times in all.

    Other errors are raised at once; so is one in `gone` after the last try or when no time is left.
    """
    deadline = time.monotonic() + timeout_s
    for attempt in range(1, TRIES + 1):
        try:
            return call(max(0.0, deadline - time.monotonic()))
        except gone as error:
            if attempt == TRIES or time.monotonic() + PAUSE_S >= deadline:
                raise
            logger.info("repeating a call because its replica is gone: %s", type(error).__name__)
            time.sleep(PAUSE_S)
    raise AssertionError("unreachable: the last try returns or raises")


def answered(method: Any, *values: Any, timeout_s: float = TIMEOUT_S) -> Any:
    """Call a method of a handle; if its replica is killed or replaced meanwhile, call another one."""
    claim = current()

    def call(left_s: float) -> Any:
        response = method.remote(*values)
        if claim is not None:
            claim.on_leave(response.cancel)
        return response.result(timeout_s=left_s)

    return again(call, GONE, timeout_s)
