"""Exemplars, finished objects that show what to find (docs/PAPERS.md, iCMFormer++: exemplars), and batches of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from models.click_maps import ClickBatch, collate_clicks
from models.device import to_device, to_host
from models.errors import InputError
from models.interaction import Clicks, check_click, check_mask


@dataclass(frozen=True, eq=False)
class Exemplar:
    """An exemplar in the frame of the view (in a State: of the image); it does not change during a session.

    `mask` (1, h, w) in 0..1. Pseudo negatives lie on other objects of the category, true negatives do not.
    """

    mask: Tensor
    positive: Clicks
    true_negative: Clicks
    pseudo_negative: Clicks
    sorted_by_mask: bool = False
    """Whether true negatives are unknown and derived from the current mask: those that lie outside it (ours)."""

    def moved(self, mask: Callable[[Tensor], Tensor], clicks: Callable[[Clicks], Clicks]) -> "Exemplar":
        """Return the exemplar in another frame; `mask` and `clicks` map the mask and the clicks to it."""
        return Exemplar(
            mask(self.mask), clicks(self.positive), clicks(self.true_negative), clicks(self.pseudo_negative)
        )

    def sorted_by(self, mask_prob: Tensor) -> "Exemplar":
        """Return it with the negative clicks outside a mask (1, h, w) as true ones and those inside as pseudo ones."""
        yx = np.concatenate([clicks.yx for clicks in (self.true_negative, self.pseudo_negative)])
        rows, columns = yx.astype(int).T
        inside = to_host(mask_prob[0, rows, columns] > 0.5)
        true, pseudo = (Clicks(yx[chosen], np.zeros(int(chosen.sum()), bool)) for chosen in (~inside, inside))
        return replace(self, true_negative=true, pseudo_negative=pseudo)

    def shows_the_same(self, other: "Exemplar | None") -> bool:
        """Whether a network receives the same input, given that the mask decides which negatives are true."""
        if other is None:
            return False
        ours, theirs = ((one.positive, one.true_negative, one.pseudo_negative) for one in (self, other))
        return ours == theirs and torch.equal(self.mask, other.mask)


@dataclass(frozen=True, eq=False)
class ExemplarBatch:
    """One exemplar per sample, in the frame of the sample's view.

    `mask` (b, 1, h, w) in 0..1; a sample with an empty mask and no clicks has no exemplar. Only an ablation uses
    `pseudo_negative` clicks.
    """

    mask: Tensor
    positive: ClickBatch
    true_negative: ClickBatch
    pseudo_negative: ClickBatch | None = None

    @classmethod
    def of(cls, exemplars: Sequence[Exemplar], device: torch.device) -> "ExemplarBatch":
        """Stack exemplars whose views have the same size."""
        names = ("positive", "true_negative", "pseudo_negative")
        lists = (collate_clicks([getattr(each, name) for each in exemplars], device) for name in names)
        return cls(torch.stack([each.mask for each in exemplars]), *lists)

    def to(self, device: torch.device | str) -> "ExemplarBatch":
        """Copy to a device."""
        pseudo = None if self.pseudo_negative is None else self.pseudo_negative.to(device)
        return ExemplarBatch(self.mask.to(device), self.positive.to(device), self.true_negative.to(device), pseudo)


def exemplar_of(
    mask: np.ndarray, clicks: Clicks, others: np.ndarray | None = None, device: torch.device | str = "cpu"
) -> Exemplar:
    """Make an exemplar from an object's mask (bool, h, w) and its clicks, in the frame of the image.

    `others` (bool, h, w) holds all other objects of the category, if known; a negative click on one of them is a pseudo
    negative. Without it, the current mask decides at each click. `device` is the image's device. Raises InputError for
    an empty mask or a click outside the image.
    """
    check_mask(mask, (mask.shape[0], mask.shape[1]))
    if not mask.any():
        raise InputError("the exemplar's mask is empty: pass the mask of a finished object")
    for y, x, _ in clicks.rows():
        check_click(y, x, (mask.shape[0], mask.shape[1]))
    positive = clicks.positive
    rows, columns = clicks.yx.astype(int).T
    on_others = ~positive & (others[rows, columns] if others is not None else False)
    kinds = (positive, ~positive & ~on_others, on_others)
    lists = [Clicks(clicks.yx[chosen], clicks.positive[chosen]) for chosen in kinds]
    return Exemplar(to_device(mask, device)[None].float(), *lists, sorted_by_mask=others is None)
