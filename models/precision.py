"""Precision in which a network answers; apart from models.inference, as naming it needs no torch."""

from typing import Literal

Precision = Literal["fp32", "bf16"]
