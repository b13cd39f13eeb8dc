"""Published EMC-Click files, in which one block of the correction network has three names.

See docs/PAPERS.md, EMC-Click: mask-correction network.
"""

from typing import Any

from models.published.family import Family, Shapes, norm
from models.published.hrnet import dead_context


def alias(key: str) -> str | None:
    """Return the key of the shared block of both correlation maps for its copies, one for each sign."""
    for name in ("corr_conv_pos.", "corr_conv_neg."):
        if key.startswith(f"refiner.{name}"):
            return key.replace(name, "corr_conv.")
    return None


def dead_segformer(config: Any) -> Shapes:
    """Return the shapes of the encoder's unused norm."""
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
