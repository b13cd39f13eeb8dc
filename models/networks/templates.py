"""EMC-Click's template selection: the cells most similar to the clicked ones (EMC-Click, section 3)."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from models.click_maps import ClickBatch


class Templates(NamedTuple):
    """Cells (row-major indices) by descending score, int64 (b, k); `*_valid` is False if a sign has none."""

    positive: Tensor
    negative: Tensor
    positive_valid: Tensor
    negative_valid: Tensor


def click_cells(clicks: ClickBatch, grid_hw: tuple[int, int]) -> Tensor:
    """Return the index, int64 (b, n), of each click's cell in a grid at stride 4.

    A cell is a quarter of the coordinates, rounded half to even and bounded above; negative indices become 0, as
    published.
    """
    rows = (0.25 * clicks.yx[..., 0]).round().clamp(max=grid_hw[0] - 1)
    columns = (0.25 * clicks.yx[..., 1]).round().clamp(max=grid_hw[1] - 1)
    return (rows * grid_hw[1] + columns).long().clamp(min=0)


@torch.no_grad()
def select_templates(feature: Tensor, clicks: ClickBatch, distances: Tensor, num: int) -> Templates:
    """Select `num` cells for each sign: similar to its clicks, dissimilar to the other sign's, and near.

    `feature` is (b, c, h/4, w/4), `distances` (b, 2, h, w) from `squared_distances`. Negative cells are selected even
    if there is no negative click.
    """
    h, w = feature.shape[2:]
    cells = feature.permute(0, 2, 3, 1).flatten(1, 2)  # (b, h * w, c)
    length = cells.square().sum(-1).sqrt().clamp(min=1e-8)
    index = click_cells(clicks, (h, w))
    clicked = cells.gather(1, index[..., None].expand(-1, -1, cells.shape[2]))  # (b, n, c)
    similarity = clicked @ cells.transpose(1, 2) / (length.gather(1, index)[..., None] * length[:, None])  # cosine
    counts = [(clicks.valid & sign).sum(1) for sign in (clicks.positive, ~clicks.positive)]
    most = torch.maximum(*counts).clamp(min=1)
    similar = []
    for sign, count in zip((clicks.positive, ~clicks.positive), counts, strict=True):
        chosen = similarity.masked_fill(~(clicks.valid & sign)[..., None], -math.inf).amax(1)
        # The public code pads the list of the sign with fewer clicks, and padding takes part with similarity 0. The
        # padding of a batch must not, so this floor depends on the sample's counts alone.
        similar.append(torch.where((count < most)[:, None], chosen.clamp(min=0), chosen))
    hw = (distances.shape[2], distances.shape[3])
    diagonal = (hw[0] * hw[0] + hw[1] * hw[1]) ** 0.5  # math.hypot would fix the size of an exported graph
    far = torch.where(distances.isinf(), 1.0, distances).sqrt() / diagonal
    near = 1 - F.interpolate(far, size=(h, w), mode="bilinear", align_corners=True).flatten(2)  # (b, 2, h * w)
    positive = best_cells((similar[0] + 1 - similar[1]) * near[:, 0], num)
    negative = best_cells((similar[1] + 1 - similar[0]) * near[:, 1], num)
    every = torch.ones_like(positive, dtype=torch.bool)
    return Templates(positive, negative, every, every)


def best_cells(scores: Tensor, num: int) -> Tensor:
    """Return the cells (b, num) with the highest of the scores (b, cells), in descending order; ties by index.

    Many cells may be equally dissimilar to a click, and `topk` leaves their order to the device. A small step per index
    is subtracted to order them. Scores are below 4, where doubles resolve this step, and all steps together are smaller
    than a step of float32.
    """
    return (scores.double() - torch.arange(scores.shape[1], device=scores.device) * 2.0**-50).topk(num, dim=1).indices


@torch.no_grad()
def clicked_templates(clicks: ClickBatch, grid_hw: tuple[int, int], num: int) -> Templates:
    """Return the clicked cells themselves, repeated to `num`, for networks without selection (ours).

    Cells are sorted, so that neither the order of clicks nor padding matters; a sign without clicks has no valid cell.
    """
    index = click_cells(clicks, grid_hw)
    chosen, valid = [], []
    for sign in (clicks.positive, ~clicks.positive):
        of_sign = clicks.valid & sign
        count = of_sign.sum(1)
        last = grid_hw[0] * grid_hw[1]
        ordered = index.masked_fill(~of_sign, last).sort(1).values  # this sign's cells first
        place = torch.arange(num, device=index.device)[None] % count.clamp(min=1)[:, None]
        chosen.append(ordered.gather(1, place).clamp(max=last - 1))
        valid.append((count > 0)[:, None].expand(-1, num))
    return Templates(chosen[0], chosen[1], valid[0], valid[1])
