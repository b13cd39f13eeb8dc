"""Faster forms of the networks' parts: the same functions up to float rounding, in another order of operations.

The files in models/networks follow the papers. A faster form is a subclass of one of their parts that changes only the
arithmetic and keeps the parameters and their names, so it can be swapped in by class, in place.
"""

from collections.abc import Mapping
from typing import TypeVar

from torch import nn

from models.fast import correction, heads, hrnet
from models.fast.convolution import Conv2d

Forms = Mapping[type[nn.Module], type[nn.Module]]
Part = TypeVar("Part", bound=nn.Module)

COMMUTED: Forms = {**heads.COMMUTED, **hrnet.COMMUTED, **correction.COMMUTED}
"""Forms, by part, that are also faster in training and in exported graphs."""
PREPARED: Forms = {**COMMUTED, **hrnet.PREPARED, nn.Conv2d: Conv2d}
"""Forms, by part, for inference with folded batch norms."""
_WRITTEN = {form: part for part, form in COMMUTED.items()}
"""The part in its paper's form, by faster form."""


def swap(network: Part, forms: Forms = COMMUTED) -> Part:
    """Replace a network's parts by their faster forms, in place, and return it; other parts are unchanged."""
    for part in network.modules():
        part.__class__ = forms.get(_WRITTEN.get(type(part), type(part)), type(part))
    return network
