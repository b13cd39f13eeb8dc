"""Batch norm of features pooled over a whole view, one value per channel, which in training needs two views."""

from torch import Tensor, nn

from models.errors import InputError


class PooledNorm(nn.BatchNorm2d):
    """Batch norm of (b, channels, 1, 1), with the usual names and arithmetic."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise over the batch; raises InputError for a batch of 1 in training."""
        if self.training and input.shape[0] == 1:
            raise InputError(
                "the batch has 1 view: in training this network needs at least 2 per forward, since it pools each view "
                "to one value per channel and normalises these over the batch; raise training.batch_size, or lower "
                "training.accumulate or scaling.workers"
            )
        return super().forward(input)


def pools_views(network: nn.Module) -> bool:
    """Whether a network, in its current mode, needs two views in a forward."""
    return any(isinstance(part, PooledNorm) and part.training for part in network.modules())
