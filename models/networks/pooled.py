"""Batch norm of what was pooled from a whole view, one value a channel: in training a forward needs two views."""

from torch import Tensor, nn

from models.errors import InputError


class PooledNorm(nn.BatchNorm2d):
    """Batch norm of (b, channels, 1, 1); names and arithmetic are those of any other."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise over the batch; raises InputError for a batch of 1 in training."""
        if self.training and input.shape[0] == 1:
            raise InputError(
                "a batch of 1 view: in training this network needs at least 2 in a forward, as it pools each to one "
                "value per channel and normalises those over the batch; raise training.batch_size, or lower "
                "training.accumulate or scaling.workers"
            )
        return super().forward(input)


def pools_views(network: nn.Module) -> bool:
    """Whether a network, in the modes that its parts are in, needs two views in a forward."""
    return any(isinstance(part, PooledNorm) and part.training for part in network.modules())
