"""The two halves of a split network in two places, which may hold different versions while a model is replaced. Pure.

Features that one version's `encode` made mean nothing to another version's `correct`: so who asks says which version it
holds, who is asked refuses another one, and then the asker, who has the whole network, does it all itself.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from models.steps import Answer, Correct, Prompt

logger = logging.getLogger("maskwright.serve")


@dataclass(frozen=True, slots=True)
class OtherVersion:
    """The refusal of a heavy half that holds another version than the one that asks."""

    model_version: str


Encoded = list[Any] | OtherVersion
Encoder = Callable[[list[Any], str], Encoded]
"""Answers requests of the heavy half for an asker of this model_version."""


def encoder(answer: Answer, own: str) -> Encoder:
    """Let `answer`, of the version `own`, serve askers of the same version and refuse others."""

    def encode(requests: list[Any], model_version: str) -> Encoded:
        return answer(requests) if model_version == own else OtherVersion(own)

    return encode


def halves(whole: Answer, elsewhere: Encoder, own: str) -> Answer:
    """Answer corrections here and everything else `elsewhere`; where that holds another version, here too (`whole`)."""

    def answer(requests: list[Any]) -> list[Any]:
        if isinstance(requests[0], Correct | Prompt):
            return whole(requests)
        encoded = elsewhere(requests, own)
        if isinstance(encoded, OtherVersion):
            logger.info("the heavy half holds %s, this one %s: encoded here", encoded.model_version, own)
            return whole(requests)
        return encoded

    return answer
