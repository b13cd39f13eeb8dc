"""Compose a refinement from parts, in the order of their slots, and settings for all of them."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from models.errors import InputError
from models.geometry import LongSide
from models.networks.base import Traits
from models.records import Above, AtLeast, Below, Record
from models.refinement.part import Inside, Part, Slot
from models.refinement.patches import Masking
from models.refinement.prompted import prompted
from models.refinement.registry import PARTS
from models.refinement.split import Split, split
from models.refinement.standard import limit_longest_side, standard
from models.refinement.state import Look, Seen, State, Step, View, segment, segment_started
from models.resampling import Resampling
from models.steps import Steps

P = TypeVar("P", bound=Part)


@dataclass(frozen=True)
class Refinement(Record):
    """The steps that answer a click. The order in which parts are given does not matter."""

    parts: tuple[Part, ...] = ()
    _: dataclasses.KW_ONLY
    limit_longest_side: Annotated[int, AtLeast(1)] | None = None
    """Shrink images with a longer side than this, in pixels, for networks that take any size; None: do not shrink."""
    max_network_clicks: Annotated[int, AtLeast(0)] | None = None
    """Number of first clicks that the network sees (None: all); close-ups show all clicks inside them."""
    mask_threshold: Annotated[float, Above(0), Below(1)] = 0.49
    """Probability above which a pixel belongs to the mask."""

    def __post_init__(self) -> None:
        """Sort the parts; raises InputError for parts that exclude each other."""
        super().__post_init__()
        object.__setattr__(self, "parts", tuple(sorted(self.parts, key=lambda part: (part.slot, part.name))))
        names = [part.name for part in self.parts]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise InputError(f"the refinement has the part {twice[0]} twice: expected each part once")
        places = [part.name for part in self.parts if part.slot is Slot.PLACE]
        places += ["limit_longest_side"] if self.limit_longest_side is not None else []
        if len(places) > 1:
            raise InputError(f"{' and '.join(places)} exclude each other, since each sets the view: leave one out")

    def part(self, kind: type[P]) -> P | None:
        """Return the part of a kind, or None."""
        return next((part for part in self.parts if isinstance(part, kind)), None)

    def named_parts(self) -> dict[str, Any]:
        """Return every part by name, or None if it is off (for a part without settings, a bool), and the settings."""
        on = {part.name: part for part in self.parts}
        parts = {name: on.get(name) if dataclasses.fields(kind) else name in on for name, kind in PARTS.items()}
        settings = (each.name for each in dataclasses.fields(self) if each.name != "parts")
        return parts | {name: getattr(self, name) for name in settings}

    def usual_parts(self) -> dict[str, Any]:
        """Return the same for a refinement without parts."""
        return Refinement().named_parts()

    def why_not(self, traits: Traits) -> Iterator[str]:
        """Yield the reasons why a network with these traits does not support this refinement."""
        for part in self.parts:
            yield from part.why_not(traits, self.parts)
        decided = isinstance(traits.size, tuple | LongSide) or traits.multiple > 1
        if decided and self.limit_longest_side is not None:
            yield "limit_longest_side: this network sets the size of its views itself; leave it out"


def why_not(refinement: Refinement, traits: Traits) -> list[str]:
    """List why a network with these traits does not support a refinement; empty if it does (docs/REFINEMENTS.md)."""
    return list(refinement.why_not(traits))


def build(refinement: Refinement, traits: Traits) -> Step:
    """Compose the step of one click for a network with these traits; raises InputError if it is not supported."""
    if reasons := why_not(refinement, traits):
        raise InputError("; ".join(reasons))
    masking = Masking(threshold=refinement.mask_threshold, binary=traits.prev_mask == "binary")
    inside = Inside(traits, masking, look=plain_look(traits), close_look=segment)
    for part in refinement.parts:
        inside = part.looks(inside)
    if refinement.max_network_clicks is not None:
        inside = inside._replace(look=_first_clicks_only(inside.look, refinement.max_network_clicks))
    step = _whole_image(inside.look, traits, refinement.limit_longest_side)
    for part in refinement.parts:
        step = part.click(step, inside)
    return step if traits.resampling == "corners" else _resampled(step, traits.resampling)


def plain_look(traits: Traits) -> Look:
    """Return the look (one run on one view) for a network with these traits."""
    if traits.prompted:
        return prompted
    if traits.split:
        return split(Split(), traits.starts)
    return segment_started if traits.starts else segment


def _whole_image(look: Look, traits: Traits, longest: int | None) -> Step:
    if longest is None:
        return standard(look, traits.size)

    def step(state: State) -> Steps[State]:
        return (yield from standard(look, limit_longest_side(longest, state.hw))(state))

    return step


def _resampled(step: Step, how: Resampling) -> Step:
    def seen(state: State) -> Steps[State]:
        return (yield from step(dataclasses.replace(state, resampling=how)))

    return seen


def _first_clicks_only(look: Look, num: int) -> Look:
    def seen(view: View) -> Steps[Seen]:
        return (yield from look(dataclasses.replace(view, clicks=view.clicks.first(num))))

    return seen
