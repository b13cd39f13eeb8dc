"""Exemplars of a session: a finished object shows what to find; it never changes again.

docs/PAPERS.md, iCMFormer++: exemplars.
"""

import numpy as np
import torch

from models.device import to_device
from models.errors import InputError
from models.interaction import Clicks, check_click, check_mask
from models.steps import Example


def example_of(
    mask: np.ndarray, clicks: Clicks, others: np.ndarray | None = None, device: torch.device | str = "cpu"
) -> Example:
    """Make an example of an object's mask (bool, h, w) and the clicks that made it, in the frame of the image.

    `others` (bool, h, w): all other objects of the kind sought, where they are known; a negative click on one of them
    is a pseudo negative. Where they are not, at each click the current mask decides. `device` is that of the
    image. Raises InputError for an empty mask or a click outside it.
    """
    check_mask(mask, (mask.shape[0], mask.shape[1]))
    if not mask.any():
        raise InputError("the exemplar's mask is empty: expected a finished object")
    for y, x, _ in clicks.rows():
        check_click(y, x, (mask.shape[0], mask.shape[1]))
    positive = clicks.positive
    rows, columns = clicks.yx.astype(int).T
    on_others = ~positive & (others[rows, columns] if others is not None else False)
    kinds = (positive, ~positive & ~on_others, on_others)
    lists = [Clicks(clicks.yx[chosen], clicks.positive[chosen]) for chosen in kinds]
    return Example(to_device(mask, device)[None].float(), *lists, sorted_by_mask=others is None)
