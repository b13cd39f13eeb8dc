"""Unused memory is returned from time to time, when sessions are opened, without affecting used memory."""

import numpy as np

from serve.engine.memory import NowAndThen, give_back


def test_it_acts_when_called_but_not_too_often() -> None:
    acted: list[float] = []
    times = iter([0, 1, 59, 60, 61, 119, 121, 500])
    seen: list[float] = []

    def clock() -> float:
        seen.append(next(times))
        return seen[-1]

    ask = NowAndThen(lambda: acted.append(seen[-1]), every_s=60, clock=clock)
    for _ in range(7):
        ask()
    assert acted == [60, 121, 500]


def test_an_action_that_fails_is_not_repeated_at_once() -> None:
    now, calls = 0.0, 0

    def fail() -> None:
        nonlocal calls
        calls += 1
        raise RuntimeError("no")

    ask = NowAndThen(fail, every_s=60, clock=lambda: now)
    now = 60.0
    try:
        ask()
    except RuntimeError:
        ask()
    assert calls == 1


def resident_mib() -> float:
    import psutil

    return psutil.Process().memory_info().rss / 2**20


def test_unused_pages_are_returned() -> None:
    # Blocks below every threshold of malloc come from its heap, where every second one stays between those that go.
    blocks = [np.ones(60_000, np.uint8) for _ in range(4000)]
    held = blocks[::2]
    del blocks
    before = resident_mib()
    give_back()
    assert before - resident_mib() > 60, "of 120 MiB that are unused"
    assert all(block.all() for block in held[::100])
