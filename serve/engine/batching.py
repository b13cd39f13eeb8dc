"""Combine requests of several sessions into one forward. Pure: threads, no Ray."""

import threading
import time
from dataclasses import dataclass, field
from typing import Any

from models.steps import Answer, Request
from serve.engine.waiting import Abandoned, Claim, current
from serve.observing import metrics


@dataclass(eq=False)
class _Waiting:
    requests: list[Request]
    since: float = field(default_factory=time.perf_counter)
    claim: Claim | None = field(default_factory=current)
    done: threading.Event = field(default_factory=threading.Event)
    answers: list[Any] | None = None
    error: Exception | None = None


class Batched:
    """An Answer that many threads may call: the thread that finds the network free runs the requests of all.

    A batch consists of the requests that arrived during the previous forward; there is no waiting for it to fill.
    Requests share a forward if they are of one kind, at most `max_batch` of them. If a shared forward fails, each
    request runs separately, so that an error reaches only the request that causes it. A request whose caller no longer
    waits raises Abandoned and joins no forward.
    """

    def __init__(self, answer: Answer, max_batch: int = 1) -> None:
        self._answer, self.max_batch = answer, max_batch
        self._network, self._guard = threading.Lock(), threading.Lock()
        self._queue: list[_Waiting] = []
        self.num_forwards = self.num_requests = 0

    def __call__(self, requests: list[Request]) -> list[Any]:
        """Answer requests of one kind."""
        mine = _Waiting(requests)
        with self._guard:
            self._queue.append(mine)
        while not mine.done.is_set():
            with self._network:
                if not mine.done.is_set():
                    self._run()
        if mine.error is not None:
            raise mine.error
        assert mine.answers is not None
        return mine.answers

    def _run(self) -> None:
        """Run one forward for the oldest request and all others that fit into its batch."""
        with self._guard:
            left = [waiting for waiting in self._queue if waiting.claim is not None and not waiting.claim.wanted]
            self._queue = [waiting for waiting in self._queue if waiting not in left]
        for waiting in left:
            waiting.error = Abandoned()
            waiting.done.set()
        with self._guard:
            if not self._queue:
                return
            kind = self._queue[0].requests[0].kind
            batch: list[_Waiting] = []
            size = 0
            for waiting in self._queue:
                fits = not batch or size + len(waiting.requests) <= self.max_batch
                if waiting.requests[0].kind == kind and fits:
                    batch.append(waiting)
                    size += len(waiting.requests)
            self._queue = [waiting for waiting in self._queue if waiting not in batch]
        for waiting in batch:
            metrics.since(metrics.QUEUE_MS, waiting.since, "batch")
        if not self._forward(batch):
            for waiting in batch if len(batch) > 1 else ():
                waiting.error = None
                self._forward([waiting])
        for waiting in batch:
            waiting.done.set()

    def _forward(self, batch: list[_Waiting]) -> bool:
        """Run one forward; return False if it failed."""
        requests = [request for waiting in batch for request in waiting.requests]
        self.num_forwards += 1
        self.num_requests += len(requests)
        try:
            answers = iter(self._answer(requests))
            for waiting in batch:
                waiting.answers = [next(answers) for _ in waiting.requests]
        except Exception as error:
            for waiting in batch:
                waiting.error = error
            return False
        return True
