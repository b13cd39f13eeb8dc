"""What each model reserves of a Ray: arithmetic only."""

import math
from dataclasses import dataclass

CORRECTION_CPUS = 0.5  # of what a first click's replica reserves
CORRECTION_GPUS = 0.25  # a correction is a small part of a first click: the two share what the model has
INGRESS_CPUS = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """Of one model: the CPUs of its heavy half, and the GPUs of both halves together."""

    cpus: float
    gpus: float

    def heavy(self, split: bool) -> dict[str, float]:
        """What FirstClick reserves, as Ray's actor options."""
        return {"num_cpus": self.cpus, "num_gpus": _floor(self.gpus * (1 - CORRECTION_GPUS if split else 1))}

    def light(self) -> dict[str, float]:
        """What Correction reserves."""
        return {"num_cpus": _floor(self.cpus * CORRECTION_CPUS), "num_gpus": _floor(self.gpus * CORRECTION_GPUS)}


def share_of(num_models: int, cpus: float, gpus: float, use_gpu: bool) -> Share:
    """Share what a Ray has among models: a CPU each if there is room, and no GPU with more models than need be.

    Room is for one model more than there are: while one is replaced, the next one starts beside it.
    """
    wanted = (1 + CORRECTION_CPUS) * (num_models + 1)
    return Share(
        cpus=max(0.01, _floor(min(1.0, (cpus - INGRESS_CPUS) / wanted))),
        gpus=_floor(1 / math.ceil(num_models / max(1, math.floor(gpus)))) if use_gpu else 0.0,
    )


def _floor(amount: float) -> float:
    """Ray counts ten-thousandths, and three thirds must not be more than one."""
    return math.floor(amount * 10_000 + 1e-6) / 10_000
