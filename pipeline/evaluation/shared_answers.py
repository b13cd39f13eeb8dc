"""Answers that several refinements ask for: the first look at an object is the same for most of them."""

import hashlib
import time
from collections import OrderedDict
from typing import Any

from torch import Tensor

from models.steps import Answer, Start


class SharedAnswers:
    """An Answer that remembers those to first clicks, by content, and charges each asker what the first one paid.

    A robot user's first click depends on the object alone, so that every refinement that looks at the whole image asks
    the same of the network: it runs once, and what needs no click (`Start`) once an image. What is kept is bounded by
    `max_bytes`. `every`: answers to later clicks are kept too, for settings that often go the same way for some clicks.
    """

    def __init__(self, answer: Answer, max_bytes: int = 2**28, *, every: bool = False) -> None:
        self._answer, self._max_bytes, self._every = answer, max_bytes, every
        self._known: OrderedDict[bytes, tuple[Any, float, int]] = OrderedDict()
        self._bytes = 0
        self.saved_seconds = 0.0
        """Seconds that answers from memory took when they were computed."""
        self.asked = self.computed = 0
        """Requests answered, and those of them that ran the network."""

    def __call__(self, requests: list[Any]) -> list[Any]:
        """Answer requests of one kind, those that are known from memory."""
        keys = [content_key(r) if self._every or isinstance(r, Start) or len(r.clicks) == 1 else None for r in requests]
        self.asked += len(requests)
        found: list[Any] = [self._recall(key) for key in keys]
        missing = [number for number, answer in enumerate(found) if answer is None]
        self.computed += len(missing)
        if missing:
            started = time.monotonic()
            answers = self._answer([requests[number] for number in missing])
            seconds = (time.monotonic() - started) / len(missing)
            for number, answer in zip(missing, answers, strict=True):
                found[number] = answer
                if (key := keys[number]) is not None:
                    self._keep(key, answer, seconds)
        return found

    def _recall(self, key: bytes | None) -> Any:
        if key is None or key not in self._known:
            return None
        answer, seconds, _ = self._known[key]
        self._known.move_to_end(key)
        self.saved_seconds += seconds
        return answer

    def _keep(self, key: bytes, answer: Any, seconds: float) -> None:
        size = sum(part.nbytes for part in (answer if isinstance(answer, tuple) else (answer,)))
        if key in self._known or size > self._max_bytes:
            return
        self._known[key] = (answer, seconds, size)
        self._bytes += size
        while self._bytes > self._max_bytes:
            _, (_, _, freed) = self._known.popitem(last=False)
            self._bytes -= freed


def content_key(request: Any) -> bytes:
    """Digest of everything that decides the answer to a request."""
    digest = hashlib.blake2b(repr(request.kind).encode(), digest_size=16)

    def add(value: Any) -> None:
        if isinstance(value, Tensor):
            digest.update(value.cpu().contiguous().numpy().data)
        elif hasattr(value, "rows"):
            digest.update(repr(value.rows()).encode())
        elif hasattr(value, "__dataclass_fields__"):
            for name in value.__dataclass_fields__:
                if name != "started":  # follows from the image and the example
                    add(getattr(value, name))
        else:
            digest.update(repr(value).encode())

    add(request)
    return digest.digest()
