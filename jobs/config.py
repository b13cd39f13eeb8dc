"""Configs of the jobs: what each command takes. Components' own settings are beside the components."""

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
    """Which network, and from which weights."""

    name: str = "simpleclick_vit_base"
    """One of NETWORKS; "": that of start_from."""
    start_from: str | None = None
    """Checkpoint to fine-tune: its folder, its address or maskwright:NAME; none: fresh weights, or with a name of ""
    the model maskwright:lite_s."""
    fresh: bool = True
    """Whether fresh weights make sense; a fine-tuning recipe says no and needs start_from."""
    backbone: str = ""
    """timm's name of the backbone of a lite_* network, such as tf_efficientnet_lite0; "": that of the name."""
    pretrained: bool = False
    """Start the backbone of a lite_* network from timm's pretrained weights, which timm downloads unless they are in
    its cache; the rest is fresh."""

    def __post_init__(self) -> None:
        if self.name:
            lookup("network", self.name, NETWORKS)
        if not (self.backbone or self.pretrained):
            return
        flags = "--network.backbone and --network.pretrained"
        if not isinstance(NETWORKS.get(self.name), LiteConfig):
            raise InputError(f"{flags} are for networks around a backbone of timm: say --network.name lite_s with them")
        if self.start_from is not None:
            raise InputError(
                f"{flags} are for fresh weights: leave them out, or --network.start-from {self.start_from}"
            )

    def options(self, crop_hw: tuple[int, int]) -> dict[str, Any]:
        """Network options: the training crop's size, where the network takes one size only, and the backbone."""
        if self.backbone:
            return around(self.backbone)
        return {"input_hw": crop_hw} if hasattr(NETWORKS.get(self.name), "input_hw") else {}


def for_reader_of(argv: Sequence[str], data: DataConfig) -> DataConfig:
    """Drop a preset's reader options, and what it says of ids, if the flags name another reader; options also if they
    name some of their own.

    What a preset tells its own reader means nothing to another; and tyro offers KEY VALUE ... for empty ones.
    """
    other_reader = _given(argv, "--data.reader") not in (None, data.reader)
    if other_reader:
        data = dataclasses.replace(data, coarse=() if _given(argv, "--data.coarse") is None else data.coarse)
    if other_reader or _given(argv, "--data.options") is not None:
        return dataclasses.replace(data, options={})
    return data


def _given(argv: Sequence[str], flag: str) -> str | None:
    """Value of a flag before it is parsed, as "--flag value" or "--flag=value"."""
    for place, word in enumerate(argv):
        if word.replace("_", "-") == flag:
            return argv[place + 1] if place + 1 < len(argv) else None
        if word.split("=")[0].replace("_", "-") == flag:
            return word.split("=", 1)[1]
    return None


@dataclass(frozen=True, kw_only=True)
class BeforeAfterConfig(Record):
    """Evaluate the checkpoint that training starts from and the one it ends with, on the held-out images."""

    called = "before_after"

    objects: Count = 0
    """Held-out objects that both play; 0: neither is evaluated."""
    max_clicks: Positive = 10
    min_area: Count | Literal["auto"] = 300
    """Objects of fewer pixels are left out. auto: the 10th percentile of the objects' areas, 20 to 300."""
    refine: str = ""
    """How both are asked; "": as the checkpoint that training starts from recommends."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Fine-tune an interactive segmentation network by clicks."""

    data: DataConfig = field(default_factory=DataConfig)
    network: NetworkChoice = field(default_factory=NetworkChoice)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    scaling: ScalingConfig = field(default_factory=ScalingConfig)
    refine: str = ""
    """Refinement that the checkpoint recommends to evaluate, serve and Predictor; "": that of the checkpoint that
    training starts from, else one look as the network is made for (standard; SAM's family: sam)."""
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    before_after: BeforeAfterConfig = field(default_factory=BeforeAfterConfig)
    out: str = ""
    """Folder of the run; default runs/PRESET-DATE. A run that stopped goes on where it was if it is named again."""
    register: str | None = None
    """Name under which MLflow's registry gets the model (alias "champion"); none: not registered."""
    experiment: str | None = None
    """MLflow experiment of the run; none: that of MLFLOW_EXPERIMENT_NAME, else maskwright."""
    system_metrics: bool = False
    """Log CPU, memory, disk, network and GPUs of the workers' machines to MLflow (or set
    MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING=true)."""
    num_cpus: int | None = None
    """CPUs of a Ray that this job starts; none: all. Ignored on one that it joins."""
    ray: str = ""
    """Address of the Ray to join; local: a separate one. "": that of RAY_ADDRESS, else the one that `ray start`
    recorded here, else a separate one."""

    def __post_init__(self) -> None:
        lookup("objective", self.training.objective, OBJECTIVES)
        if self.before_after.objects and not self.validation.hold_out:
            raise InputError("before_after plays held-out images: give --validation.hold-out 0.1")


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig(Decoding):
    """Measure clicks: a robot user plays every object, NoC and IoU are counted."""

    checkpoint: str | None = None
    """Checkpoint: its folder, its address (s3://BUCKET/FOLDER) or maskwright:NAME; none: maskwright:lite_s, or with
    --baseline nothing beside it."""
    baseline: str | None = None
    """A learning-free predictor to evaluate beside it, or alone: grabcut."""
    datasets: tuple[str, ...] = ()
    """Data sets, READER=ROOT or READER/SPLIT=ROOT each (sbd/val=/data/SBD); instead of the next three."""
    reader: str = "masks"
    root: str | None = None
    split: str = ""
    options: dict[str, str] = field(default_factory=dict)
    """More settings of the reader: --options KEY VALUE ..."""
    hold_out: Annotated[float, AtLeast(0), Below(1)] = 0.0
    """Play only the images that a training with the same --validation.hold-out never sees; 0: all."""
    policies: tuple[str, ...] = ()
    """Robot users, each of which plays everything; none: --protocol.policy."""
    refine: tuple[str, ...] = ()
    """Refinements to evaluate, by name or JSON file; none: what the checkpoint recommends."""
    protocol: EvaluationConfig = field(default_factory=EvaluationConfig)
    scaling: EvaluationScaling = field(default_factory=EvaluationScaling)
    experiment: str | None = None
    """MLflow experiment of the run; none: that of MLFLOW_EXPERIMENT_NAME, else maskwright."""
    out: str = ""
    """Folder of tables, CSV and report; default runs/evaluate-DATE. If it was interrupted, naming it again goes on."""
    num_overlays: Count = 4
    """Best, median and worst objects that the report shows, so many of each."""
    ray: str = ""
    """Address of the Ray to join; local: a separate one. "": that of RAY_ADDRESS, else the one that `ray start`
    recorded here, else a separate one."""

    def __post_init__(self) -> None:
        """Check the fields together."""
        super().__post_init__()
        if self.datasets and (self.reader, self.root, self.split) != ("masks", None, ""):
            raise InputError("--datasets names readers, splits and roots: leave out --reader, --split and --root")


@dataclass(frozen=True, kw_only=True)
class SweepConfig(Decoding):
    """Look for the settings of refinement (or training) that take the fewest clicks."""

    checkpoint: str = DEFAULT
    """Checkpoint: its folder, its address (s3://BUCKET/FOLDER) or maskwright:NAME; for a space of training settings,
    what training starts from."""
    reader: str = "masks"
    root: str | None = None
    split: str = ""
    options: dict[str, str] = field(default_factory=dict)
    """More settings of the reader: --options KEY VALUE ..."""
    hold_out: Annotated[float, AtLeast(0), Below(1)] = 0.0
    """Play only the images that a training with the same --validation.hold-out never sees; 0: all."""
    objective: str = "noc90"
    """noc85, noc90, ... (clicks to that IoU), spc (seconds a click), or another of MEASURES by name, such as iou, biou
    and assd (after the last click)."""
    pareto: bool = False
    """Look for the best at each price: a setting is dropped only if a cheaper one is better; optuna minds both."""
    search: Literal["grid", "random", "optuna"] = "grid"
    trials: Count = 0
    """Most settings; 0: the whole grid."""
    generation: Positive = 8
    """Settings that race together, each a trial of Ray Tune."""
    set: dict[str, str] = field(default_factory=dict)
    """Narrow or widen the space: --set refine.cascade.steps 0,2,4 refine.mask_threshold 0.3..0.6 data.root /data"""
    refine: str = ""
    """Refinement that settings change, and that all are compared with; "": what the checkpoint recommends."""
    race: RaceConfig = field(default_factory=RaceConfig)
    protocol: EvaluationConfig = field(default_factory=lambda: EvaluationConfig(max_objects=200))
    scaling: EvaluationScaling = field(default_factory=EvaluationScaling)
    memory_mb: Count = 1024
    """Answers of the network that an evaluator remembers, so that settings share them; 0: each computes its own."""
    max_failures: Count = 1
    """Times that a setting whose trial died is tried again, before it is left out and named."""
    train_preset: str = "finetune"
    """For a space of training settings: what they change, a preset of jobs.train; --set gives more of its flags."""
    store: bool = False
    """Let the checkpoint recommend the best setting, if it is shown to beat the one that it recommends now."""
    seed: int = 0
    """Draws settings and the order of objects."""
    experiment: str | None = None
    """MLflow experiment of the run; none: that of MLFLOW_EXPERIMENT_NAME, else maskwright."""
    out: str = ""
    """Folder of the sweep; default runs/sweep-SPACE-DATE. If it was interrupted, naming it again goes on."""
    ray: str = ""
    """Address of the Ray to join; local: a separate one. "": that of RAY_ADDRESS, else the one that `ray start`
    recorded here, else a separate one."""

    def __post_init__(self) -> None:
        """Check the fields together."""
        super().__post_init__()
        objective(self.objective)
        if self.search != "grid" and not self.trials:
            raise InputError(f"search {self.search} has no end: say how many settings with --trials")
