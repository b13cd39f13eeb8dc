"""Configs of the jobs: the flags of each command. The settings of a component are defined beside the component."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from models.box import DEFAULT
from models.decoding import Decoding
from models.errors import InputError, lookup
from models.networks import NETWORKS
from models.networks.lite import LiteConfig, around
from models.records import AtLeast, Below, Count, Positive, Record
from pipeline.data.config import DataConfig
from pipeline.evaluation.config import EvaluationConfig, EvaluationScaling
from pipeline.training.config import ScalingConfig, TrainingConfig
from pipeline.training.objectives import OBJECTIVES
from pipeline.training.validation import ValidationConfig
from pipeline.tuning.objective import objective
from pipeline.tuning.race import RaceConfig


@dataclass(frozen=True, kw_only=True)
class NetworkChoice:
    """The network to train, and the weights it starts from."""

    name: str = "simpleclick_vit_base"
    """Network, one of NETWORKS; empty: the network of start_from."""
    start_from: str | None = None
    """Checkpoint to fine-tune: a folder, an address (s3://BUCKET/FOLDER) or maskwright:NAME. Default: fresh weights, or
    maskwright:lite_s if name is empty."""
    fresh: bool = True
    """Allow training from fresh weights. Presets for fine-tuning turn this off, and then need start_from."""
    backbone: str = ""
    """timm's name of the backbone of a lite_* network, such as tf_efficientnet_lite0; empty: the network's default."""
    pretrained: bool = False
    """Start the backbone of a lite_* network from timm's pretrained weights, which timm downloads unless they are in
    its cache; the other weights are fresh."""

    def __post_init__(self) -> None:
        if self.name:
            lookup("network", self.name, NETWORKS)
        if not (self.backbone or self.pretrained):
            return
        flags = "--network.backbone and --network.pretrained"
        if not isinstance(NETWORKS.get(self.name), LiteConfig):
            raise InputError(f"{flags} are for networks around a timm backbone: add --network.name lite_s")
        if self.start_from is not None:
            raise InputError(
                f"{flags} are for fresh weights: leave out either them or --network.start-from {self.start_from}"
            )

    def options(self, crop_hw: tuple[int, int]) -> dict[str, Any]:
        """Return the network options of a run: the crop's size, for networks of a fixed size, and the backbone."""
        if self.backbone:
            return around(self.backbone)
        return {"input_hw": crop_hw} if hasattr(NETWORKS.get(self.name), "input_hw") else {}


def for_reader_of(argv: Sequence[str], data: DataConfig) -> DataConfig:
    """Drop a preset's reader options, and its ids of coarse masks, where the flags replace them.

    Both belong to the preset's reader and mean nothing to another one. Options are also dropped if the flags give
    options; empty ones let tyro offer KEY VALUE ...
    """
    other_reader = _given(argv, "--data.reader") not in (None, data.reader)
    if other_reader:
        data = dataclasses.replace(data, coarse=() if _given(argv, "--data.coarse") is None else data.coarse)
    if other_reader or _given(argv, "--data.options") is not None:
        return dataclasses.replace(data, options={})
    return data


def _given(argv: Sequence[str], flag: str) -> str | None:
    """Return the value of a flag in unparsed arguments ("--flag value" or "--flag=value"); None if it is absent."""
    for place, word in enumerate(argv):
        if word.replace("_", "-") == flag:
            return argv[place + 1] if place + 1 < len(argv) else None
        if word.split("=")[0].replace("_", "-") == flag:
            return word.split("=", 1)[1]
    return None


@dataclass(frozen=True, kw_only=True)
class BeforeAfterConfig(Record):
    """Evaluation of the first and the final checkpoint of a training on its held-out images."""

    called = "before_after"

    objects: Count = 0
    """Number of held-out objects to evaluate both checkpoints on; 0: no evaluation."""
    max_clicks: Positive = 10
    """Maximum number of clicks per object."""
    min_area: Count | Literal["auto"] = 300
    """Area in pixels below which objects are left out. auto: the 10th percentile of the objects' areas, 20 to 300."""
    refine: str = ""
    """Refinement to evaluate both checkpoints with; empty: the one that each recommends."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Fine-tune an interactive segmentation network by clicks."""

    data: DataConfig = field(default_factory=DataConfig)
    network: NetworkChoice = field(default_factory=NetworkChoice)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    scaling: ScalingConfig = field(default_factory=ScalingConfig)
    refine: str = ""
    """Refinement that the checkpoint recommends for evaluation, serving and prediction; empty: the one that the
    starting checkpoint recommends, else the network's default (standard; for SAM's family, sam)."""
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    before_after: BeforeAfterConfig = field(default_factory=BeforeAfterConfig)
    out: str = ""
    """Folder or address of the run; default: runs/PRESET-DATE. To resume a run, give the same one again."""
    register: str | None = None
    """Name to register the trained model under in MLflow (alias "champion"); by default it is not registered."""
    experiment: str | None = None
    """MLflow experiment of the run; default: MLFLOW_EXPERIMENT_NAME, else maskwright."""
    system_metrics: bool = False
    """Log CPU, memory, disk, network and GPUs of the workers' machines to MLflow. Setting
    MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING=true does the same."""
    num_cpus: int | None = None
    """CPUs of a Ray that this job starts; default: all. Ignored on a cluster that was joined."""
    ray: str = ""
    """Address of the Ray cluster to join, or "local" to start a separate one. By default: RAY_ADDRESS, else the cluster
    that `ray start` recorded on this machine, else a separate one."""

    def __post_init__(self) -> None:
        lookup("objective", self.training.objective, OBJECTIVES)
        if self.before_after.objects and not self.validation.hold_out:
            raise InputError("--before-after.objects needs held-out images: give --validation.hold-out 0.1 as well")


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig(Decoding):
    """Evaluate a model: a robot user clicks on every object, and clicks and IoU are measured."""

    checkpoint: str | None = None
    """Checkpoint: a folder, an address (s3://BUCKET/FOLDER) or maskwright:NAME. Default: maskwright:lite_s, or none if
    --baseline is given."""
    baseline: str | None = None
    """Method without learning to evaluate, alone or beside --checkpoint: grabcut."""
    datasets: tuple[str, ...] = ()
    """Data sets, each READER=ROOT or READER/SPLIT=ROOT (sbd/val=/data/SBD); replaces --reader, --root and --split."""
    reader: str = "masks"
    """Format of the data set, one of READERS (docs/DATASETS.md)."""
    root: str | None = None
    """Folder or address of the data set; readers that generate images take none."""
    split: str = ""
    """Split to read; default: the reader's own default."""
    options: dict[str, str] = field(default_factory=dict)
    """Further settings of the reader, as --options KEY VALUE ..."""
    hold_out: Annotated[float, AtLeast(0), Below(1)] = 0.0
    """Fraction of the images to play: those that training with this --validation.hold-out does not see; 0: all."""
    policies: tuple[str, ...] = ()
    """Robot users to evaluate with, each on all objects; default: --protocol.policy."""
    refine: tuple[str, ...] = ()
    """Refinements to evaluate, names or JSON files; default: the one that the checkpoint recommends."""
    protocol: EvaluationConfig = field(default_factory=EvaluationConfig)
    scaling: EvaluationScaling = field(default_factory=EvaluationScaling)
    experiment: str | None = None
    """MLflow experiment of the run; default: MLFLOW_EXPERIMENT_NAME, else maskwright."""
    out: str = ""
    """Folder or address for tables and report; default: runs/evaluate-DATE. To resume, give the same one again."""
    num_overlays: Count = 4
    """Objects to show in the report: so many each of the best, the median and the worst."""
    ray: str = ""
    """Address of the Ray cluster to join, or "local" to start a separate one. By default: RAY_ADDRESS, else the cluster
    that `ray start` recorded on this machine, else a separate one."""

    def __post_init__(self) -> None:
        """Check the fields together."""
        super().__post_init__()
        if self.datasets and (self.reader, self.root, self.split) != ("masks", None, ""):
            raise InputError("--datasets names readers, splits and roots: leave out --reader, --split and --root")


@dataclass(frozen=True, kw_only=True)
class SweepConfig(Decoding):
    """Search for the settings of refinement, or of training, that need the fewest clicks."""

    checkpoint: str = DEFAULT
    """Checkpoint to evaluate, or to train from: a folder, an address (s3://BUCKET/FOLDER) or maskwright:NAME."""
    reader: str = "masks"
    """Format of the data set, one of READERS (docs/DATASETS.md)."""
    root: str | None = None
    """Folder or address of the data set; readers that generate images take none."""
    split: str = ""
    """Split to read; default: the reader's own default."""
    options: dict[str, str] = field(default_factory=dict)
    """Further settings of the reader, as --options KEY VALUE ..."""
    hold_out: Annotated[float, AtLeast(0), Below(1)] = 0.0
    """Fraction of the images to play: those that training with this --validation.hold-out does not see; 0: all."""
    objective: str = "noc90"
    """Measure to optimise: noc85, noc90, ... (clicks to that IoU), spc (seconds per click), iou, biou, assd or another
    of MEASURES (after the last click)."""
    pareto: bool = False
    """Find the best setting at each time per click: a setting is dropped only if a faster one is better."""
    search: Literal["grid", "random", "optuna"] = "grid"
    """How settings are chosen: the whole grid, at random, or by Optuna, which with --pareto optimises time as well."""
    trials: Count = 0
    """Maximum number of settings; 0: the whole grid (random and optuna need a number)."""
    generation: Positive = 8
    """Settings that are compared at the same time, each a trial of Ray Tune."""
    set: dict[str, str] = field(default_factory=dict)
    """Change the space: names with values or a range each, as --set refine.cascade.steps 0,2,4
    refine.mask_threshold 0.3..0.6 data.root /data"""
    refine: str = ""
    """Refinement that settings change and are compared with; empty: the one that the checkpoint recommends."""
    race: RaceConfig = field(default_factory=RaceConfig)
    protocol: EvaluationConfig = field(default_factory=lambda: EvaluationConfig(max_objects=200))
    scaling: EvaluationScaling = field(default_factory=EvaluationScaling)
    memory_mb: Count = 1024
    """Megabytes of network outputs that an evaluator keeps, so that settings share them; 0: no sharing."""
    max_failures: Count = 1
    """Times to retry a setting whose trial died before it is left out and reported as failed."""
    train_preset: str = "finetune"
    """Preset of jobs.train that a space of training settings changes; --set changes more of its flags."""
    store: bool = False
    """Make the checkpoint recommend the best setting, if it is significantly better than the current one (--refine)."""
    seed: int = 0
    """Random seed of the settings and of the order of objects."""
    experiment: str | None = None
    """MLflow experiment of the run; default: MLFLOW_EXPERIMENT_NAME, else maskwright."""
    out: str = ""
    """Folder or address of the sweep; default: runs/sweep-SPACE-DATE. To resume, give the same one again."""
    ray: str = ""
    """Address of the Ray cluster to join, or "local" to start a separate one. By default: RAY_ADDRESS, else the cluster
    that `ray start` recorded on this machine, else a separate one."""

    def __post_init__(self) -> None:
        """Check the fields together."""
        super().__post_init__()
        objective(self.objective)
        if self.search != "grid" and not self.trials:
            raise InputError(f"--search {self.search} needs a number of settings: give --trials")
