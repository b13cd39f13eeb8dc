"""Requests of many threads share forwards, and each gets its answer."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

from models.interaction import Clicks
from models.steps import Correct, Encode
from serve.engine.batching import Batched
from serve.on_ray.replicas import halves

NO_CLICKS = Clicks.none()


def correct(value: float, side: int = 4) -> Correct:
    image = torch.full((3, side, side), value)
    return Correct(image, image[:1], image[:1], NO_CLICKS)


class Slow:
    """Returns its inputs, and records which requests shared a forward."""

    def __init__(self) -> None:
        self.batches: list[list[float]] = []
        self.running = threading.Semaphore(1)

    def __call__(self, requests: list[Any]) -> list[Any]:
        assert self.running.acquire(blocking=False), "two forwards at once"
        assert len({request.kind for request in requests}) == 1
        self.batches.append([float(request.image[0, 0, 0]) for request in requests])
        time.sleep(0.02)
        self.running.release()
        return self.batches[-1]


@pytest.mark.parametrize("max_batch", [1, 4])
def test_each_request_gets_its_answer(max_batch: int) -> None:
    slow = Slow()
    batched = Batched(slow, max_batch)
    with ThreadPoolExecutor(12) as pool:
        found = list(pool.map(lambda n: batched([correct(n, 4 + 4 * (n % 2))]), range(24)))
    assert found == [[float(n)] for n in range(24)]
    assert max(map(len, slow.batches)) == max_batch
    assert batched.num_requests == 24
    assert batched.num_forwards == len(slow.batches) == (24 if max_batch == 1 else batched.num_forwards)
    if max_batch > 1:
        assert len(slow.batches) < 16


def test_an_error_reaches_only_the_request_that_causes_it() -> None:
    def answer(requests: list[Any]) -> list[Any]:
        if any(request.image[0, 0, 0] == 3 for request in requests):
            raise RuntimeError("three")
        return [0] * len(requests)

    batched = Batched(answer)
    assert batched([correct(1)]) == [0]
    with pytest.raises(RuntimeError, match="three"):
        batched([correct(3)])
    assert batched([correct(2)]) == [0]


def test_heavy_requests_go_to_the_other_process() -> None:
    image = torch.zeros(3, 4, 4)
    answer = halves(lambda requests: ["light"] * len(requests), lambda requests, _: ["heavy"] * len(requests), "v")
    assert answer([correct(0), correct(1)]) == ["light", "light"]
    assert answer([Encode(image, image[:1], NO_CLICKS)]) == ["heavy"]
