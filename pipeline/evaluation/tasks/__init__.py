"""Tasks: what the robot user is asked to segment, and what it is given. One file each; a line here registers it."""

from collections.abc import Callable, Iterator

from pipeline.data.sample import Sample
from pipeline.evaluation.config import EvaluationConfig
from pipeline.evaluation.contestant import Contestant
from pipeline.evaluation.tasks.additional_effort import additional_effort
from pipeline.evaluation.tasks.collective_effort import collective_effort
from pipeline.evaluation.tasks.from_mask import from_mask
from pipeline.evaluation.tasks.game import Game
from pipeline.evaluation.tasks.single import single

__all__ = ["TASKS", "Game", "Task"]

Task = Callable[[Sample, tuple[str, ...], Contestant, EvaluationConfig], Iterator[Game | str]]
"""(sample, ids of the objects wanted, contestant, config) -> games to play; a str names what is left out and why.

A task that plays several objects as one does so for one of their ids, so that it may be called for parts of an image.
"""

TASKS: dict[str, Task] = {
    "single": single,
    "from_mask": from_mask,
    "additional_effort": additional_effort,
    "collective_effort": collective_effort,
}
