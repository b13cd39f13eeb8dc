"""How a mask came about: the state after each pass of a refinement, for people who want to see it."""

import dataclasses

from models.networks.base import Traits
from models.refinement.composition import Refinement, build
from models.refinement.part import Slot
from models.refinement.state import State
from models.steps import Steps


def passes(refinement: Refinement, traits: Traits, before: State, after: State) -> Steps[list[tuple[str, State]]]:
    """Make the passes of the newest click again: (name, state) of each, the last one `after`.

    `before`: the state with that click not yet answered; `after`: the answered one, which tells how many passes there
    were. The cascade's passes are those of its definition; what comes after them (close-ups, merging) is one entry.
    """
    inner = tuple(part for part in refinement.parts if part.slot < Slot.REPEAT)
    outer = [part.last_pass or part.name for part in refinement.parts if part.slot > Slot.REPEAT]
    step = build(dataclasses.replace(refinement, parts=inner), traits)
    made = after.counts.cascade_passes - before.counts.cascade_passes
    state = yield from step(before)
    found = [("first look", state)]
    for number in range(1, made + 1):
        state = yield from step(state)
        found.append((f"pass {number}", state))
    if outer:
        return [*found, (outer[0], after)]
    return [*found[:-1], (found[-1][0], after)]


def threshold_is_last(refinement: Refinement) -> bool:
    """Whether the mask threshold cuts the probabilities at the very end, and nothing before depends on it."""
    return not any(part.cuts for part in refinement.parts)
