"""Compute an answer once if several refinements request it: their first click on an object is mostly the same."""

import hashlib
import time
from collections import OrderedDict
from typing import Any

from torch import Tensor

from models.steps import Answer, Start


class SharedAnswers:
    """An Answer with a cache for first clicks, keyed by content; each caller is charged the original computing time.

    The robot user's first click depends only on the object, so all refinements that start with the whole image send
    the same request: it runs once, and click-independent requests (`Start`) run once per image. The cache is limited to
    `max_bytes`. `every`: cache answers to later clicks too, for settings that often agree for several clicks.
    """

    def __init__(self, answer: Answer, max_bytes: int = 2**28, *, every: bool = False) -> None:
        self._answer, self._max_bytes, self._every = answer, max_bytes, every
        self._known: OrderedDict[bytes, tuple[Any, float, int]] = OrderedDict()
        self._bytes = 0
        self.saved_seconds = 0.0
        """Seconds that the answers taken from the cache took to compute."""
        self.asked = self.computed = 0
        """Requests answered, and how many of them ran the network."""

    def __call__(self, requests: list[Any]) -> list[Any]:
        """Answer requests of one kind, from the cache where possible."""
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
    """Return a digest of everything that decides the answer to a request."""
    digest = hashlib.blake2b(repr(request.kind).encode(), digest_size=16)

    def add(value: Any) -> None:
        if isinstance(value, Tensor):
            digest.update(value.cpu().contiguous().numpy().data)
        elif hasattr(value, "rows"):
            digest.update(repr(value.rows()).encode())
        elif hasattr(value, "__dataclass_fields__"):
            for name in value.__dataclass_fields__:
                if name != "started":  # determined by the image and the example
                    add(getattr(value, name))
        else:
            digest.update(repr(value).encode())

    add(request)
    return digest.digest()
