"""Training objectives: what a step minimises. To add one, write a file with a function and register it in OBJECTIVES.

An objective's `terms` returns the number of loss terms in the step and an iterator that computes them one at a time.
The loop back-propagates each term before it requests the next, so memory holds the graph of a single forward.
"""

from collections.abc import Sequence

from torch import nn

from models.errors import InputError, lookup
from models.networks.base import Network, PromptNetwork
from pipeline.training.config import TrainingConfig
from pipeline.training.objectives.emc import base_of, correction_only, emc, split_network
from pipeline.training.objectives.exemplar import exemplar
from pipeline.training.objectives.focus import focus
from pipeline.training.objectives.icl import icl, icl_code
from pipeline.training.objectives.objective import Objective
from pipeline.training.objectives.ritm import ritm

OBJECTIVES: dict[str, Objective] = {
    "ritm": Objective(ritm),
    "icl": Objective(icl),
    "icl_code": Objective(icl_code),
    "emc": Objective(emc, frozen=split_network),
    "correction_only": Objective(correction_only, frozen=base_of),
    "focus": Objective(focus),
    "exemplar": Objective(exemplar),
}


def frozen_parts(network: Network, config: TrainingConfig) -> Sequence[nn.Module]:
    """Return the parts of a network that a run freezes; raises InputError if its objective cannot train the network."""
    parts = (*lookup("objective", config.objective, OBJECTIVES).frozen(network), *first_layers(network, config))
    if not config.freeze_encoder:
        return parts
    if not isinstance(network, PromptNetwork):
        raise InputError(
            f"training.freeze_encoder with {network.name or type(network).__name__}: expected a network whose image "
            "encoder sees no click (SAM's family)"
        )
    return network.heavy_parts()


def first_layers(network: Network, config: TrainingConfig) -> Sequence[nn.Module]:
    """Return the first `freeze_layers` layers; raises InputError if the network has fewer."""
    layers = network.layers()
    if config.freeze_layers > len(layers):
        raise InputError(
            f"training.freeze_layers is {config.freeze_layers}: expected at most {len(layers)}, the layers of the "
            f"pre-trained backbone of {network.name or type(network).__name__}"
        )
    return [network.get_submodule(start.rstrip(".")) for layer in layers[: config.freeze_layers] for start in layer]
