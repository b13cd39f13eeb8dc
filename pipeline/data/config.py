"""Settings of the training stream: data set, crop size, augmentation, copy-paste and clicks."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from models.decoding import Decoding
from models.errors import InputError
from models.records import Above, AtMost, Count, Fraction, Positive
from pipeline.clicks.random_clicks import RandomClicksConfig
from pipeline.data.augment import AugmentConfig
from pipeline.data.copy_paste import CopyPasteConfig
from pipeline.data.exemplar_columns import ExemplarColumnsConfig
from pipeline.data.focus_patches import FocusPatchConfig

AUTO = "auto"


@dataclass(frozen=True, kw_only=True)
class DataConfig(Decoding):
    """Settings of the training stream; they determine every pixel and click of every sample."""

    reader: str = "scenes"
    """Format of the data set: the name of a reader (docs/DATASETS.md)."""
    root: str | None = None
    """Folder or address of the data set; none for generated data."""
    split: str = ""
    """Split to read; empty: the reader's default."""
    options: dict[str, str] = field(default_factory=dict)
    """Further options of the reader (docs/DATASETS.md)."""
    leave_out: tuple[str, ...] = ()
    """Data sets whose photos are left out of training because they are used for evaluation, each as READER=ROOT or
    READER/SPLIT=ROOT."""
    coarse: tuple[str, ...] = ()
    """Prefixes of the ids of images whose masks are coarse, such as polygons: `training.ignore_border` then applies to
    these images only. None: it applies to all images."""
    crop_hw: tuple[Positive, Positive] = (448, 448)
    """Height and width of a training image, in pixels."""
    window_size: Positive = 64
    """Number of samples made together: each image is decoded once, and the samples are each other's copy-paste
    partners."""
    targets_per_view: Positive = 1
    """Number of consecutive samples that show the same augmented image, each with its own target and clicks: networks
    that encode an image before any click (SAM) encode it once for samples that share a forward. Choose a divisor of
    batch_size / accumulate / workers. The other images of the window are not shown: an epoch shows one image in this
    many."""
    seed: Count = 0
    """Random seed of the stream."""
    min_object_area: Count | Literal["auto"] = 1000
    """Objects of fewer pixels after augmentation are not used as targets (COCO+LVIS 1000; SBD 80, in CFR-ICL 20). auto:
    the 10th percentile of the objects' areas at the scale of training, at least 20."""
    max_auto_area: Count = 1000
    """Upper limit of `min_object_area` auto, in pixels."""
    min_piece_area: Count = 0
    """Connected pieces of fewer pixels are removed from objects (EMC-Click 900)."""
    max_object_share: Annotated[float, Above(0), AtMost(1)] = 1.0
    """Objects that cover a larger fraction of the crop are not used as targets (EMC-Click 0.85)."""
    keep_background_prob: Fraction = 0.05
    """Probability of keeping a crop without any object (COCO+LVIS 0.05, SBD 0.01)."""
    fresh_partners: bool = False
    """Augment a copy-paste partner again for every paste (CFR-ICL's code) instead of once: more variety within a
    window, in one and a half times the time."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    copy_paste: CopyPasteConfig = field(default_factory=CopyPasteConfig)
    clicks: RandomClicksConfig = field(default_factory=RandomClicksConfig)
    focus: FocusPatchConfig = field(default_factory=FocusPatchConfig)
    exemplar: ExemplarColumnsConfig = field(default_factory=ExemplarColumnsConfig)

    @property
    def floor(self) -> int:
        """`min_object_area` as a number; "auto" has been resolved before (pipeline/data/targets.py)."""
        assert isinstance(self.min_object_area, int), "min_object_area is still auto"
        return self.min_object_area

    def __post_init__(self) -> None:
        """Check the fields together."""
        super().__post_init__()
        if self.targets_per_view > self.window_size:
            raise InputError(
                f"targets_per_view is {self.targets_per_view}: expected at most window_size ({self.window_size})"
            )
        if self.targets_per_view > 1 and self.copy_paste.recipe != "none":
            raise InputError(
                f"targets_per_view {self.targets_per_view} with copy_paste.recipe {self.copy_paste.recipe!r}: expected "
                "'none', because copy-paste changes the image for each target"
            )
        if self.exemplar.enabled and self.copy_paste.recipe != "none":
            raise InputError(
                f"exemplar.enabled with copy_paste.recipe {self.copy_paste.recipe!r}: expected 'none', because "
                "copy-paste changes the objects of a category"
            )
        if self.focus.enabled and self.copy_paste.recipe != "none":
            raise InputError(
                f"focus.enabled with copy_paste.recipe {self.copy_paste.recipe!r}: expected 'none', because "
                "copy-paste changes the target but not its close-up"
            )
