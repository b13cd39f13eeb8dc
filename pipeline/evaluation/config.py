"""Settings of an evaluation, apart from what is evaluated."""

from dataclasses import dataclass, field

from models.backend import Backend, check_backend
from models.errors import InputError
from models.precision import Precision
from pipeline.clicks.realistic import Realistic

CATEGORY_TASKS = ("additional_effort", "collective_effort")
"""Tasks of which a sample is a category of an image, not an image."""


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """The protocol: who clicks, for how long, and what is counted."""

    task: str = "single"
    """What is segmented and what is given, one of TASKS: single objects from nothing (single) or from a mask to correct
    (from_mask), or all objects of a category, an exemplar of them given (additional_effort) or not (collective_effort).
    """
    policy: str = "oracle"
    """The robot user, one of POLICIES."""
    realistic: Realistic = field(default_factory=Realistic)
    """How the robot user `realistic` clicks; the others do not look."""
    max_clicks: int = 20
    target_iou: float = 0.95
    """Stop clicking on an object once its IoU reaches this."""
    qualities: tuple[float, ...] = (0.85, 0.90, 0.95)
    """NoC and NoF are given at these IoUs; none above target_iou."""
    at_clicks: tuple[int, ...] = (1, 3, 5)
    """IoU&k, BIoU&k and ASSD&k, and every other measure of masks, are given for these k."""
    further_clicks: tuple[int, ...] = (1, 5, 10)
    """mIoU@k+ is given for these k."""
    boundaries: bool = True
    """Measure BIoU, ASSD and all else that is costly, after the clicks `at_clicks` and an object's last; their time is
    part of s/click."""
    max_objects: int | None = None
    """Evaluate so many objects, drawn by `seed`; None: all. Categories are evaluated whose exemplar is drawn."""
    min_area: int = 0
    """Leave out, and name, objects of fewer pixels; in a category they still belong to the union."""
    seed: int = 0
    """Draws the objects, and the clicks of a robot user that is random: each object's by its own generator."""

    def __post_init__(self) -> None:
        if self.max_clicks < 1 or (self.max_objects is not None and self.max_objects < 1):
            raise InputError(f"max_clicks {self.max_clicks}, max_objects {self.max_objects}: expected at least 1")
        if not 0 < self.target_iou <= 1.01 or any(not 0 < q <= self.target_iou for q in self.qualities):
            raise InputError(
                f"qualities {self.qualities}, target_iou {self.target_iou}: expected IoUs in (0, 1], none of the "
                "qualities above the target at which clicking stops"
            )
        if not self.qualities or any(k < 1 for k in (*self.at_clicks, *self.further_clicks)):
            raise InputError(
                f"qualities {self.qualities}, at_clicks {self.at_clicks}, further_clicks {self.further_clicks}: "
                "expected at least one quality and numbers of clicks from 1 on"
            )


@dataclass(frozen=True, kw_only=True)
class EvaluationScaling:
    """How many actors evaluate, and on what."""

    actors: int = 0
    """Actors; 0: one per CPU of the cluster, or per GPU."""
    gpu: bool = False
    num_cpus: float = 1.0
    num_gpus: float = 1.0
    """GPUs per actor if `gpu`; fractions share one."""
    max_batch: int = 32
    """Views per forward on a GPU; on a CPU it is 1."""
    threads: int = 1
    """Torch threads of an actor on a CPU."""
    precision: Precision = "fp32"
    """bf16 is about twice as fast where the processor has instructions for it, and a little off."""
    backend: Backend = "torch"
    """onnx: onnxruntime on the CPU, with files that are made of the checkpoint once (docs/ONNX.md)."""

    def __post_init__(self) -> None:
        check_backend(self.backend, self.precision, "cuda" if self.gpu else "cpu")
        if self.actors < 0 or self.max_batch < 1 or self.threads < 1 or self.num_cpus < 0 or self.num_gpus <= 0:
            raise InputError(
                f"scaling: actors {self.actors}, max_batch {self.max_batch}, threads {self.threads}, num_cpus "
                f"{self.num_cpus}, num_gpus {self.num_gpus}: expected >= 0, >= 1, >= 1, >= 0 and > 0"
            )
