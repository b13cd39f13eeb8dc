"""What no click changes of a split network stays where its heavy half is; sessions elsewhere hold tickets. No Ray here.

A ticket that is unknown (another process, or what it stood for had to go) costs time and nothing else: the request
carries the image, of which everything can be made again.
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
    """Stands for an answer to `Start`; `route` is the same for those of one call, which are kept in one place."""

    route: str
    number: int


class Kept:
    """Beside the heavy half: answers to `Start` by their tickets, the newest, in at most `max_bytes`."""

    def __init__(self, answer: Answer, max_bytes: int) -> None:
        self._answer, self._max_bytes = answer, max_bytes
        self._known: OrderedDict[Ticket, tuple[Any, ...]] = OrderedDict()  # least recently used first
        self._guard = threading.Lock()
        self._give_back = NowAndThen()
        self.num_found = self.num_missed = 0

    def __call__(self, requests: list[Any], tickets: list[Ticket]) -> list[Any]:
        """Answer requests of one kind; answers to `Start` stay here, and its `tickets` are handed back for them."""
        if not isinstance(requests[0], Start):
            return self._answer([self._redeemed(requests, request) for request in requests])
        self._give_back()  # here, where no request waits for a mask
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
            # One without makes all run whole: requests of a call are of one kind.
            found = all(each.started in self._known for each in requests)
            if found:
                self._known.move_to_end(request.started)
            self.num_found, self.num_missed = self.num_found + found, self.num_missed + (not found)
            return replace(request, started=self._known[request.started] if found else None)


Send = Callable[[list[Any], list[Ticket], str | None, str], Encoded]
"""Has the heavy half answer requests, with new tickets for `Start`; those of one route should come to one process. The
last is the asker's version, as in serve/on_ray/halves.py."""


def by_ticket(send: Send) -> Encoder:
    """Beside the light half: answer what is heavy by sending it, with tickets instead of what they stand for."""

    def answer(requests: list[Any], model_version: str) -> Encoded:
        if isinstance(requests[0], Start):
            route = secrets.token_hex(8)
            tickets = [Ticket(route, number) for number in range(len(requests))]
            return send(requests, tickets, route, model_version)
        held = [request.started for request in requests if isinstance(getattr(request, "started", None), Ticket)]
        if len(held) == len(requests):
            return send(requests, [], held[0].route, model_version)
        # What was made here, while the heavy half was of another version, is not worth its way there.
        return send([_bare(request) for request in requests], [], None, model_version)

    return answer


def regardless(answer: Answer) -> Answer:
    """Answer also what has tickets, which stand for nothing here: it runs whole."""

    def whole(requests: list[Any]) -> list[Any]:
        if any(isinstance(getattr(request, "started", None), Ticket) for request in requests):
            requests = [_bare(request) for request in requests]
        return answer(requests)

    return whole


def _bare(request: Any) -> Any:
    return request if getattr(request, "started", None) is None else replace(request, started=None)
