"""Flip: look at the view and at its mirror image, and average the logits."""

import dataclasses

from torch import Tensor

from models.interaction import Clicks
from models.refinement.state import Look, View
from models.steps import Steps, together


def mirrored(view: View) -> View:
    """Mirror a view left to right: column c becomes w - 1 - c."""
    yx = view.clicks.yx.copy()
    yx[:, 1] = view.image.shape[-1] - 1 - yx[:, 1]
    return dataclasses.replace(
        view, image=view.image.flip(-1), prev_mask=view.prev_mask.flip(-1), clicks=Clicks(yx, view.clicks.positive)
    )


def flip(look: Look) -> Look:
    """Average the logits of two looks, before the sigmoid (spec 5.1); both may share a forward."""

    def seen(view: View) -> Steps[Tensor]:
        straight, mirror = yield from together(look(view), look(mirrored(view)))
        return 0.5 * (straight + mirror.flip(-1))

    return seen
