"""Workers agree on the step at which they write a checkpoint for a leaving node, whatever their clocks say."""

from collections import deque
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.training import leaving
from pipeline.training.leaving import EVERY_S, Leaving
from pipeline.training.loop import fit
from tests.training.test_loop import trainer
from tests.training.tiny import batches


class TwoWorkers:
    """Rank 0 and rank 1 with a clock each; rank 0's number reaches rank 1, which must request it at the same step."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.nodes: list[str] = []
        self.clocks, self.rank = [0.0, 1000.0], 0
        self.said: deque[Any] = deque()
        self.looks: list[int] = []
        self.step = 0
        self.workers = [Leaving(lambda: self.shared(list(self.nodes)), self.shared) for _ in self.clocks]
        monkeypatch.setattr(leaving, "time", SimpleNamespace(monotonic=lambda: self.clocks[self.rank]))

    def shared(self, own: Any) -> Any:
        if self.rank:
            return self.said.popleft()  # fails if rank 0 did not ask
        if isinstance(own, list):
            self.looks.append(self.step)
        self.said.append(own)
        return own

    def make_step(self, *seconds: float) -> bool:
        self.step += 1
        answers = []
        for rank, worker in enumerate(self.workers):
            self.rank = rank
            self.clocks[rank] += seconds[rank]
            answers.append(worker(self.step))
        assert not self.said, "rank 1 did not ask"
        assert answers[0] == answers[1]
        return answers[0]


@pytest.mark.check(46)
def test_all_workers_save_once_per_leaving_node_at_the_same_step(monkeypatch: pytest.MonkeyPatch) -> None:
    workers = TwoWorkers(monkeypatch)
    saved = []
    for step in range(1, 201):
        if step in (50, 120):
            workers.nodes.append(f"node {step}")
        if workers.make_step(0.1, 0.4 if step % 3 else 0.01):
            saved.append(step)
    assert len(saved) == 2
    assert 50 <= saved[0] <= 50 + EVERY_S / 0.1
    assert 120 <= saved[1] <= 120 + EVERY_S / 0.1


def test_checks_are_seconds_apart_and_slow_steps_check_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = TwoWorkers(monkeypatch)
    for _ in range(1000):
        quick.make_step(0.1, 0.1)
    assert len(quick.looks) <= 1000 * 0.1 / EVERY_S + 6
    for _ in range(40):
        quick.make_step(30.0, 30.0)
    assert quick.looks[-10:] == list(range(1031, 1041))


def test_a_leaving_node_triggers_an_ordinary_checkpoint() -> None:
    run = trainer()
    logged: list[int] = []
    saved: list[int] = []
    fit(
        run,
        batches(),
        lambda step, metrics: logged.append(step),
        lambda step, metrics: saved.append(step),
        leaving=lambda step: step == 5,
    )
    assert logged == [3, 4, 5, 6, 8]
    assert saved == [4, 5, 8]
