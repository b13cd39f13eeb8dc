"""Measure the time and the batch size of forwards, by half of the network, without changing their answers."""

import time
from collections import deque
from typing import Any

import torch

from models.steps import Answer, Request, Segment
from serve.observing import metrics

MAX_PENDING = 256
"""Forwards on a GPU whose end was not observed yet; beyond this number, the oldest are not measured."""


def half_of(request: Request) -> str:
    """Return the label of the part of the network that a request is for."""
    if isinstance(request, Segment):
        return "close_up" if request.focus else "whole"
    return type(request).__name__.lower()


class Measured:
    """An Answer that measures another one.

    A GPU continues after the call has returned. Waiting for it would slow down every click, so events are recorded in
    its stream and their distance is read at a later call. The last forwards before a pause are measured after it.
    """

    def __init__(self, answer: Answer, version: str, device: torch.device) -> None:
        self._answer, self._version, self._device = answer, version, device
        self._pending: deque[tuple[str, Any, Any]] = deque(maxlen=MAX_PENDING)

    def __call__(self, requests: list[Request]) -> list[Any]:
        """Answer requests of one kind."""
        half = half_of(requests[0])
        if self._device.type == "cuda":
            answers = self._on_gpu(requests, half)
        else:
            started = time.perf_counter()
            answers = self._answer(requests)
            metrics.since(metrics.FORWARD_MS, started, half, self._version)
        metrics.put(metrics.BATCH_SIZE, len(requests), half, self._version)
        metrics.put(metrics.VIEWS, len(requests), half, self._version)
        return answers

    def _on_gpu(self, requests: list[Request], half: str) -> list[Any]:
        stream = torch.cuda.current_stream(self._device)
        begin, end = self._mark(), self._mark()
        begin.record(stream)
        answers = self._answer(requests)
        end.record(stream)
        self._pending.append((half, begin, end))
        self._read()
        return answers

    def _read(self) -> None:
        while True:
            try:
                half, begin, end = self._pending.popleft()
            except IndexError:  # also if another thread took the last one
                return
            if not end.query():
                self._pending.appendleft((half, begin, end))
                return
            metrics.put(metrics.FORWARD_MS, begin.elapsed_time(end), half, self._version)

    def _mark(self) -> Any:
        return torch.cuda.Event(enable_timing=True)


def measure(predictor: Any) -> None:
    """Measure the forwards of a models.predictor.Predictor from now on, and of variants made of it later."""
    predictor.answer = Measured(predictor.answer, predictor.model_version, predictor.device)
