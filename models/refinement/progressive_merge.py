"""Progressive merge: let a click change only the connected part of a given mask around it (Chen et al., FocalClick)."""

from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from torch import Tensor

from models.device import to_device, to_host
from models.refinement.part import Inside, Part, Slot
from models.refinement.state import State, Step
from models.steps import Steps


@dataclass(frozen=True, kw_only=True)
class ProgressiveMerge(Part):
    """In sessions that began with a mask, let a click change only the part in which it lies."""

    name = "progressive_merge"
    slot = Slot.MERGE
    source = "FocalClick"
    last_pass = "merged"
    cuts = True

    def click(self, step: Step, inside: Inside) -> Step:
        """Keep only the change at the click."""
        return progressive_merge(step, inside.masking.threshold)


def progressive_merge(step: Step, threshold: float) -> Step:
    """Keep, of the changes to a given mask, only the connected one (8 neighbours) that holds the click.

    Sessions that began without a mask are unaffected. If the clicked pixel does not change, the mask does not change.
    """

    def merged(state: State) -> Steps[State]:
        answered = yield from step(state)
        if not state.mask_given or state.mask_prob is None or answered.mask_prob is None:
            return answered
        kept = own_change(state.mask_prob, answered.mask_prob, state.clicks.yx[-1], threshold)
        return replace(answered, mask_prob=torch.where(kept, answered.mask_prob, state.mask_prob))

    return merged


def own_change(before: Tensor, after: Tensor, yx: np.ndarray, threshold: float) -> Tensor:
    """Return the connected change between two probability maps (1, h, w) at the pixel `yx`, bool (1, h, w)."""
    changed = to_host(((before > threshold) != (after > threshold))[0])
    _, parts = cv2.connectedComponents(changed.astype(np.uint8), connectivity=8)
    y, x = (min(int(place), side - 1) for place, side in zip(yx, changed.shape, strict=True))
    own = changed & (parts == parts[y, x])
    return to_device(own, after.device)[None]
