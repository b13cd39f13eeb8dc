"""A call, and again where the one who was asked went away: a mask is a pure function of what is sent."""

import logging
import time
from collections.abc import Callable
from typing import Any, TypeVar

from ray.exceptions import RayActorError
from ray.serve.exceptions import ReplicaUnavailableError

from serve.engine.waiting import current

TRIES = 3  # an update ends a replica once; a call that ends every replica that it meets must not end them all
PAUSE_S = 0.1
T = TypeVar("T")
TIMEOUT_S = 60.0
GONE = (RayActorError, ReplicaUnavailableError)  # nothing that was cancelled: who asked has left
logger = logging.getLogger("maskwright.serve")


def again(call: Callable[[float], T], gone: tuple[type[BaseException], ...], timeout_s: float) -> T:
    """Call, with the seconds that are left, until there is an answer: again after errors that are `gone`.

    All else is raised at once, and so are those after 3 tries, or when no time is left.
    """
    deadline = time.monotonic() + timeout_s
    for attempt in range(1, TRIES + 1):
        try:
            return call(max(0.0, deadline - time.monotonic()))
        except gone as error:
            if attempt == TRIES or time.monotonic() + PAUSE_S >= deadline:
                raise
            logger.info("asked again, as the one who was asked is gone: %s", type(error).__name__)
            time.sleep(PAUSE_S)
    raise AssertionError("unreachable: the last try returns or raises")


def answered(method: Any, *values: Any, timeout_s: float = TIMEOUT_S) -> Any:
    """Call a method of a handle; what a replica took with it, killed or replaced, is asked of another one."""
    claim = current()

    def call(left_s: float) -> Any:
        response = method.remote(*values)
        if claim is not None:
            claim.on_leave(response.cancel)
        return response.result(timeout_s=left_s)

    return again(call, GONE, timeout_s)
