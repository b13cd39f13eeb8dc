"""Settings of a training run, apart from its data and its network."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from models.errors import InputError
from models.precision import Precision
from models.records import Above, AtLeast, AtMost, Below, Count, Factor, Fraction, Positive, Record
from pipeline.nodes import placed

PartOfRate = Annotated[float, Above(0), AtMost(1)]


@dataclass(frozen=True, kw_only=True)
class IclConfig(Record):
    """Iterative click loss (Sun et al., section 3.1, Eq. 1-3; docs/PAPERS.md, CFR-ICL: iterative click loss (ICL))."""

    called = "training.icl"

    betas: tuple[Annotated[float, AtLeast(0)], ...] = (1.0, 2.0, 3.0)
    """Weight of each scored output, in order."""
    first_weight: Annotated[float, AtLeast(0)] = 0.0
    """Weight of the output of the random clicks, which the paper does not score; networks that offer several masks for
    a first click need it."""
    forget_prob: Fraction = 0.0
    """How often a network that remembers the logits of its last look (SAM's family) is given their mask instead, as
    where a zoom changes the view (ours)."""
    more_clicks: Count = 0
    """Most corrections that are made without a score between the random clicks and the scored ones; a step draws a
    number in 0..more_clicks, 0 half of the time (ours: networks that answer the first clicks well by themselves learn
    from later ones)."""


@dataclass(frozen=True, kw_only=True)
class RitmConfig(Record):
    """Clicks made without gradient before the output that is scored (docs/PAPERS.md, RITM: training)."""

    called = "training.ritm"

    max_iterations: Count = 3
    """Each step draws a number of such clicks in 0..max_iterations, one for the batch."""


@dataclass(frozen=True, kw_only=True)
class EmcConfig(Record):
    """EMC-Click's batch-consistent number of corrections (docs/PAPERS.md, EMC-Click: training)."""

    called = "training.emc"

    gamma: Annotated[float, AtLeast(0)] = 0.8
    """Each further correction is this many times as likely as the one before."""
    max_iterations: Count = 23


@dataclass(frozen=True, kw_only=True)
class FocusConfig(Record):
    """FocusCut's two views (docs/PAPERS.md, FocusCut: training)."""

    called = "training.focus"

    order: Literal["joint", "alternate"] = "joint"
    """joint: both views in every step, as the public code; alternate: one after the other, as the paper says."""
    iterate_prob: Fraction = 0.7
    """How often a further robot click is made before the global output that is scored."""
    max_iterations: Count = 3
    """Most of them. Ours: published, they are made one an epoch, on the last epoch's prediction."""


@dataclass(frozen=True, kw_only=True)
class ExemplarConfig(Record):
    """Correcting all objects of a kind, one of which is given (docs/PAPERS.md, iCMFormer++: training)."""

    called = "training.exemplar"

    max_iterations: Count = 3
    """Each step draws a number of clicks made without gradient in 0..max_iterations."""


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig(Record):
    """The optimiser and its schedule."""

    called = "training.optimizer"

    name: Literal["adam", "adamw", "sgd"] = "adam"
    """adam has its weight decay inside the gradient, as the papers; sgd its momentum 0.9 (FocusCut)."""
    lr: Factor = 5e-5
    weight_decay: Annotated[float, AtLeast(0)] = 0.0
    layer_decay: Factor | None = None
    """Layer-wise decay of the learning rate towards the input (0.75 in the public code); None: one rate."""
    layer_decay_public_bug: bool = False
    """Repeat the public code's layer-wise decay, which forgets the clicks' embedding and so never trains it."""
    backbone_factor: PartOfRate = 1.0
    """Part of the rate for the pre-trained backbone of HRNet and SegFormer networks (0.1 in RITM and EMC-Click)."""
    fresh_factor: Factor = 1.0
    """The rate of what a network has beside the weights that it started from is this many times as large (lite_s)."""
    fused: bool = True
    """Update all parameters in one call where the device can (CUDA)."""
    warmup_steps: Count = 0
    """Steps of linear warm-up."""
    schedule: Literal["constant", "cosine", "milestones", "exponential"] = "constant"
    milestones: tuple[PartOfRate, ...] = ()
    """Fractions of the run after which the rate is divided by 10 (schedule milestones)."""
    final_factor: PartOfRate = 0.01
    """Part of the rate that is left at the end (schedule exponential)."""
    max_grad_norm: Factor | None = None


@dataclass(frozen=True, kw_only=True)
class TrainingConfig(Record):
    """How to train: objective, length, optimiser, and how often to save."""

    called = "training"

    objective: str = "icl"
    """One of OBJECTIVES: ritm, icl (the paper's form), icl_code (the public code's), emc, correction_only, focus,
    exemplar."""
    icl: IclConfig = field(default_factory=IclConfig)
    ritm: RitmConfig = field(default_factory=RitmConfig)
    emc: EmcConfig = field(default_factory=EmcConfig)
    focus: FocusConfig = field(default_factory=FocusConfig)
    exemplar: ExemplarConfig = field(default_factory=ExemplarConfig)
    loss: Literal["nfl", "bce"] = "nfl"
    """Normalised focal loss, or plain binary cross entropy (FocusCut)."""
    ignore_border: Annotated[float, AtLeast(0), Below(0.5)] = 0.0
    """Half the width of a band along the target's border that is not scored, as a part of the longer side: where
    masks were drawn as polygons, pixels nearer than this are often wrong, and hard pixels weigh most. Clicks are drawn
    on the whole target. 0: none."""
    freeze_encoder: bool = False
    """Leave an image encoder that sees no click (SAM's family) as it is: it then runs once a step, however many
    clicks."""
    freeze_layers: Count = 0
    """Leave this many layers of a pre-trained backbone as they are, from the input on (`Network.layers`)."""
    quality_weight: Annotated[float, AtLeast(0)] = 1.0
    """Weight of the error of a predicted IoU, where a network predicts one (SAM)."""
    aux_weight: Annotated[float, AtLeast(0)] = 0.4
    """Weight of the cross entropy of an aux head, where a network has one (RITM, EMC-Click on HRNet)."""
    steps: Positive = 1000
    batch_size: Positive = 32
    """Samples per step over all workers."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    precision: Precision = "fp32"
    checkpoint_every: Positive = 200
    """Steps between checkpoints; the last step always writes one."""
    log_every: Positive = 10
    pictures_every: Count = 500
    """Steps between pictures of training samples, their clicks and answers; 0: none."""
    seed: int = 0
    accumulate: Positive = 1
    """Parts that a worker cuts its samples of a step into, one after the other: less memory, the same gradients (but
    for batch norms, which see a part at a time)."""
    recompute: bool = False
    """Compute blocks again in the backward pass instead of keeping their inner values: a third slower, far less
    memory."""
    compile: bool = False
    """Compile the network (torch.compile): minutes at the start, faster steps."""
    ema: Annotated[float, AtLeast(0), Below(1)] = 0.0
    """Decay of a running average of the weights, which checkpoints then hold (0.999, say); 0: none."""

    def __post_init__(self) -> None:
        """Check the fields together."""
        super().__post_init__()
        if self.batch_size % self.accumulate:
            raise InputError(
                f"training.batch_size {self.batch_size} does not divide into training.accumulate {self.accumulate}"
            )


@dataclass(frozen=True, kw_only=True)
class ScalingConfig(Record):
    """How many workers train, and how many make data."""

    called = "scaling"

    workers: Positive = 1
    """Training workers, one GPU each if `gpu`."""
    max_workers: Count = 0
    """Grow up to so many workers while the cluster has room, and shrink to `workers` where nodes are lost; 0: always
    `workers`. The batch stays the same: each of these numbers must divide it."""
    grow_every_s: Annotated[float, AtLeast(0)] = 60.0
    """Seconds between looks for room for more workers (with max_workers); growing goes back to the last checkpoint."""
    parallel: Literal["ddp", "fsdp"] = "ddp"
    """ddp: every worker has the whole network; fsdp: parts of it and of the optimiser's state (ViT-H on small GPUs)."""
    sync_batch_norm: bool = True
    """Batch norms see the samples of all workers (on GPUs; on CPUs each has its own)."""
    gpu: bool = False
    cpus_per_worker: Annotated[float, AtLeast(0)] = 1.0
    threads_per_worker: Count = 0
    """Torch threads of a worker on a CPU; 0: the machine's cores divided by the workers."""
    data_actors: Positive = 2
    """Actors that make training samples."""
    max_data_actors: Count = 0
    """As many of them may run while training waits for samples; 0: never more than data_actors."""
    data_memory_mb: Count = 0
    """Object store that finished samples may take while they wait; 0: as Ray decides (half of its store)."""
    cpus_per_data_actor: Annotated[float, AtLeast(0)] = 1.0
    nodes: str = ""
    """Nodes that training workers run on: those that have a resource (NAME) or a label (KEY=VALUE); "": any."""
    data_nodes: str = ""
    """The same of the actors that make samples: augment, say, keeps them on the CPU workers of cluster.yaml."""
    max_failures: Count = 3
    """Times that training restarts from its last checkpoint after a worker or a node died."""

    def __post_init__(self) -> None:
        """Check the fields together."""
        super().__post_init__()
        placed(self.nodes)
        placed(self.data_nodes)
        if self.max_workers and self.max_workers < self.workers:
            raise InputError(
                f"scaling.max_workers is {self.max_workers}: expected at least scaling.workers ({self.workers}), or 0"
            )

    @property
    def worker_counts(self) -> range:
        """How many workers there may be."""
        return range(self.workers, max(self.workers, self.max_workers) + 1)

    def check_batch(self, training: TrainingConfig) -> None:
        """Raise InputError unless the batch divides among every number of workers, and theirs into parts; or for
        settings that do not go together."""
        if training.compile and self.parallel == "fsdp":
            raise InputError(
                "training.compile with scaling.parallel fsdp is untried: leave one of them out (ddp, or no compile)"
            )
        for workers in self.worker_counts:
            if training.batch_size % (workers * training.accumulate):
                parts = f", each in {training.accumulate} parts" if training.accumulate > 1 else ""
                raise InputError(
                    f"training.batch_size {training.batch_size} does not divide among {workers} workers{parts}"
                )

    def forwards_of_one(self, training: TrainingConfig) -> list[int]:
        """Numbers of workers at which batch norms would see one sample at a time."""
        together = self.gpu and self.sync_batch_norm
        return [
            workers
            for workers in self.worker_counts
            if training.batch_size == workers * training.accumulate and not (together and workers > 1)
        ]

    @property
    def data_pool(self) -> tuple[int, int]:
        """The least and the most data actors."""
        return self.data_actors, max(self.data_actors, self.max_data_actors)

    @property
    def data_memory_bytes(self) -> int:
        """`data_memory_mb` in bytes."""
        return self.data_memory_mb * 2**20
