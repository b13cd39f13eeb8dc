"""Progressive merge: a click changes only its own part of a given mask (Chen et al., FocalClick)."""

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
    """Where the session began with a mask, let a click change only the part that it lies in."""

    name = "progressive_merge"
    slot = Slot.MERGE
    source = "FocalClick"
    last_pass = "merged"
    cuts = True

    def click(self, step: Step, inside: Inside) -> Step:
        """Keep of its changes the click's own."""
        return progressive_merge(step, inside.masking.threshold)


def progressive_merge(step: Step, threshold: float) -> Step:
    """Of the changes to a given mask keep the connected one (8 neighbours) that holds the click.

    Sessions that began without a mask are left alone. A click where nothing changes changes nothing.
    """

    def merged(state: State) -> Steps[State]:
        answered = yield from step(state)
        if not state.mask_given or state.mask_prob is None or answered.mask_prob is None:
            return answered
        kept = own_change(state.mask_prob, answered.mask_prob, state.clicks.yx[-1], threshold)
        return replace(answered, mask_prob=torch.where(kept, answered.mask_prob, state.mask_prob))

    return merged


def own_change(before: Tensor, after: Tensor, yx: np.ndarray, threshold: float) -> Tensor:
    """Connected change between two probability maps (1, h, w) that holds the pixel `yx`; bool (1, h, w)."""
    changed = to_host(((before > threshold) != (after > threshold))[0])
    _, parts = cv2.connectedComponents(changed.astype(np.uint8), connectivity=8)
    y, x = (min(int(place), side - 1) for place, side in zip(yx, changed.shape, strict=True))
    own = changed & (parts == parts[y, x])
    return to_device(own, after.device)[None]
