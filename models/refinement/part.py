"""Parts of a refinement, each of which changes a look (one run on one view) or the whole step at a click."""

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
    """Position of a part in the composition, from the inside out."""

    HALVES = 0
    """Which halves of a network run in one look."""
    LOOK = 1
    """How the network runs on one view."""
    PLACE = 2
    """Which box of the image to view, and at which size; at most one part."""
    REPEAT = 3
    """How often the step is repeated at a click."""
    DETAILS = 4
    """Further looks at parts of the image."""
    MERGE = 5
    """Which changes of the answer are merged into the mask."""


class Inside(NamedTuple):
    """What a part wraps: the network's traits and its looks, as changed by the parts inside it."""

    traits: Traits
    masking: Masking
    look: Look
    close_look: Look
    """A look at a close-up, which is a new view each time and keeps no memory."""


@dataclass(frozen=True, kw_only=True)
class Part(Record):
    """One part of a refinement; its fields are its settings. To add one, add a file and a line in registry.PARTS."""

    name: ClassVar[str]
    """Name in JSON, in `--set refine.NAME.FIELD` and in names of refinements."""
    slot: ClassVar[Slot]
    source: ClassVar[str] = ""
    """Origin, for docs/REFINEMENTS.md."""
    sweep: ClassVar[Mapping[str, Parameter]] = {}
    """Parameters that a sweep tries, by field."""
    last_pass: ClassVar[str] = ""
    """Title of its result in the list of a click's passes, if it comes after them."""
    cuts: ClassVar[bool] = False
    """Whether it depends on the mask threshold, which is then not only the last step."""

    @classmethod
    def label(cls, field: str) -> str:
        """Return the name of a field in messages."""
        return f"{cls.name}.{field}"

    @classmethod
    def names(cls) -> Mapping[str, Self]:
        """Named settings."""
        return {cls.name: cls()}

    @classmethod
    def rows(cls) -> Mapping[str, Self]:
        """Rows of the table in docs/REFINEMENTS.md: settings that differ in which networks support them."""
        return {cls.name: cls()}

    def why_not(self, traits: Traits, parts: "Sequence[Part]") -> Iterator[str]:
        """Yield the reasons why a network does not support this part beside the other `parts`, as "SETTING: CAUSE"."""
        yield from ()

    def cost(self, traits: Traits) -> str:
        """Describe an unexpected cost for a network with these traits; "" if there is none."""
        return ""

    def simplest(self) -> Self | None:
        """Return it with settings that have no effect at their defaults; None if it changes nothing at all."""
        return self

    def looks(self, inside: Inside) -> Inside:
        """Return the looks, wrapped by this part."""
        return inside

    def click(self, step: Step, inside: Inside) -> Step:
        """Return the step, wrapped by this part; a part in slot PLACE replaces `step`, which views the whole image."""
        return step


EXEMPLAR = "the exemplar may be anywhere in the image, so a network that takes one must see the whole image"
ENCODED = "each view, mirror image or close-up is encoded separately, which costs as much as opening an image"
MOVED = "the heavy half runs again when the view changes; as published it runs once"
"""Reasons and costs that several parts share."""
