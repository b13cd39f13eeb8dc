"""Published RITM files with HRNet + OCR (docs/PAPERS.md, RITM: network); EMC-Click's files have the same head."""

from typing import Any

from models.published.family import Family, Shapes, conv, norm


def dead_context(ocr_width: int) -> Shapes:
    """Return the shapes of the two projections for an attention over one class, which cannot change its result."""
    shapes: Shapes = {}
    for name in ("f_pixel", "f_object"):
        block = f"feature_extractor.ocr_distri_head.object_context_block.{name}"
        shapes |= conv(f"{block}.0", 2 * ocr_width, ocr_width, bias=False) | norm(f"{block}.1.0", ocr_width, batch=True)
        shapes |= conv(f"{block}.2", ocr_width, ocr_width, bias=False) | norm(f"{block}.3.0", ocr_width, batch=True)
    return shapes


def dead(config: Any) -> Shapes:
    """Return the shapes of unused tensors for a network's config."""
    return dead_context(config.ocr_width)


RITM = Family(
    prefix="ritm_hrnet",
    dead=dead,
    licence="MIT",
    refinement="zoom_in_flip",
    marks=("maps_transform.", "feature_extractor."),
    class_name="HRNetModel",
    behaviour={
        ("with_prev_mask",): True,
        ("use_leaky_relu",): True,
        ("use_rgb_conv",): False,
        ("binary_prev_mask",): False,
    },
)
