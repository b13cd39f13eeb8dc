"""The training loop: torch only. Where batches come from and where metrics go is injected; Ray is not known here.

Everything random in a step is a function of (seed, step, rank): a run that is interrupted and resumed draws the same.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from models.errors import lookup
from models.networks.base import Network
from pipeline.data.sampling import rng_for
from pipeline.training.batch import TrainingBatch
from pipeline.training.config import TrainingConfig
from pipeline.training.objectives import OBJECTIVES
from pipeline.training.optimizer import make_optimizer, rate_factor, set_rate
from pipeline.training.runner import Runner, freeze, rest

STREAM, SHARED, OWN = 101, 102, 103
"""Purposes of random numbers, so that no two uses share a sequence."""


@dataclass
class Trainer:
    """A network with its optimiser and the step it is at; `module` is what is called: the network, or DDP around it."""

    network: Network
    module: nn.Module
    config: TrainingConfig
    rank: int = 0
    step: int = 0
    optimizer: torch.optim.Optimizer = field(init=False)

    def __post_init__(self) -> None:
        self.objective = lookup("objective", self.config.objective, OBJECTIVES)
        self.frozen = self.objective.frozen(self.network)
        freeze(self.frozen)
        self.optimizer = make_optimizer(self.network, self.config.optimizer)
        self.runner = Runner(self.network, self.module, self.config.precision)

    def train_step(self, batch: TrainingBatch) -> dict[str, float]:
        """Make one step and return its metrics: loss (sum of the terms), gradient norm, rate."""
        seed = self.config.seed
        self.module.train()
        rest(self.frozen)
        self.runner.step = self.step
        torch.manual_seed(int(rng_for(seed, self.step, self.rank, STREAM).integers(2**31)))
        factor = rate_factor(self.config.optimizer, self.step, self.config.steps)
        set_rate(self.optimizer, factor)
        self.optimizer.zero_grad(set_to_none=True)
        shared, own = rng_for(seed, self.step, SHARED), rng_for(seed, self.step, self.rank, OWN)
        num_terms, terms = self.objective.terms(self.runner, batch, self.config, shared, own)
        loss = 0.0
        for number in range(num_terms):
            # Gradients add up over the terms; workers exchange them once, with the last.
            wait = getattr(self.module, "no_sync", None) if number < num_terms - 1 else None
            with wait() if wait is not None else contextlib.nullcontext():
                term = next(terms)
                term.backward()
            loss += float(term.detach())
        terms.close()  # pyright: ignore[reportAttributeAccessIssue]
        limit = self.config.optimizer.max_grad_norm
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), limit if limit is not None else float("inf"))
        if not (np.isfinite(loss) and torch.isfinite(norm)):
            raise FloatingPointError(
                f"loss {loss} and gradient norm {float(norm)} at step {self.step}: lower training.optimizer.lr or set "
                "training.optimizer.max_grad_norm"
            )
        self.optimizer.step()
        self.step += 1
        return {"loss": loss, "grad_norm": float(norm), "lr": self.config.optimizer.lr * factor}

    def state_tensors(self) -> dict[str, Tensor]:
        """Flatten the optimiser's tensors, for safetensors: "<parameter number>.<name>"."""
        return {
            f"{number}.{name}": value
            for number, state in self.optimizer.state_dict()["state"].items()
            for name, value in state.items()
        }

    def load_state_tensors(self, tensors: dict[str, Tensor], step: int) -> None:
        """Undo `state_tensors` and continue at `step`."""
        state = self.optimizer.state_dict()
        state["state"] = {}
        for key, value in tensors.items():
            number, name = key.split(".", 1)
            state["state"].setdefault(int(number), {})[name] = value
        self.optimizer.load_state_dict(state)
        self.step = step


def fit(
    trainer: Trainer,
    batches: Iterator[TrainingBatch],
    on_step: Callable[[int, dict[str, float]], None],
    on_checkpoint: Callable[[int, dict[str, float]], bool | None],
) -> None:
    """Train until `config.steps`.

    `on_step(step, metrics)` every `log_every` steps and at the last, with means since the last call, images per second
    and the share of time spent waiting for data; `on_checkpoint(step, metrics)` every `checkpoint_every` steps and at
    the last: if it answers true, training ends there.
    """
    config = trainer.config
    sums: dict[str, float] = {}
    count = num_images = 0
    waited, started = 0.0, time.monotonic()
    while trainer.step < config.steps:
        asked = time.monotonic()
        batch = next(batches)
        waited += time.monotonic() - asked
        for name, value in trainer.train_step(batch).items():
            sums[name] = sums.get(name, 0.0) + value
        count, num_images = count + 1, num_images + len(batch.image)
        last = trainer.step == config.steps
        saving = last or trainer.step % config.checkpoint_every == 0
        if saving or trainer.step % config.log_every == 0:
            elapsed = max(1e-9, time.monotonic() - started)
            metrics = {name: value / count for name, value in sums.items()}
            metrics |= {
                "images_per_second": num_images / elapsed,
                "seconds_per_step": elapsed / count,
                "data_wait": waited / elapsed,
            }
            on_step(trainer.step, metrics)
            if saving and on_checkpoint(trainer.step, metrics):
                return
            sums, count, num_images, waited, started = {}, 0, 0, 0.0, time.monotonic()
