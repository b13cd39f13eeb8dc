"""Settings of an evaluation, except which data and methods it evaluates."""

from dataclasses import dataclass, field
from typing import Annotated

from models.backend import Backend, check_backend
from models.errors import InputError
from models.precision import Precision
from models.records import Above, AtLeast, AtMost, Count, Factor, Positive, Record
from pipeline.clicks.realistic import Realistic
from pipeline.nodes import placed

CATEGORY_TASKS = ("additional_effort", "collective_effort")
"""Tasks in which a sample is a category in an image instead of an image."""


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig(Record):
    """The protocol: which robot user clicks, for how long, and what is measured."""

    task: str = "single"
    """Task, one of TASKS: single objects without an initial mask (single) or with a mask to correct (from_mask), or all
    objects of a category, with an exemplar given (additional_effort) or not (collective_effort)."""
    policy: str = "oracle"
    """Robot user, one of POLICIES."""
    realistic: Realistic = field(default_factory=Realistic)
    """Settings of the robot user `realistic`; the others ignore them."""
    max_clicks: Positive = 20
    """Most clicks per object."""
    target_iou: Annotated[float, Above(0), AtMost(1.01)] = 0.95
    """IoU at which clicking on an object stops."""
    qualities: tuple[Annotated[float, Above(0)], ...] = (0.85, 0.90, 0.95)
    """IoUs for which NoC and NoF are reported; none above target_iou."""
    at_clicks: tuple[Positive, ...] = (1, 3, 5)
    """Numbers of clicks k for which IoU&k, BIoU&k, ASSD&k and every other measure of masks are reported."""
    further_clicks: tuple[Positive, ...] = (1, 5, 10)
    """Numbers of further clicks k for which mIoU@k+ is reported."""
    boundaries: bool = True
    """Measure BIoU, ASSD and every other costly measure, after the clicks `at_clicks` and each object's last click;
    this time is part of s/click."""
    max_objects: Positive | None = None
    """Objects to evaluate, drawn by `seed`; None: all. Tasks on categories evaluate those whose exemplar is drawn."""
    min_area: Count = 0
    """Leave out objects with fewer pixels, and report them; in a category they still belong to the union."""
    seed: int = 0
    """Seed of the drawn objects and of a random robot user's clicks; each object has a separate generator."""

    def __post_init__(self) -> None:
        """Check the fields together."""
        super().__post_init__()
        if not self.qualities or max(self.qualities) > self.target_iou:
            raise InputError(
                f"qualities is {self.qualities}: expected at least one IoU, none above target_iou "
                f"({self.target_iou}), at which clicking stops"
            )


@dataclass(frozen=True, kw_only=True)
class EvaluationScaling(Record):
    """Numbers and resources of the actors that evaluate."""

    called = "scaling"

    actors: Count = 0
    """Actors that evaluate; 0: one per CPU or GPU, or 8 on a cluster that the job joins."""
    gpu: bool = False
    """Evaluate on GPUs."""
    num_cpus: Annotated[float, AtLeast(0)] = 1.0
    """CPUs that an actor reserves."""
    num_gpus: Factor = 1.0
    """GPUs per actor if `gpu`; with a fraction, actors share a GPU."""
    nodes: str = ""
    """Nodes for the actors: those with a resource (NAME) or a label (KEY=VALUE); "": any."""
    max_batch: Positive = 32
    """Most views per forward on a GPU; on a CPU it is always 1."""
    threads: Positive = 1
    """Torch threads of an actor on a CPU."""
    precision: Precision = "fp32"
    """Number format: bf16 is about twice as fast on processors with instructions for it, and slightly less exact."""
    backend: Backend = "torch"
    """Runtime: torch, or onnx for onnxruntime on the CPU, with files that are exported from the checkpoint once
    (docs/ONNX.md)."""

    def __post_init__(self) -> None:
        """Check the fields together."""
        super().__post_init__()
        placed(self.nodes)
        check_backend(self.backend, self.precision, "cuda" if self.gpu else "cpu")
