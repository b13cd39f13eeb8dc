"""Settings of a training run, except its data and its network."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from models.errors import InputError
from models.precision import Precision
from models.records import Above, AtLeast, AtMost, Below, Count, Factor, Fraction, Positive, Record
from pipeline.nodes import placed

PartOfRate = Annotated[float, Above(0), AtMost(1)]


@dataclass(frozen=True, kw_only=True)
class IclConfig(Record):
    """Settings of the iterative click loss (docs/PAPERS.md, CFR-ICL: iterative click loss (ICL))."""

    called = "training.icl"

    betas: tuple[Annotated[float, AtLeast(0)], ...] = (1.0, 2.0, 3.0)
    """Weight of each scored output, in order."""
    first_weight: Annotated[float, AtLeast(0)] = 0.0
    """Weight of the output for the random clicks, which the paper does not score. Networks that offer several masks for
    a first click need it."""
    forget_prob: Fraction = 0.0
    """Probability that a network which remembers its last logits (SAM's family) gets the last mask instead, as when a
    zoom changes the view (ours)."""
    more_clicks: Count = 0
    """Largest number of unscored corrections between the random clicks and the scored ones. Half of the steps make
    none, the others draw a number in 1..more_clicks (ours: networks that answer first clicks well learn from later
    ones)."""


@dataclass(frozen=True, kw_only=True)
class RitmConfig(Record):
    """Settings of RITM's clicks without gradient before the scored output (docs/PAPERS.md, RITM: training)."""

    called = "training.ritm"

    max_iterations: Count = 3
    """Largest number of clicks without gradient; each step draws one number in 0..max_iterations for the batch."""


@dataclass(frozen=True, kw_only=True)
class EmcConfig(Record):
    """Settings of EMC-Click's number of corrections, one for the batch (docs/PAPERS.md, EMC-Click: training)."""

    called = "training.emc"

    gamma: Annotated[float, AtLeast(0)] = 0.8
    """Factor on the odds of each further correction."""
    max_iterations: Count = 23
    """Largest number of corrections before the scored one."""


@dataclass(frozen=True, kw_only=True)
class FocusConfig(Record):
    """Settings of FocusCut's two views (docs/PAPERS.md, FocusCut: training)."""

    called = "training.focus"

    order: Literal["joint", "alternate"] = "joint"
    """joint: both views in every step, as in the public code; alternate: the views in turn, as in the paper."""
    iterate_prob: Fraction = 0.7
    """Probability of each further robot click before the scored output of the global view."""
    max_iterations: Count = 3
    """Largest number of such robot clicks in a step (ours: the published code makes one per epoch, on the last epoch's
    prediction)."""


@dataclass(frozen=True, kw_only=True)
class ExemplarConfig(Record):
    """Settings of training on all objects of a category (docs/PAPERS.md, iCMFormer++: training)."""

    called = "training.exemplar"

    max_iterations: Count = 3
    """Largest number of clicks without gradient; each step draws a number in 0..max_iterations."""


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig(Record):
    """Settings of the optimiser and of the learning rate's schedule."""

    called = "training.optimizer"

    name: Literal["adam", "adamw", "sgd"] = "adam"
    """Optimiser; adam adds weight decay to the gradient, as in the papers, and sgd has momentum 0.9 (FocusCut)."""
    lr: Factor = 5e-5
    """Learning rate before warm-up, schedule and the factors below."""
    weight_decay: Annotated[float, AtLeast(0)] = 0.0
    """Weight decay."""
    layer_decay: Factor | None = None
    """Layer-wise decay of the learning rate towards the input (0.75 in the public code); None: one rate."""
    layer_decay_public_bug: bool = False
    """Reproduce a bug of the public code's layer-wise decay: the clicks' embedding is never trained."""
    backbone_factor: PartOfRate = 1.0
    """Factor on the learning rate of the pre-trained backbone of HRNet and SegFormer networks (0.1 in RITM and
    EMC-Click)."""
    fresh_factor: Factor = 1.0
    """Factor on the learning rate of layers that the starting checkpoint does not have (lite_s)."""
    fused: bool = True
    """Update all parameters in one kernel where the device supports it (CUDA)."""
    warmup_steps: Count = 0
    """Steps of linear warm-up."""
    schedule: Literal["constant", "cosine", "milestones", "exponential"] = "constant"
    """Learning-rate schedule after warm-up."""
    milestones: tuple[PartOfRate, ...] = ()
    """Fractions of the run after which the rate is divided by 10 (schedule milestones)."""
    final_factor: PartOfRate = 0.01
    """Factor on the rate at the end of the run (schedule exponential)."""
    max_grad_norm: Factor | None = None
    """Norm to which gradients are clipped; None: no clipping."""


@dataclass(frozen=True, kw_only=True)
class TrainingConfig(Record):
    """Settings of the training loop: objective, length, optimiser, and how often to save."""

    called = "training"

    objective: str = "icl"
    """Training objective, one of OBJECTIVES: ritm, icl (the paper's form), icl_code (the public code's form), emc,
    correction_only, focus, exemplar."""
    icl: IclConfig = field(default_factory=IclConfig)
    ritm: RitmConfig = field(default_factory=RitmConfig)
    emc: EmcConfig = field(default_factory=EmcConfig)
    focus: FocusConfig = field(default_factory=FocusConfig)
    exemplar: ExemplarConfig = field(default_factory=ExemplarConfig)
    loss: Literal["nfl", "bce"] = "nfl"
    """nfl: normalised focal loss; bce: binary cross entropy (FocusCut)."""
    ignore_border: Annotated[float, AtLeast(0), Below(0.5)] = 0.0
    """Half the width of a band along the target's border that is not scored, as a fraction of the crop's longer side;
    0: no band. Masks that were drawn as polygons are often wrong there, and the loss weighs hard pixels most. Clicks
    are still drawn on the whole target."""
    freeze_encoder: bool = False
    """Freeze an image encoder that sees no click (SAM's family). It then runs once per step, for all clicks."""
    freeze_layers: Count = 0
    """Number of layers of a pre-trained backbone to freeze, counted from the input (`Network.layers`)."""
    quality_weight: Annotated[float, AtLeast(0)] = 1.0
    """Weight of the error of the predicted IoU, for networks that predict one (SAM)."""
    aux_weight: Annotated[float, AtLeast(0)] = 0.4
    """Weight of the auxiliary head's cross entropy, for networks that have one (RITM, EMC-Click on HRNet)."""
    steps: Positive = 1000
    """Steps of the optimiser in the whole run."""
    batch_size: Positive = 32
    """Samples per step, over all workers."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    precision: Precision = "fp32"
    """Number format of the forward pass: fp32, or bf16 under autocast."""
    checkpoint_every: Positive = 200
    """Steps between checkpoints; the last step always writes one."""
    log_every: Positive = 10
    """Steps between logged metrics."""
    pictures_every: Count = 500
    """Steps between pictures of training samples with their clicks and predictions; 0: none."""
    seed: int = 0
    """Seed of fresh weights and of the draws in each step; the data stream has `data.seed`."""
    accumulate: Positive = 1
    """Parts into which a worker cuts its samples of a step, to run one after another: less memory, the same gradients,
    except that batch norms see one part at a time."""
    recompute: bool = False
    """Recompute the blocks' activations in the backward pass (gradient checkpointing): a third slower, far less
    memory."""
    compile: bool = False
    """Compile the network (torch.compile): takes minutes at the start, then steps are faster."""
    ema: Annotated[float, AtLeast(0), Below(1)] = 0.0
    """Decay of a running average of the weights (such as 0.999), which checkpoints then hold; 0: no average."""

    def __post_init__(self) -> None:
        """Check the fields together."""
        super().__post_init__()
        if self.batch_size % self.accumulate:
            raise InputError(
                f"training.batch_size {self.batch_size} does not divide into training.accumulate {self.accumulate}"
            )


@dataclass(frozen=True, kw_only=True)
class ScalingConfig(Record):
    """Numbers and resources of the workers that train and of the actors that make data."""

    called = "scaling"

    workers: Positive = 1
    """Training workers, each with one GPU if `gpu`."""
    max_workers: Count = 0
    """Grow to this many workers while the cluster has room, and shrink to `workers` when nodes are lost; 0: always
    `workers`. The batch size does not change, so every number of workers in between must divide it."""
    grow_every_s: Annotated[float, AtLeast(0)] = 60.0
    """Seconds between checks for room for more workers (with max_workers); growing restarts from the last
    checkpoint."""
    parallel: Literal["ddp", "fsdp"] = "ddp"
    """ddp: every worker holds the whole network; fsdp: a shard of it and of the optimiser's state (ViT-H on small
    GPUs)."""
    sync_batch_norm: bool = True
    """Let batch norms see the samples of all workers (on GPUs; on CPUs each worker sees only its own)."""
    gpu: bool = False
    """Train on GPUs, one per worker."""
    cpus_per_worker: Annotated[float, AtLeast(0)] = 1.0
    """CPUs that a training worker reserves."""
    threads_per_worker: Count = 0
    """Torch threads of a worker on a CPU; 0: the machine's cores divided by its workers."""
    data_actors: Positive = 2
    """Actors that make training samples."""
    max_data_actors: Count = 0
    """Grow to this many data actors while training waits for samples; 0: always data_actors."""
    data_memory_mb: Count = 0
    """Object store for finished samples that wait for training, in MiB; 0: Ray's choice (half of its store)."""
    cpus_per_data_actor: Annotated[float, AtLeast(0)] = 1.0
    """CPUs that a data actor reserves."""
    nodes: str = ""
    """Nodes for training workers: those with a resource (NAME) or a label (KEY=VALUE); "": any."""
    data_nodes: str = ""
    """Nodes for data actors, given the same way; "augment" selects the CPU workers of cluster.yaml."""
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
        """The numbers of workers that training may run with."""
        return range(self.workers, max(self.workers, self.max_workers) + 1)

    def check_batch(self, training: TrainingConfig) -> None:
        """Check that the batch divides among every number of workers and into their parts.

        Raises InputError if it does not, or for settings that cannot be combined.
        """
        if training.compile and self.parallel == "fsdp":
            raise InputError(
                "training.compile with scaling.parallel fsdp is untested: use --scaling.parallel ddp or leave out "
                "--training.compile"
            )
        for workers in self.worker_counts:
            if training.batch_size % (workers * training.accumulate):
                parts = f", each in {training.accumulate} parts" if training.accumulate > 1 else ""
                raise InputError(
                    f"training.batch_size {training.batch_size} does not divide among {workers} workers{parts}"
                )

    def forwards_of_one(self, training: TrainingConfig) -> list[int]:
        """Return the numbers of workers at which batch norms would see a single sample."""
        together = self.gpu and self.sync_batch_norm
        return [
            workers
            for workers in self.worker_counts
            if training.batch_size == workers * training.accumulate and not (together and workers > 1)
        ]

    @property
    def data_pool(self) -> tuple[int, int]:
        """The smallest and the largest number of data actors."""
        return self.data_actors, max(self.data_actors, self.max_data_actors)

    @property
    def data_memory_bytes(self) -> int:
        """`data_memory_mb` in bytes."""
        return self.data_memory_mb * 2**20
