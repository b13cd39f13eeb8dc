"""The training loop, in plain torch: the caller passes in the batches and the functions that receive the metrics.

All random draws of a step are functions of (seed, step, rank), so a resumed run draws the same numbers.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models.errors import lookup
from models.fast import swap
from models.networks.base import Network
from pipeline.data.sampling import rng_for
from pipeline.training.batch import TrainingBatch
from pipeline.training.config import TrainingConfig
from pipeline.training.ema import Ema
from pipeline.training.finite import FiniteGuard
from pipeline.training.objectives import OBJECTIVES, frozen_parts
from pipeline.training.optimizer import make_optimizer, rate_factor, set_rate
from pipeline.training.parallel import exchanging, running_statistics, share_buffers, whole
from pipeline.training.recompute import recompute_blocks
from pipeline.training.runner import Runner, freeze, rest

STREAM, SHARED, OWN = 101, 102, 103
"""Purposes of random numbers, so that no two purposes share a sequence."""
RAW = "raw"


def prepare(network: Network, config: TrainingConfig) -> None:
    """Freeze, recompute and compile the network as configured, before it is distributed over workers."""
    freeze(frozen_parts(network, config))
    if config.recompute:
        recompute_blocks(network)
    if config.compile:
        network.compile()


@dataclass
class Trainer:
    """A network in training with its optimiser and step; `module` runs the forwards: the network, or DDP around it.

    The network is trained in its faster forms (models.fast).
    """

    network: Network
    module: nn.Module
    config: TrainingConfig
    rank: int = 0
    step: int = 0
    optimizer: torch.optim.Optimizer = field(init=False)
    writers: Any = None
    """Process group for writing shards of checkpoints, created with the first of them."""

    def __post_init__(self) -> None:
        self.objective = lookup("objective", self.config.objective, OBJECTIVES)
        swap(self.network)
        self.frozen = frozen_parts(self.network, self.config)
        freeze(self.frozen)
        self.optimizer = make_optimizer(self.network, self.config.optimizer)
        self.guard = FiniteGuard(self.optimizer)
        self.statistics = running_statistics(self.network)
        self.runner = Runner(self.network, self.module, self.config.precision)
        self.ema = Ema(self.network, self.config.ema) if self.config.ema else None

    def train_step(self, batch: TrainingBatch) -> dict[str, float | Tensor]:
        """Make one step and return its metrics: loss (sum of the terms), IoU of the last output, gradient norm, rate.

        Numbers that are on the device stay tensors, so that no step waits for the device until `float` reads one. A
        loss or gradient that is not finite is never applied: it raises FloatingPointError here, or with a fused
        optimiser in `fit` before anything is saved.
        """
        config, seed = self.config, self.config.seed
        self.module.train()
        rest(self.frozen)
        share_buffers(self.statistics)
        self.runner.step = self.step
        torch.manual_seed(int(rng_for(seed, self.step, self.rank, STREAM).integers(2**31)))
        factor = rate_factor(config.optimizer, self.step, config.steps)
        set_rate(self.optimizer, factor)
        self.optimizer.zero_grad(set_to_none=True)
        own = rng_for(seed, self.step, self.rank, OWN)
        device = batch.target.device
        loss, iou = torch.zeros((), device=device), torch.zeros((), device=device)
        for place, part in enumerate(batch.parts(config.accumulate), start=1):
            # Created again for each part: parts of a step draw the same shared numbers, as workers do.
            shared = rng_for(seed, self.step, SHARED)
            num_terms, terms = self.objective.terms(self.runner, part, config, shared, own)
            for number in range(1, num_terms + 1):
                # Gradients add up over terms and parts; workers exchange them once, with the last term.
                with exchanging(self.module, place == config.accumulate and number == num_terms):
                    term = next(terms) / config.accumulate
                    term.backward()
                loss = loss + term.detach()
            terms.close()  # pyright: ignore[reportAttributeAccessIssue]
            iou = iou + self._iou(part) / config.accumulate
        limit = config.optimizer.max_grad_norm
        norm = whole(nn.utils.clip_grad_norm_(self.network.parameters(), limit if limit is not None else float("inf")))
        metrics = {"loss": loss, "iou": iou, "grad_norm": norm, "lr": config.optimizer.lr * factor}
        self.guard.admit(self.step, loss, norm)
        self.optimizer.step()
        if self.ema is not None:
            self.ema.update()
        self.step += 1
        return metrics

    def _iou(self, batch: TrainingBatch) -> Tensor:
        """Return the mean IoU of the last output with the target of its view, global or close-up."""
        logits, target = self.runner.last, batch.target
        assert logits is not None
        if batch.focus is not None and self.runner.shown[0] is batch.focus.image:
            target = batch.focus.target
        mask, wanted, valid = logits > 0, target > 0.5, target >= 0
        both = (mask & wanted & valid).flatten(1).sum(1)
        either = ((mask | wanted) & valid).flatten(1).sum(1)
        return (both / either.clamp(min=1)).mean()

    def state_tensors(self) -> dict[str, Tensor]:
        """Return the optimiser's tensors as "<parameter number>.<name>", and with averaging also the raw weights."""
        tensors = {
            f"{number}.{name}": value
            for number, state in self.optimizer.state_dict()["state"].items()
            for name, value in state.items()
            if isinstance(value, Tensor)
        }
        if self.ema is not None:
            # The checkpoint itself holds the averages.
            tensors |= {f"{RAW}.{name}": parameter.detach() for name, parameter in self.ema.parameters.items()}
        return tensors

    def load_state_tensors(self, tensors: dict[str, Tensor], step: int) -> None:
        """Load what `state_tensors` returned and continue at `step`; with averaging, the network holds the averages."""
        state = self.optimizer.state_dict()
        state["state"] = {}
        raw = {key.removeprefix(f"{RAW}."): value for key, value in tensors.items() if key.startswith(f"{RAW}.")}
        if self.ema is not None:
            self.ema.load(raw)
        for key, value in tensors.items():
            number, name = key.split(".", 1)
            if number == RAW:
                continue
            state["state"].setdefault(int(number), {})[name] = value
        self.optimizer.load_state_dict(state)
        self.step = step

    def sheet(self, batch: TrainingBatch) -> np.ndarray:
        """Draw the samples of the last step's last forward."""
        from pipeline.training.pictures import training_sheet

        part = batch.parts(self.config.accumulate)[-1]
        image, clicks = self.runner.shown
        assert self.runner.last is not None
        target = part.target
        if part.focus is not None and image is part.focus.image:
            target = part.focus.target
        return training_sheet(image, target, clicks, self.runner.last, f"step {self.step}")

    def averaged(self) -> AbstractContextManager[None]:
        """Put the averaged weights, if there are any, into the network while the block runs, to save a checkpoint."""
        return contextlib.nullcontext() if self.ema is None else self.ema.in_place()


def fit(
    trainer: Trainer,
    batches: Iterator[TrainingBatch],
    on_step: Callable[[int, dict[str, float]], None],
    on_checkpoint: Callable[[int, dict[str, float]], bool | None],
    on_picture: Callable[[int, np.ndarray], None] | None = None,
    leaving: Callable[[int], bool] = lambda step: False,
) -> None:
    """Train until `config.steps`, calling the given functions after steps.

    `on_step(step, metrics)` is called every `log_every` steps and with each checkpoint; the metrics are means since the
    last call, images per second, and the share of time spent waiting for data. `on_checkpoint(step, metrics)` is called
    every `checkpoint_every` steps, at the last step, and when `leaving(step)` returns true; if it returns true itself,
    training ends there. `on_picture(step, sheet)` is called at the first step and every `pictures_every` steps, with a
    contact sheet of the step's samples, uint8 RGB.
    """
    config = trainer.config
    sums: dict[str, float | Tensor] = {}
    count = num_images = 0
    waited, started = 0.0, time.monotonic()
    while trainer.step < config.steps:
        asked = time.monotonic()
        batch = next(batches)
        waited += time.monotonic() - asked
        for name, value in trainer.train_step(batch).items():
            sums[name] = sums.get(name, 0.0) + value
        count, num_images = count + 1, num_images + len(batch.image)
        if on_picture is not None and config.pictures_every and (trainer.step - 1) % config.pictures_every == 0:
            on_picture(trainer.step, trainer.sheet(batch))
        last = trainer.step == config.steps
        saving = last or trainer.step % config.checkpoint_every == 0 or leaving(trainer.step)
        if saving or trainer.step % config.log_every == 0:
            trainer.guard.check()
            metrics = {name: float(value) / count for name, value in sums.items()}
            elapsed = max(1e-9, time.monotonic() - started)
            metrics |= {
                "images_per_second": num_images / elapsed,
                "seconds_per_step": elapsed / count,
                "data_wait": waited / elapsed,
            }
            on_step(trainer.step, metrics)
            if saving and on_checkpoint(trainer.step, metrics):
                return
            sums, count, num_images, waited, started = {}, 0, 0, 0.0, time.monotonic()
