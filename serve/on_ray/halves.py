"""Run the two halves of a split network in two processes, whose versions may differ while a model is replaced. Pure.

Features of one version are meaningless to the other. So the caller sends its model version, an encoder with a different
version refuses, and the caller then runs the whole network locally.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from models.steps import Answer, Correct, Prompt

logger = logging.getLogger("maskwright.serve")


@dataclass(frozen=True, slots=True)
class OtherVersion:
    """The refusal of an encoder whose version differs from the caller's."""

    model_version: str


Encoded = list[Any] | OtherVersion
Encoder = Callable[[list[Any], str], Encoded]
"""Answers requests of the heavy half for a caller with the given model_version."""


def encoder(answer: Answer, own: str) -> Encoder:
    """Return an Encoder that runs `answer`, of version `own`, for callers of that version and refuses others."""

    def encode(requests: list[Any], model_version: str) -> Encoded:
        return answer(requests) if model_version == own else OtherVersion(own)

    return encode


def halves(whole: Answer, elsewhere: Encoder, own: str) -> Answer:
    """Answer corrections with `whole` and other requests `elsewhere`, or with `whole` if the versions differ."""

    def answer(requests: list[Any]) -> list[Any]:
        if isinstance(requests[0], Correct | Prompt):
            return whole(requests)
        encoded = elsewhere(requests, own)
        if isinstance(encoded, OtherVersion):
            logger.info("the heavy half has version %s, this one %s: encoding here", encoded.model_version, own)
            return whole(requests)
        return encoded

    return answer
