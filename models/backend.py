"""Names of the inference backends, kept apart from models.onnx_backend so that using them does not import torch."""

from typing import Literal

from models.errors import InputError
from models.precision import Precision

Backend = Literal["torch", "onnx"]
"""torch, or onnx: onnxruntime on the CPU, with files that are exported from the checkpoint once."""


def check_backend(backend: Backend, precision: Precision, device: str) -> None:
    """Raise InputError for a precision or device that the backend does not support; `device` may be "auto"."""
    if backend == "torch":
        return
    if precision != "fp32":
        raise InputError(f"backend onnx runs in fp32, got precision {precision}: leave one of the two out")
    if device not in ("auto", "cpu"):
        raise InputError(f"backend onnx runs on the CPU, got device {device}: leave one of the two out")
