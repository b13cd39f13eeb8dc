import pytest
import torch

from models.losses import LOSSES, binary_cross_entropy, normalized_focal_loss

SHAPE = (2, 1, 6, 5)


def hard_target(seed: int = 0) -> torch.Tensor:
    return (torch.rand(SHAPE, generator=torch.Generator().manual_seed(seed)) < 0.5).float()


@pytest.mark.parametrize("loss", LOSSES.values())
@pytest.mark.parametrize("scale", [0.0, 1.0, 30.0, 300.0])
def test_values_and_gradients_stay_finite_and_modest(loss, scale: float) -> None:
    logits = (scale * torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))).requires_grad_()
    values = loss(logits, hard_target())
    assert values.shape == (2,)
    assert (values >= 0).all()
    values.mean().backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert logits.grad.norm() < 1


@pytest.mark.parametrize("loss", LOSSES.values())
def test_ignored_pixels_change_nothing_and_get_no_gradient(loss) -> None:
    target = hard_target()
    target[:, :, :2] = -1
    logits = torch.randn(SHAPE, generator=torch.Generator().manual_seed(2))
    other = logits.clone()
    other[:, :, :2] += 50
    logits.requires_grad_()
    values = loss(logits, target)
    torch.testing.assert_close(loss(other, target), values.detach())
    values.sum().backward()
    assert logits.grad is not None
    assert (logits.grad[:, :, :2] == 0).all()
    assert (logits.grad[:, :, 2:] != 0).all()


@pytest.mark.parametrize("loss", LOSSES.values())
def test_a_sample_that_is_ignored_everywhere_has_loss_zero(loss) -> None:
    logits = torch.randn(SHAPE).requires_grad_()
    values = loss(logits, torch.full(SHAPE, -1.0))
    assert values.tolist() == [0, 0]
    values.sum().backward()
    assert logits.grad is not None
    assert (logits.grad == 0).all()


def test_focal_weights_sum_to_the_number_of_pixels() -> None:
    """With equal errors everywhere, the loss is alpha times the plain cross entropy."""
    logits = torch.where(hard_target() > 0.5, 1.5, -1.5)
    plain = torch.nn.functional.softplus(torch.tensor(-1.5))
    torch.testing.assert_close(normalized_focal_loss(logits, hard_target()), (0.5 * plain).expand(2))


def test_a_soft_target_is_a_hard_one_in_the_limit() -> None:
    logits, target = torch.randn(SHAPE, generator=torch.Generator().manual_seed(3)), hard_target()
    almost = target * (1 - 2e-6) + 1e-6
    torch.testing.assert_close(
        normalized_focal_loss(logits, almost), normalized_focal_loss(logits, target), rtol=1e-3, atol=1e-4
    )


def test_cross_entropy_counts_ignored_pixels_in_its_mean() -> None:
    target = hard_target()
    logits = torch.zeros(SHAPE)
    full = binary_cross_entropy(logits, target)
    target[:, :, :3] = -1
    torch.testing.assert_close(binary_cross_entropy(logits, target), full / 2)
