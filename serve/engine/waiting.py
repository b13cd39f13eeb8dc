"""The queue for the model: limited in length and in time, and abandoned requests are skipped.

Each request has a claim, which its thread carries in a context variable. When the turn of a thread comes, it calls
`check()` first, so that work whose client has left is not started.
"""

import asyncio
import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import anyio.to_thread
from fastapi import Request

from serve.core.problems import Problem

T = TypeVar("T")


class Abandoned(Exception):
    """The caller no longer waits for this work, and it was not done."""


class Claim:
    """A client's wait for an answer. It ends once, from any thread, when the client leaves or has waited too long."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._left = False
        self._on_leave: list[Callable[[], object]] = []

    @property
    def wanted(self) -> bool:
        """Whether the client still waits for the answer."""
        return not self._left

    def on_leave(self, callback: Callable[[], object]) -> None:
        """Call `callback`, which may be slow, in a thread when the claim ends; at once if it has ended already."""
        with self._lock:
            if not self._left:
                self._on_leave.append(callback)
                return
        callback()

    def leave(self) -> None:
        """End the claim."""
        with self._lock:
            callbacks, self._on_leave, self._left = self._on_leave, [], True
        if callbacks:
            threading.Thread(target=lambda: [callback() for callback in callbacks], daemon=True).start()


_current: contextvars.ContextVar[Claim | None] = contextvars.ContextVar("claim", default=None)


def current() -> Claim | None:
    """Return the claim of this thread's request, or None."""
    return _current.get()


def check() -> None:
    """Raise Abandoned if the client no longer waits for this thread's work."""
    claim = _current.get()
    if claim is not None and not claim.wanted:
        raise Abandoned


class Turns:
    """Run work that needs the model in separate threads, at most `limit` at once; further requests are refused.

    A thread counts until it ends, even if its client has left, so there are never more of them. Requests that do not
    need the model run in other threads, and are answered while the model is busy.
    """

    def __init__(self, limit: int, timeout_s: float) -> None:
        self._limit, self._timeout_s = limit, timeout_s
        self._threads = ThreadPoolExecutor(limit, thread_name_prefix="turn")
        self._patient = ThreadPoolExecutor(limit, thread_name_prefix="live")
        self._taken = 0
        self._guard = threading.Lock()

    async def run(self, work: Callable[[], T], request: Request | None = None) -> T:
        """Run `work` in a thread; raises at_capacity, timeout, client_gone (of `request`), and what `work` raises."""
        claim = self._enter()
        context = contextvars.copy_context()
        context.run(_current.set, claim)
        counted = partial(self._counted, work)
        future = asyncio.get_running_loop().run_in_executor(self._threads, lambda: context.run(counted))
        # A task that waits for the client to leave; the body of the request was read before.
        watching = None if request is None else asyncio.ensure_future(_gone(request))
        try:
            await asyncio.wait(
                {future} if watching is None else {future, watching},
                timeout=self._timeout_s,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if future.done():
                return future.result()
            if watching is not None and watching.done():
                raise Problem("client_gone", "the client left before its turn came")
            raise Problem(
                "timeout",
                f"no answer after {self._timeout_s:g} s; a change may still be made: send it again with its sequence",
                retry_after_s=5,
            )
        finally:
            if watching is not None:
                watching.cancel()
            if not future.done():  # also if the server cancels this request
                claim.leave()
                future.add_done_callback(_forget)

    async def wait(self, work: Callable[[], T]) -> T:
        """Run `work` in a thread as soon as one is free, even if its client has left; for WebSockets."""
        return await asyncio.get_running_loop().run_in_executor(self._patient, work)

    def _enter(self) -> Claim:
        with self._guard:
            if self._taken >= self._limit:
                raise Problem("at_capacity", f"{self._limit} requests already wait for the model", retry_after_s=1)
            self._taken += 1
        return Claim()

    def _counted(self, work: Callable[[], T]) -> T:
        try:
            check()
            return work()
        finally:
            with self._guard:
                self._taken -= 1


async def in_thread(work: Callable[[], T]) -> T:
    """Run `work` in a thread, with a claim that ends when this call is cancelled; for methods of replicas."""
    claim = Claim()
    _current.set(claim)  # only for this call, which has a separate context
    try:
        return await anyio.to_thread.run_sync(work, abandon_on_cancel=True)
    except asyncio.CancelledError:
        claim.leave()
        raise


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _forget(future: "asyncio.Future[Any]") -> None:
    # Retrieve the exception, so that asyncio does not report it as never retrieved.
    if not future.cancelled():
        future.exception()
