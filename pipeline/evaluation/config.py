"""Settings of an evaluation, apart from what is evaluated."""

from dataclasses import dataclass, field
from typing import Annotated

from models.backend import Backend, check_backend
from models.errors import InputError
from models.precision import Precision
from models.records import Above, AtLeast, AtMost, Count, Factor, Positive, Record
from pipeline.clicks.realistic import Realistic
from pipeline.nodes import placed

CATEGORY_TASKS = ("additional_effort", "collective_effort")
"""Tasks of which a sample is a category of an image, not an image."""


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig(Record):
    """The protocol: who clicks, for how long, and what is counted."""

    task: str = "single"
    """What is segmented and what is given, one of TASKS: single objects from nothing (single) or from a mask to correct
    (from_mask), or all objects of a category, an exemplar of them given (additional_effort) or not (collective_effort).
    """
    policy: str = "oracle"
    """The robot user, one of POLICIES."""
    realistic: Realistic = field(default_factory=Realistic)
    """How the robot user `realistic` clicks; the others do not look."""
    max_clicks: Positive = 20
    target_iou: Annotated[float, Above(0), AtMost(1.01)] = 0.95
    """Stop clicking on an object once its IoU reaches this."""
    qualities: tuple[Annotated[float, Above(0)], ...] = (0.85, 0.90, 0.95)
    """NoC and NoF are given at these IoUs; none above target_iou."""
    at_clicks: tuple[Positive, ...] = (1, 3, 5)
    """IoU&k, BIoU&k and ASSD&k, and every other measure of masks, are given for these k."""
    further_clicks: tuple[Positive, ...] = (1, 5, 10)
    """mIoU@k+ is given for these k."""
    boundaries: bool = True
    """Measure BIoU, ASSD and all else that is costly, after the clicks `at_clicks` and an object's last; their time is
    part of s/click."""
    max_objects: Positive | None = None
    """Evaluate so many objects, drawn by `seed`; None: all. Categories are evaluated whose exemplar is drawn."""
    min_area: Count = 0
    """Leave out, and name, objects of fewer pixels; in a category they still belong to the union."""
    seed: int = 0
    """Draws the objects, and the clicks of a robot user that is random: each object's by its own generator."""

    def __post_init__(self) -> None:
        """Check the fields together."""
        super().__post_init__()
        if not self.qualities or max(self.qualities) > self.target_iou:
            raise InputError(
                f"qualities is {self.qualities}: expected one IoU or more, none above target_iou "
                f"({self.target_iou}), at which clicking stops"
            )


@dataclass(frozen=True, kw_only=True)
class EvaluationScaling(Record):
    """How many actors evaluate, and on what."""

    called = "scaling"

    actors: Count = 0
    """Actors; 0: one per CPU, or per GPU; on a Ray that was joined 8."""
    gpu: bool = False
    num_cpus: Annotated[float, AtLeast(0)] = 1.0
    num_gpus: Factor = 1.0
    """GPUs per actor if `gpu`; fractions share one."""
    nodes: str = ""
    """Nodes that actors run on: those that have a resource (NAME) or a label (KEY=VALUE); "": any."""
    max_batch: Positive = 32
    """Views per forward on a GPU; on a CPU it is 1."""
    threads: Positive = 1
    """Torch threads of an actor on a CPU."""
    precision: Precision = "fp32"
    """bf16 is about twice as fast where the processor has instructions for it, and a little off."""
    backend: Backend = "torch"
    """onnx: onnxruntime on the CPU, with files that are made of the checkpoint once (docs/ONNX.md)."""

    def __post_init__(self) -> None:
        """Check the fields together."""
        super().__post_init__()
        placed(self.nodes)
        check_backend(self.backend, self.precision, "cuda" if self.gpu else "cpu")
