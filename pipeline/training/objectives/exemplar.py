"""iCMFormer++'s objective: find all objects of a category, one of which is given as the exemplar.

docs/PAPERS.md, iCMFormer++: training.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from models.click_maps import ClickBatch
from models.errors import InputError
from models.exemplar import ExemplarBatch
from pipeline.clicks.training_clicks import next_clicks
from pipeline.training.batch import TrainingBatch
from pipeline.training.config import TrainingConfig
from pipeline.training.objectives.scoring import score
from pipeline.training.runner import Runner


def exemplar(
    network: Runner,
    batch: TrainingBatch,
    config: TrainingConfig,
    shared_rng: np.random.Generator,
    rng: np.random.Generator,
) -> tuple[int, Iterator[Tensor]]:
    """Train iteratively on the union of a category's objects; needs `--data.exemplar.enabled`.

    A network that takes an exemplar receives it. Any other network, a baseline of the paper, gets the exemplar's mask
    as its previous mask and the exemplar's clicks among its clicks. Half of the further clicks are at the centre of the
    error, half at a pixel near its border.
    """
    given = batch.exemplar
    if given is None:
        raise InputError("training.objective exemplar: the stream has no exemplars; give --data.exemplar.enabled")
    num = int(shared_rng.integers(0, config.exemplar.max_iterations + 1))
    takes = network.network.traits.exemplar
    more = {"exemplar": given} if takes else {}

    def terms() -> Iterator[Tensor]:
        prev_mask = torch.zeros_like(batch.target) if takes else given.mask
        clicks = batch.clicks if takes else with_exemplar_clicks(batch.clicks, given)
        with network.looking() as look:
            for _ in range(num):
                prev_mask = torch.sigmoid(look(batch.image, prev_mask, clicks, **more).mask_logits.float())
                clicks = next_clicks(clicks, prev_mask, batch.target, rng, law="border_mix")
        yield score(network(batch.image, prev_mask, clicks, **more), batch.target, config, batch.coarse)

    return 1, terms()


def with_exemplar_clicks(clicks: ClickBatch, given: ExemplarBatch) -> ClickBatch:
    """Append the exemplar's clicks to those of their sign, so that positive rows stay the first half.

    The exemplar's negative clicks on other objects of the category are left out, because these objects belong to the
    target.
    """
    half, kept = clicks.valid.shape[1] // 2, given.positive.valid.shape[1]
    sides = ((slice(0, half), given.positive), (slice(half, None), given.true_negative))
    parts: dict[str, list[Tensor]] = {"yx": [], "positive": [], "valid": [], "first": []}
    for number, (rows, extra) in enumerate(sides):
        sign = torch.full_like(extra.valid, number == 0)
        parts["yx"] += [clicks.yx[:, rows], extra.yx]
        parts["positive"] += [clicks.positive[:, rows], sign]
        parts["valid"] += [clicks.valid[:, rows], extra.valid]
        parts["first"] += [clicks.first[:, rows], torch.zeros_like(extra.valid)]
    assert parts["valid"][1].shape[1] == kept
    return ClickBatch(**{name: torch.cat(values, 1) for name, values in parts.items()})
