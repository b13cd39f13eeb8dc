"""Settings of a training run, apart from its data and its network."""

from dataclasses import dataclass, field
from typing import Literal

from models.errors import InputError
from models.precision import Precision


@dataclass(frozen=True, kw_only=True)
class IclConfig:
    """Iterative click loss (Sun et al., CFR-ICL, section 3.1, Eq. 1-3; spec 4.3)."""

    betas: tuple[float, ...] = (1.0, 2.0, 3.0)
    """Weight of each scored output, in order."""


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """Adam and its schedule."""

    lr: float = 5e-5
    weight_decay: float = 0.0
    layer_decay: float | None = None
    """Layer-wise decay of the learning rate towards the input (0.75 in the public code); None: one rate."""
    warmup_steps: int = 0
    """Steps of linear warm-up."""
    schedule: Literal["constant", "cosine", "milestones"] = "constant"
    milestones: tuple[float, ...] = ()
    """Fractions of the run after which the rate is divided by 10 (schedule milestones)."""
    max_grad_norm: float | None = None

    def __post_init__(self) -> None:
        if self.lr <= 0 or self.weight_decay < 0 or self.warmup_steps < 0:
            raise InputError(
                f"optimizer: lr {self.lr}, weight_decay {self.weight_decay}, warmup_steps {self.warmup_steps}: "
                "expected lr > 0 and the others >= 0"
            )
        if any(not 0 < m <= 1 for m in self.milestones):
            raise InputError(f"optimizer.milestones {self.milestones}: expected fractions of the run in (0, 1]")


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How to train: objective, length, optimiser, and how often to save."""

    objective: str = "icl"
    """One of OBJECTIVES: icl (the paper's form), icl_code (the public code's form)."""
    icl: IclConfig = field(default_factory=IclConfig)
    steps: int = 1000
    batch_size: int = 32
    """Samples per step over all workers."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    precision: Precision = "fp32"
    checkpoint_every: int = 200
    """Steps between checkpoints; the last step always writes one."""
    log_every: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "checkpoint_every", "log_every"):
            if getattr(self, name) < 1:
                raise InputError(f"training.{name} {getattr(self, name)}: expected a number >= 1")


@dataclass(frozen=True, kw_only=True)
class ScalingConfig:
    """How many workers train, and how many make data."""

    workers: int = 1
    """Training workers, one GPU each if `gpu`."""
    gpu: bool = False
    cpus_per_worker: float = 1.0
    threads_per_worker: int = 0
    """Torch threads of a worker on a CPU; 0: the machine's cores divided by the workers."""
    data_actors: int = 2
    """Actors that make training samples."""
    max_data_actors: int = 0
    """As many of them may run while training waits for samples; 0: never more than data_actors."""
    data_memory_mb: int = 0
    """Object store that finished samples may take while they wait; 0: as Ray decides (half of its store)."""
    cpus_per_data_actor: float = 1.0
    max_failures: int = 3
    """Times that training restarts from its last checkpoint after a worker or a node died."""

    def __post_init__(self) -> None:
        for name in ("max_data_actors", "data_memory_mb"):
            if getattr(self, name) < 0:
                raise InputError(f"scaling.{name} {getattr(self, name)}: expected a number >= 0")
        if self.workers < 1 or self.data_actors < 1 or self.max_failures < 0:
            raise InputError(
                f"scaling: workers {self.workers}, data_actors {self.data_actors}, max_failures {self.max_failures}: "
                "expected at least 1, 1 and 0"
            )

    @property
    def data_pool(self) -> tuple[int, int]:
        """The least and the most data actors."""
        return self.data_actors, max(self.data_actors, self.max_data_actors)

    @property
    def data_memory_bytes(self) -> int:
        """`data_memory_mb` in bytes."""
        return self.data_memory_mb * 2**20
