"""Make torchvision importable with a torch build for which it was not compiled; import before timm or torchvision.

PyPI's torchvision is built for CUDA. With a CPU-only torch its compiled operators do not load, and its import (which
timm needs) fails because it registers shape rules for the missing `torchvision::nms` and `torchvision::qnms`. Defining
the two *schemas*, without kernels, fixes the import; calling the operators still fails, as it should. If the operators
load, this module does nothing.
"""

import torch

_SCHEMAS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}


def _importable() -> bool:
    try:
        import torchvision  # noqa: F401
    except RuntimeError as error:
        if "torchvision::" in str(error):
            return False
        raise
    return True


def define_missing() -> None:
    """Define the schemas that torchvision's import needs, unless its operators load."""
    if _importable():
        return
    import sys

    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    for name, schema in _SCHEMAS.items():
        if not hasattr(torch.ops.torchvision, name):
            torch.library.define(f"torchvision::{name}", schema.removeprefix(name))


define_missing()
