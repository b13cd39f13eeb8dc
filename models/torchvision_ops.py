"""Let torchvision be imported beside a torch build that it was not compiled for.

PyPI's torchvision is built for CUDA; beside a CPU-only torch its compiled operators do not load, and its import then
fails because it registers shape rules for `torchvision::nms` and `torchvision::qnms`, which do not exist. timm imports
torchvision. Defining the two *schemas* (no kernels: calling them still fails, as it should) cures the import. Nothing
here runs where the operators are present. Import this module before timm or torchvision.
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
    """Define the schemas that torchvision's import needs, unless its own operators load."""
    if _importable():
        return
    import sys

    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    for name, schema in _SCHEMAS.items():
        if not hasattr(torch.ops.torchvision, name):
            torch.library.define(f"torchvision::{name}", schema.removeprefix(name))


define_missing()
