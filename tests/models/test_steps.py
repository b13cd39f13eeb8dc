from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor

import pytest
import torch

from models import steps
from models.interaction import Clicks
from models.steps import Segment, Steps, ask, together


def request(value: float, hw: tuple[int, int] = (2, 2)) -> Segment:
    return Segment(torch.full((3, *hw), value), torch.zeros(1, *hw), Clicks.none())


class Echo:
    """Answers a request with its value and records the batches."""

    def __init__(self) -> None:
        self.batches: list[list[float]] = []

    def __call__(self, requests: list[Segment]) -> list[float]:
        assert len({request.image.shape for request in requests}) == 1
        self.batches.append([float(request.image[0, 0, 0]) for request in requests])
        return self.batches[-1]


def count(start: float, num: int, hw: tuple[int, int] = (2, 2)) -> Steps[list[float]]:
    """Make `num` requests, each for the last answer plus one."""
    answers = [start]
    for _ in range(num):
        answers.append((yield from ask(request(answers[-1] + 1, hw))))
    return answers


def fails(after: int) -> Steps[list[float]]:
    yield from count(0, after)
    raise ZeroDivisionError(f"after {after}")


@pytest.fixture(params=[1, 3])
def pool(request: pytest.FixtureRequest) -> Iterator[Executor]:
    with ThreadPoolExecutor(request.param) as executor:
        yield executor


def test_run_sends_each_answer_back() -> None:
    assert steps.run(count(0, 3), Echo()) == [0, 1, 2, 3]
    assert steps.run(count(5, 0), Echo()) == [5]


def test_together_shares_forwards_and_keeps_results_apart() -> None:
    echo = Echo()

    def both() -> Steps[list[list[float]]]:
        return (yield from together(count(0, 3), count(10, 1), count(20, 0)))

    assert steps.run(both(), echo, max_batch=8) == [[0, 1, 2, 3], [10, 11], [20]]
    assert echo.batches == [[1, 11], [2], [3]]


@pytest.mark.parametrize("in_flight", [1, 2, 5, 100])
@pytest.mark.parametrize("max_batch", [1, 2, 64])
def test_run_many_gives_every_task_its_own_answers(pool: Executor, in_flight: int, max_batch: int) -> None:
    tasks = (count(100 * i, i % 4, (2 + i % 2, 2)) for i in range(13))
    echo = Echo()
    results = dict(steps.run_many(tasks, echo, pool, in_flight=in_flight, max_batch=max_batch))
    assert results == {i: [100 * i + k for k in range(i % 4 + 1)] for i in range(13)}
    assert max(map(len, echo.batches)) <= max_batch


def test_batches_do_not_depend_on_timing() -> None:
    seen = []
    for workers in (1, 4):
        echo = Echo()
        with ThreadPoolExecutor(workers) as executor:
            list(steps.run_many((count(100 * i, 3) for i in range(9)), echo, executor, in_flight=6, max_batch=2))
        seen.append(echo.batches)
    assert seen[0] == seen[1]


def test_failed_task_returns_its_error(pool: Executor) -> None:
    tasks = [count(0, 2), fails(0), count(10, 3), fails(2), count(20, 1)]
    results = dict(steps.run_many(tasks, Echo(), pool, in_flight=4, max_batch=2))
    assert {i: str(result) for i, result in results.items() if isinstance(result, Exception)} == {
        1: "after 0",
        3: "after 2",
    }
    assert (results[0], results[2], results[4]) == ([0, 1, 2], [10, 11, 12, 13], [20, 21])


def test_run_many_without_tasks(pool: Executor) -> None:
    assert list(steps.run_many([], Echo(), pool)) == []


def test_run_many_takes_tasks_only_as_they_fit(pool: Executor) -> None:
    started: list[int] = []

    def tasks() -> Iterator[Steps[list[float]]]:
        for i in range(20):
            started.append(i)
            yield count(i, 2)

    running = steps.run_many(tasks(), Echo(), pool, in_flight=4)
    next(running)
    assert len(started) <= 8
    assert len(list(running)) == 19
