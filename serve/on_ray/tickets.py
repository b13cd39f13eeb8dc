"""Click-independent features stay on the encoder's replica; sessions on other replicas refer to them by ticket. No Ray.

An unknown ticket (of another process, or for features that were evicted) costs only time: the request carries the
image, from which everything can be computed again.
"""

import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from models.steps import Answer, Start
from serve.engine.memory import NowAndThen
from serve.on_ray.halves import Encoded, Encoder


@dataclass(frozen=True, slots=True)
class Ticket:
    """Refers to an answer to `Start`; the answers of one call have the same `route` and are kept in one process."""

    route: str
    number: int


class Kept:
    """The encoder's side: keeps the most recently used answers to `Start` by ticket, in at most `max_bytes`."""

    def __init__(self, answer: Answer, max_bytes: int) -> None:
        self._answer, self._max_bytes = answer, max_bytes
        self._known: OrderedDict[Ticket, tuple[Any, ...]] = OrderedDict()  # least recently used first
        self._guard = threading.Lock()
        self._give_back = NowAndThen()
        self.num_found = self.num_missed = 0

    def __call__(self, requests: list[Any], tickets: list[Ticket]) -> list[Any]:
        """Answer requests of one kind; answers to `Start` stay here, and their `tickets` are returned instead."""
        if not isinstance(requests[0], Start):
            return self._answer([self._redeemed(requests, request) for request in requests])
        self._give_back()  # now, because no request waits for a mask
        answers = self._answer(requests)
        with self._guard:
            self._known.update(zip(tickets, answers, strict=True))
            total = sum(part.nbytes for parts in self._known.values() for part in parts)
            while total > self._max_bytes:
                total -= sum(part.nbytes for part in self._known.popitem(last=False)[1])
        return list(tickets)

    def _redeemed(self, requests: list[Any], request: Any) -> Any:
        if getattr(request, "started", None) is None:
            return request
        with self._guard:
            # If one is missing, all requests of the call start over, because they must be of one kind.
            found = all(each.started in self._known for each in requests)
            if found:
                self._known.move_to_end(request.started)
            self.num_found, self.num_missed = self.num_found + found, self.num_missed + (not found)
            return replace(request, started=self._known[request.started] if found else None)


Send = Callable[[list[Any], list[Ticket], str | None, str], Encoded]
"""Sends requests, and new tickets for `Start`, to the heavy half. The other arguments are the route, whose calls should
reach one process, and the caller's version (serve/on_ray/halves.py)."""


def by_ticket(send: Send) -> Encoder:
    """The light half's side: answer requests of the heavy half by sending them, with tickets instead of features."""

    def answer(requests: list[Any], model_version: str) -> Encoded:
        if isinstance(requests[0], Start):
            route = secrets.token_hex(8)
            tickets = [Ticket(route, number) for number in range(len(requests))]
            return send(requests, tickets, route, model_version)
        held = [request.started for request in requests if isinstance(getattr(request, "started", None), Ticket)]
        if len(held) == len(requests):
            return send(requests, [], held[0].route, model_version)
        # Features computed here, while the versions differed, are dropped: sending them would cost more.
        return send([_bare(request) for request in requests], [], None, model_version)

    return answer


def regardless(answer: Answer) -> Answer:
    """Return an Answer that drops tickets, which are meaningless here, and runs such requests as a whole."""

    def whole(requests: list[Any]) -> list[Any]:
        if any(isinstance(getattr(request, "started", None), Ticket) for request in requests):
            requests = [_bare(request) for request in requests]
        return answer(requests)

    return whole


def _bare(request: Any) -> Any:
    return request if getattr(request, "started", None) is None else replace(request, started=None)
