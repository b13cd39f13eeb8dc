"""Published EMC-Click files (docs/PAPERS.md, EMC-Click): their correction network has one block under three names."""

from typing import Any

from models.published.family import Family, Shapes, norm
from models.published.hrnet import dead_context


def alias(key: str) -> str | None:
    """The shared block of both correlation maps is also listed once for each sign."""
    for name in ("corr_conv_pos.", "corr_conv_neg."):
        if key.startswith(f"refiner.{name}"):
            return key.replace(name, "corr_conv.")
    return None


def dead_segformer(config: Any) -> Shapes:
    """A norm of the encoder that nothing calls."""
    return norm("feature_extractor.backbone.norm_add", config.dims[0])


MARKS = ("refiner.", "feature_extractor.")

EMC_HRNET = Family(
    prefix="emc_hrnet",
    dead=lambda config: dead_context(config.ocr_width),
    alias=alias,
    licence="MIT",
    refinement="flip",
    marks=MARKS,
    class_name="HRNetRefineModel",
)
EMC_SEGFORMER = Family(
    prefix="emc_segformer",
    dead=dead_segformer,
    alias=alias,
    licence="MIT; the encoder it starts from has NVIDIA's non-commercial licence",
    refinement="flip",
    marks=MARKS,
    class_name="SegFormerModel",
)
