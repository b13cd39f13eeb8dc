"""Faster forms of the networks' parts: the same functions, to float rounding, in another order of operations.

The files in models/networks read as the papers do. A form is a subclass of one of their parts that differs in
arithmetic alone: parameters and their names stay, so that it is swapped in by class, in place.
"""

from collections.abc import Mapping
from typing import TypeVar

from torch import nn

from models.fast import correction, heads, hrnet
from models.fast.convolution import Conv2d

Forms = Mapping[type[nn.Module], type[nn.Module]]
Part = TypeVar("Part", bound=nn.Module)

COMMUTED: Forms = {**heads.COMMUTED, **hrnet.COMMUTED, **correction.COMMUTED}
"""By part: forms that pay in training too, and in exported graphs."""
PREPARED: Forms = {**COMMUTED, **hrnet.PREPARED, nn.Conv2d: Conv2d}
"""By part: forms of a network that answers and nothing else, with its batch norms folded."""
_WRITTEN = {form: part for part, form in COMMUTED.items()}
"""By form: the part as its paper reads."""


def swap(network: Part, forms: Forms = COMMUTED) -> Part:
    """Give a network's parts their faster forms, in place; returns it. Parts of other classes stay as they are."""
    for part in network.modules():
        part.__class__ = forms.get(_WRITTEN.get(type(part), type(part)), type(part))
    return network
