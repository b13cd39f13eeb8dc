"""Everything the training stream is made from: which data, which size, how augmented, pasted and clicked."""

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
    """The training stream; with a seed it says every pixel and click of every sample."""

    reader: str = "scenes"
    """The data set's format, by its name in READERS."""
    root: str | None = None
    """Where the data set lies; nothing for generated ones."""
    split: str = ""
    """Which part of it; "" for the reader's own choice."""
    options: dict[str, str] = field(default_factory=dict)
    """What else the reader is told."""
    leave_out: tuple[str, ...] = ()
    """Data sets, READER=ROOT or READER/SPLIT=ROOT each, whose photos are not trained on: those to measure on."""
    coarse: tuple[str, ...] = ()
    """How the ids of images begin whose masks are coarse, such as polygons: what `training.ignore_border` leaves out
    are their borders alone. None: nothing is known, and all borders are left out."""
    crop_hw: tuple[Positive, Positive] = (448, 448)
    """Height and width of a training image."""
    window_size: Positive = 64
    """How many samples are made together: decoded once, each other's copy-paste partners."""
    targets_per_view: Positive = 1
    """Samples in a row that show the same augmented image, each with a target and clicks drawn for it: networks that
    encode an image before any click (SAM) encode it once where they share a forward (a divisor of batch_size /
    accumulate / workers). Of the window's images the others are not shown: an epoch shows one of so many."""
    seed: Count = 0
    """Another seed gives another stream."""
    min_object_area: Count | Literal["auto"] = 1000
    """Objects of fewer pixels after augmentation are no targets (COCO+LVIS 1000; SBD 80, in CFR-ICL 20). auto: the 10th
    percentile of the objects' areas as training scales them, at least 20 (pipeline/data/targets.py)."""
    max_auto_area: Count = 1000
    """Most that auto comes to."""
    min_piece_area: Count = 0
    """Connected pieces of objects of fewer pixels are taken away from them (EMC-Click 900)."""
    max_object_share: Annotated[float, Above(0), AtMost(1)] = 1.0
    """Objects that cover a larger part of the crop are no targets (EMC-Click .85)."""
    keep_background_prob: Fraction = 0.05
    """How often a crop without any object is kept (COCO+LVIS .05, SBD .01)."""
    fresh_partners: bool = False
    """Augment a copy-paste partner anew for every paste (CFR-ICL's code) rather than once: more variety within a
    window, for half as much time again."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    copy_paste: CopyPasteConfig = field(default_factory=CopyPasteConfig)
    clicks: RandomClicksConfig = field(default_factory=RandomClicksConfig)
    focus: FocusPatchConfig = field(default_factory=FocusPatchConfig)
    exemplar: ExemplarColumnsConfig = field(default_factory=ExemplarColumnsConfig)

    @property
    def floor(self) -> int:
        """`min_object_area`, once it is a number (pipeline/data/targets.py)."""
        assert isinstance(self.min_object_area, int), "the floor of areas is not settled"
        return self.min_object_area

    def __post_init__(self) -> None:
        """Check the fields together."""
        super().__post_init__()
        if self.targets_per_view > self.window_size:
            raise InputError(
                f"targets_per_view is {self.targets_per_view}: expected at most window_size, {self.window_size}"
            )
        if self.targets_per_view > 1 and self.copy_paste.recipe != "none":
            raise InputError(
                f"targets_per_view {self.targets_per_view} with copy_paste.recipe {self.copy_paste.recipe!r}: expected "
                "'none', for copy-paste changes the image for each target"
            )
        if self.exemplar.enabled and self.copy_paste.recipe != "none":
            raise InputError(
                f"exemplar.enabled with copy_paste.recipe {self.copy_paste.recipe!r}: expected 'none', for copy-paste "
                "changes what the objects of a kind are"
            )
        if self.focus.enabled and self.copy_paste.recipe != "none":
            raise InputError(
                f"focus.enabled with copy_paste.recipe {self.copy_paste.recipe!r}: expected 'none', for copy-paste "
                "changes the target, and a close-up shows it as it was"
            )
