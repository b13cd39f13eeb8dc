"""What a refinement is made of: parts, each of which changes what one look is, or what happens at a click."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, NamedTuple, Self

from models.networks.base import Traits
from models.parameters import Parameter
from models.records import Record
from models.refinement.patches import Masking
from models.refinement.state import Look, Step


class Slot(IntEnum):
    """Where a part goes, from the inside out."""

    HALVES = 0
    """What runs in one look."""
    LOOK = 1
    """How one view is looked at."""
    PLACE = 2
    """Where in the image to look, and at which size: one part at most."""
    REPEAT = 3
    """How often the whole look is repeated at a click."""
    DETAILS = 4
    """Further looks at parts of the image."""
    MERGE = 5
    """What of the answer changes the mask."""


class Inside(NamedTuple):
    """What a part finds inside: the network's traits and its looks, as the parts before it left them."""

    traits: Traits
    masking: Masking
    look: Look
    close_look: Look
    """A look at a close-up: another view each time, of which nothing is remembered."""


@dataclass(frozen=True, kw_only=True)
class Part(Record):
    """One part of a refinement: its fields are its settings. To add one: a file, and a line in registry.PARTS."""

    name: ClassVar[str]
    """As in JSON, in `--set refine.NAME.FIELD` and in names of refinements."""
    slot: ClassVar[Slot]
    source: ClassVar[str] = ""
    """Where it comes from, for docs/REFINEMENTS.md."""
    sweep: ClassVar[Mapping[str, Parameter]] = {}
    """What a sweep tries, by field."""
    last_pass: ClassVar[str] = ""
    """How its work is called where the passes of a click are shown, if it comes after them."""
    cuts: ClassVar[bool] = False
    """It depends on the mask threshold, which then is not the very last step."""

    @classmethod
    def label(cls, field: str) -> str:
        """What messages call a field."""
        return f"{cls.name}.{field}"

    @classmethod
    def names(cls) -> Mapping[str, Self]:
        """Settings that have a name."""
        return {cls.name: cls()}

    @classmethod
    def rows(cls) -> Mapping[str, Self]:
        """Rows of the matrix in docs/REFINEMENTS.md: settings that networks take or refuse differently."""
        return {cls.name: cls()}

    def why_not(self, traits: Traits, parts: "Sequence[Part]") -> Iterator[str]:
        """Give the reasons for which a network cannot be refined so, beside the `parts` of its refinement."""
        yield from ()

    def cost(self, traits: Traits) -> str:
        """What it costs with such a network that one would not expect; "" if nothing."""
        return ""

    def simplest(self) -> Self | None:
        """The same with settings that have no effect at their defaults; None if it changes nothing at all."""
        return self

    def looks(self, inside: Inside) -> Inside:
        """Wrap the looks."""
        return inside

    def click(self, step: Step, inside: Inside) -> Step:
        """Wrap what happens at a click; a part of the slot PLACE replaces `step`, which looks at the whole image."""
        return step


EXEMPLAR = "the exemplar may lie anywhere in the image, and a network that takes one sees the whole"
ENCODED = "each view, mirror image or close-up is encoded by itself: the price of opening an image"
MOVED = "the heavy half runs again where the view changes; as published it runs once"
"""Reasons and costs that several parts have in common."""
