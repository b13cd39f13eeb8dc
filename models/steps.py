"""The protocol between a refinement, which decides what to compute next, and a driver, which owns the hardware.

A refinement is a generator. It yields tuples of requests, which may share a forward, receives their answers in the same
order, and returns the session's next state. It never sees a network, batch, device or session id. The driver `run`
advances one session; `run_many` advances many at once and batches their requests.
"""

from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import Any, TypeVar

from torch import Tensor

from models.exemplar import Exemplar
from models.interaction import Clicks


@dataclass(frozen=True, eq=False)
class Segment:
    """Run the whole network on one view; the answer is logits float32 (1, h, w)."""

    image: Tensor  # (3, h, w) RGB in 0..1, already at the network's size
    prev_mask: Tensor  # (1, h, w) probability
    clicks: Clicks  # in the view's frame, unpadded: the driver pads them, which must not change the answer
    focus: bool = False  # a close-up around a click (Network.focus_view)
    example: "Exemplar | None" = None  # for networks that take an exemplar
    started: Any = None  # answer to `Start` for this image and example; None: not requested

    @property
    def kind(self) -> tuple[Any, ...]:
        """Key that is equal for requests that may share a forward."""
        return (Segment, self.image.shape, self.focus, self.example is None, self.started is None)


@dataclass(frozen=True, eq=False)
class Start:
    """Compute the click-independent features (Network.start); later requests on the same view pass the answer back."""

    image: Tensor
    example: "Exemplar | None" = None

    @property
    def kind(self) -> tuple[Any, ...]:
        """Key that is equal for requests that may share a forward."""
        return (Start, self.image.shape, self.example is None)


@dataclass(frozen=True, eq=False)
class Encode:
    """Run the heavy half of a split network.

    The answer is (features (c, h/4, w/4), low-resolution logits (1, h/4, w/4)).
    """

    image: Tensor
    prev_mask: Tensor
    clicks: Clicks
    started: Any = None  # as in Segment

    @property
    def kind(self) -> tuple[Any, ...]:
        """Key that is equal for requests that may share a forward."""
        return (Encode, self.image.shape, self.started is None)


@dataclass(frozen=True, eq=False)
class Correct:
    """Run the light half on the answer to `Encode`; the answer is (logits (1, h, w), new low-resolution logits)."""

    image: Tensor
    features: Tensor
    low_logits: Tensor
    clicks: Clicks

    @property
    def kind(self) -> tuple[Any, ...]:
        """Key that is equal for requests that may share a forward."""
        return (Correct, self.image.shape)


@dataclass(frozen=True, eq=False)
class Prompt:
    """Run the light half of a network that takes clicks as prompts, on the answer to `Start`.

    The answer is (logits (1, *, *) over the view, new low-resolution logits).
    """

    started: Any
    hw: tuple[int, int]  # of the view
    clicks: Clicks
    low_logits: Tensor | None = None  # those of the last answer; None: there was no answer
    prev_mask: Tensor | None = None  # (1, h, w) probability of a mask to correct, if there are no such logits
    box: Tensor | None = None  # (4) x0, y0, x1, y1 in the view

    @property
    def kind(self) -> tuple[Any, ...]:
        """Key that is equal for requests that may share a forward."""
        return (Prompt, self.hw, self.low_logits is None, self.prev_mask is None, self.box is None)


Request = Segment | Start | Encode | Correct | Prompt
T = TypeVar("T")
Steps = Generator[tuple[Request, ...], tuple[Any, ...], T]
Answer = Callable[[list[Request]], list[Any]]
"""Answers requests of one kind and shape, in order."""


def ask(request: Request) -> Steps[Any]:
    """Yield one request and return its answer."""
    return (yield (request,))[0]


def together(*generators: Steps[Any]) -> Steps[list[Any]]:
    """Advance several generators in lockstep, so that their requests may share a forward (flip, several crops)."""
    results: list[Any] = [None] * len(generators)
    replies: dict[int, tuple[Any, ...] | None] = dict.fromkeys(range(len(generators)))
    while True:
        asked: dict[int, tuple[Request, ...]] = {}
        for number, reply in replies.items():
            done, out = advance(generators[number], reply)
            if done:
                results[number] = out
            else:
                asked[number] = out
        if not asked:
            return results
        answers = iter((yield tuple(request for requests in asked.values() for request in requests)))
        replies = {number: tuple(next(answers) for _ in requests) for number, requests in asked.items()}


def advance(generator: Steps[T], reply: tuple[Any, ...] | None) -> tuple[bool, Any]:
    """Send a reply (None to start) and return (False, requests) or (True, result).

    This catches StopIteration, which cannot cross a future.
    """
    try:
        return False, generator.send(reply)  # pyright: ignore[reportArgumentType]
    except StopIteration as stop:
        return True, stop.value


def answer_all(requests: tuple[Request, ...], answer: Answer, max_batch: int) -> list[Any]:
    """Answer requests in order; those of one kind and shape share calls of at most `max_batch`."""
    groups: dict[Any, list[int]] = {}
    for number, request in enumerate(requests):
        groups.setdefault(request.kind, []).append(number)
    results: list[Any] = [None] * len(requests)
    for group in groups.values():
        for start in range(0, len(group), max_batch):
            part = group[start : start + max_batch]
            for number, result in zip(part, answer([requests[i] for i in part]), strict=True):
                results[number] = result
    return results


def run_starts(generator: Steps[Any], answer: Answer) -> None:
    """Drive a session while it requests nothing but `Start`, whose answers it keeps, then close it."""
    done, out = advance(generator, None)
    while not done and all(isinstance(request, Start) for request in out):
        done, out = advance(generator, tuple(answer_all(out, answer, 1)))
    generator.close()


def run(generator: Steps[T], answer: Answer, max_batch: int = 1) -> T:
    """Drive one session to its end and return its result."""
    done, out = advance(generator, None)
    while not done:
        done, out = advance(generator, tuple(answer_all(out, answer, max_batch)))
    return out


def run_many(
    tasks: Iterable[Steps[T]], answer: Answer, pool: Executor, *, in_flight: int = 128, max_batch: int = 64
) -> Iterator[tuple[int, T | Exception]]:
    """Drive many sessions in two cohorts: while the requests of one run, the generators of the other advance in `pool`.

    Yields (number of the task, its result) as tasks end. Batches depend on the order of the tasks alone, never on
    timing. If a task raises, the exception is its result and the others continue.
    """
    source = enumerate(tasks)
    cohorts: tuple[dict[int, tuple[Steps[T], Future[Any]]], ...] = ({}, {})
    while True:
        for cohort in cohorts:
            asked: dict[int, tuple[Request, ...]] = {}
            for number, (_, future) in list(cohort.items()):
                try:
                    done, out = future.result()
                except Exception as error:  # passed to the caller as that task's result
                    del cohort[number]
                    yield number, error
                    continue
                if done:
                    del cohort[number]
                    yield number, out
                else:
                    asked[number] = out
            everything = tuple(request for requests in asked.values() for request in requests)
            answers = iter(answer_all(everything, answer, max_batch))
            for number, requests in asked.items():
                generator = cohort[number][0]
                reply = tuple(next(answers) for _ in requests)
                cohort[number] = (generator, pool.submit(advance, generator, reply))
            while len(cohort) < max(1, in_flight // 2) and (new := next(source, None)) is not None:
                cohort[new[0]] = (new[1], pool.submit(advance, new[1], None))
        if not any(cohorts):
            return
