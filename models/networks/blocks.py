"""Find the blocks of a network."""

from collections.abc import Callable

from torch import nn


def outermost(module: nn.Module, is_block: Callable[[nn.Module], bool]) -> list[nn.Module]:
    """List the parts that are blocks and lie in no other block, in the order in which they are defined."""
    found: list[nn.Module] = []
    for child in module.children():
        found += [child] if is_block(child) else outermost(child, is_block)
    return found


def residual(part: nn.Module) -> bool:
    """Whether a part is a residual block of ResNet, which HRNet also uses."""
    from timm.models.resnet import BasicBlock, Bottleneck

    return isinstance(part, BasicBlock | Bottleneck)


def by_name(part: nn.Module) -> bool:
    """Whether a part is a block or layer by its class's name; timm's backbones have no common class for them."""
    return type(part).__name__.endswith(("Block", "Layer"))
