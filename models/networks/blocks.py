"""Which parts of a network are its blocks."""

from collections.abc import Callable

from torch import nn


def outermost(module: nn.Module, is_block: Callable[[nn.Module], bool]) -> list[nn.Module]:
    """List the parts that are blocks and lie in no other block, from the input on as they are named."""
    found: list[nn.Module] = []
    for child in module.children():
        found += [child] if is_block(child) else outermost(child, is_block)
    return found


def residual(part: nn.Module) -> bool:
    """Whether a part is one of ResNet's blocks, which HRNet has too."""
    from timm.models.resnet import BasicBlock, Bottleneck

    return isinstance(part, BasicBlock | Bottleneck)


def by_name(part: nn.Module) -> bool:
    """Whether timm calls a part a block, or a layer: its backbones have no common class of them."""
    return type(part).__name__.endswith(("Block", "Layer"))
