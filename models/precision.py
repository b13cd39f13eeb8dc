"""Precisions for inference, kept apart from models.inference so that using the names does not import torch."""

from typing import Literal

Precision = Literal["fp32", "bf16"]
