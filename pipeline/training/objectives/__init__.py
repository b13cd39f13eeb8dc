"""What a training step minimises. To add one: a file with a function, and a line in OBJECTIVES.

An objective's `terms` returns how many loss terms the step has and an iterator that computes them one after another.
The loop back-propagates each term before it asks for the next, so that memory holds one forward's graph, however many
terms.
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
    """Parts of a network that a run leaves as they are; raises InputError where its objective cannot train it."""
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
    """List the layers that `freeze_layers` names; InputError where the network has not so many."""
    layers = network.layers()
    if config.freeze_layers > len(layers):
        raise InputError(
            f"training.freeze_layers {config.freeze_layers}: {network.name or type(network).__name__} has "
            f"{len(layers)} layers of a pre-trained backbone; expected at most these"
        )
    return [network.get_submodule(start.rstrip(".")) for layer in layers[: config.freeze_layers] for start in layer]
