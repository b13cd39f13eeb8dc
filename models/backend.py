"""What answers in a network's place; apart from models.onnx_backend, as naming it needs no torch."""

from typing import Literal

from models.errors import InputError
from models.precision import Precision

Backend = Literal["torch", "onnx"]
"""onnx: onnxruntime on the CPU, with files that are made of the checkpoint once."""


def check_backend(backend: Backend, precision: Precision, device: str) -> None:
    """Raise InputError for a precision or a device that the backend does not have; `device` may be "auto"."""
    if backend == "torch":
        return
    if precision != "fp32":
        raise InputError(f"backend onnx answers in fp32, precision {precision} was asked for: leave one of the two out")
    if device not in ("auto", "cpu"):
        raise InputError(f"backend onnx runs on the CPU, device {device} was asked for: leave one of the two out")
