"""Compute which share of a Ray's CPUs and GPUs each model reserves."""

import math
from dataclasses import dataclass

CORRECTION_CPUS = 0.5  # relative to a replica of FirstClick
CORRECTION_GPUS = 0.25  # of the model's GPUs, which both halves share; a correction is a small part of a first click
INGRESS_CPUS = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """The share of one model: the CPUs of its heavy half, and the GPUs of both halves together."""

    cpus: float
    gpus: float

    def heavy(self, split: bool) -> dict[str, float]:
        """Return what FirstClick reserves, as Ray's actor options."""
        return {"num_cpus": self.cpus, "num_gpus": _floor(self.gpus * (1 - CORRECTION_GPUS if split else 1))}

    def light(self) -> dict[str, float]:
        """Return what Correction reserves, as Ray's actor options."""
        return {"num_cpus": _floor(self.cpus * CORRECTION_CPUS), "num_gpus": _floor(self.gpus * CORRECTION_GPUS)}


def share_of(num_models: int, cpus: float, gpus: float, use_gpu: bool) -> Share:
    """Share a Ray's resources among models: up to one CPU each, and as few models per GPU as possible.

    There is room for one more model, because a replacement starts while the old model still runs.
    """
    wanted = (1 + CORRECTION_CPUS) * (num_models + 1)
    return Share(
        cpus=max(0.01, _floor(min(1.0, (cpus - INGRESS_CPUS) / wanted))),
        gpus=_floor(1 / math.ceil(num_models / max(1, math.floor(gpus)))) if use_gpu else 0.0,
    )


def _floor(amount: float) -> float:
    """Round down to ten-thousandths, Ray's unit, so that for example three thirds are not more than one."""
    return math.floor(amount * 10_000 + 1e-6) / 10_000
