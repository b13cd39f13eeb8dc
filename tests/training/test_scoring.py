"""The loss of a network that offers several masks is that of the best mask that a sample may be shown."""

from dataclasses import replace

import pytest
import torch

from models.click_maps import collate_clicks
from models.interaction import Clicks
from models.losses import LOSSES
from models.networks.base import Output
from pipeline.training.config import TrainingConfig
from pipeline.training.objectives.scoring import mask_ious, score, without_border
from tests.training.toys import toy

CONFIG = TrainingConfig(quality_weight=0.5)


def target_of(*sides: int) -> torch.Tensor:
    target = torch.zeros(len(sides), 1, 8, 8)
    for sample, side in enumerate(sides):
        target[sample, 0, :side, :side] = 1
    return target


def test_only_the_best_offered_mask_learns() -> None:
    target = target_of(4, 4)
    best = 4 * (2 * target[0] - 1)
    candidates = torch.stack([best, -best, 0.5 * best, -0.5 * best], 1).repeat(2, 1, 1, 1).requires_grad_()
    quality = torch.full((2, 4), 0.25)
    offered = torch.tensor([[True, False, False, False], [False, True, True, True]])
    loss = score(Output(best[None], candidates=candidates, quality=quality, offered=offered), target, CONFIG)
    loss.backward()
    wanted = [LOSSES["nfl"](candidates[sample : sample + 1, k : k + 1], target[:1]) for sample, k in ((0, 0), (1, 2))]
    errors = [(1 - 0.25) ** 2, ((0 - 0.25) ** 2 + (1 - 0.25) ** 2 + (0 - 0.25) ** 2) / 3]
    assert loss.item() == pytest.approx((sum(w.item() for w in wanted) + 0.5 * sum(errors)) / 2)
    assert candidates.grad is not None
    learns = candidates.grad.abs().flatten(2).amax(2) > 0
    assert learns.tolist() == [[True, False, False, False], [False, False, True, False]]


def test_ious_leave_ignored_pixels_out() -> None:
    target = target_of(4)
    target[0, 0, 0, :4] = -1
    logits = torch.full((1, 1, 8, 8), -1.0)
    logits[0, 0, :4, :2] = 1
    assert mask_ious(logits, target).item() == pytest.approx(6 / 12)


def test_a_band_along_the_border_is_not_scored() -> None:
    target = target_of(0, 6)
    target[1, 0, 7, 7] = -1
    banded = without_border(target, 1 / 8)
    assert torch.equal(banded[:1], target[:1]), "a target without an object has no border, and the image's edge is none"
    wanted = target[1, 0].clone()
    wanted[5:7, :7] = wanted[:7, 5:7] = -1
    assert torch.equal(banded[1, 0], wanted)
    assert without_border(target, 0.0) is target
    config = replace(CONFIG, ignore_border=1 / 8)
    logits = (20 * (2 * target - 1)).requires_grad_()
    wrong = torch.where(banded == -1, -logits.detach(), logits.detach())
    assert score(Output(wrong), target, config) == score(Output(logits), target, config)
    assert score(Output(wrong), target, CONFIG) > score(Output(logits), target, CONFIG)


def test_borders_of_masks_that_are_not_coarse_are_scored() -> None:
    target = target_of(0, 6)
    config = replace(CONFIG, ignore_border=1 / 8)
    both = without_border(target, 1 / 8)
    assert torch.equal(without_border(target, 1 / 8, torch.tensor([False, True])), both)
    assert torch.equal(without_border(target, 1 / 8, torch.tensor([True, False])), target)
    logits = 20 * (2 * target - 1)
    wrong = torch.where(both == -1, -logits, logits)
    for coarse, scored in ((torch.tensor([True, True]), False), (torch.tensor([True, False]), True)):
        assert (score(Output(wrong), target, config, coarse) > score(Output(logits), target, config, coarse)) == scored


@pytest.mark.parametrize("hw", [(2, 2), (2, 8), (4, 4)])
def test_a_target_that_is_mostly_band_stays_whole(hw: tuple[int, int]) -> None:
    target = torch.zeros(1, 1, 12, 12)
    target[:, :, 4 : 4 + hw[0], 4 : 4 + hw[1]] = 1
    assert torch.equal(without_border(target, 2 / 12), target)


def test_a_batch_is_offered_the_masks_of_its_single_samples() -> None:
    network = toy("mobile_sam").eval()
    one = Clicks(torch.tensor([[30.0, 20.0]]).numpy(), torch.tensor([True]).numpy())
    two = Clicks(torch.tensor([[30.0, 20.0], [5.0, 50.0]]).numpy(), torch.tensor([True, False]).numpy())
    image, nothing = torch.rand(2, 3, 64, 64), torch.zeros(2, 1, 64, 64)
    with torch.inference_mode():
        both = network(image, nothing, collate_clicks([one, two]))
        alone = [network(image[i : i + 1], nothing[:1], collate_clicks([c])) for i, c in enumerate((one, two))]
    assert both.offered.tolist() == [[False, True, True, True], [True, False, False, False]]
    for sample, (single, numbers) in enumerate(zip(alone, ([1, 2, 3], [0]), strict=True)):
        assert single.offered.tolist() == [[True] * len(numbers)]
        assert torch.allclose(single.candidates[0], both.candidates[sample, numbers], atol=1e-4)
        assert torch.allclose(single.quality[0], both.quality[sample, numbers], atol=1e-5)
        assert torch.allclose(single.mask_logits[0], both.mask_logits[sample], atol=1e-4)
