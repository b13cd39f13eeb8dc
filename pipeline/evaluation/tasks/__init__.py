"""Tasks: what the robot user segments, and what it is given. Each task has a file and is registered in TASKS."""

from collections.abc import Callable, Iterator

from pipeline.data.sample import Sample
from pipeline.evaluation.config import EvaluationConfig
from pipeline.evaluation.method import Method
from pipeline.evaluation.tasks.additional_effort import additional_effort
from pipeline.evaluation.tasks.collective_effort import collective_effort
from pipeline.evaluation.tasks.from_mask import from_mask
from pipeline.evaluation.tasks.game import Game
from pipeline.evaluation.tasks.single import single

__all__ = ["TASKS", "Game", "Task"]

Task = Callable[[Sample, tuple[str, ...], Method, EvaluationConfig], Iterator[Game | str]]
"""(sample, ids of the wanted objects, method, config) -> sessions to run; a str: an object left out, and the reason.

A task that treats several objects as one yields their session for one of their ids only, so it can be called for parts
of an image.
"""

TASKS: dict[str, Task] = {
    "single": single,
    "from_mask": from_mask,
    "additional_effort": additional_effort,
    "collective_effort": collective_effort,
}
