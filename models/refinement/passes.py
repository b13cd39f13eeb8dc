"""Replay a click to show the state after each pass of a refinement."""

import dataclasses

from models.networks.base import Traits
from models.refinement.composition import Refinement, build
from models.refinement.part import Slot
from models.refinement.state import State
from models.steps import Steps


def passes(refinement: Refinement, traits: Traits, before: State, after: State) -> Steps[list[tuple[str, State]]]:
    """Repeat the passes of the newest click and return (name, state) for each; the last state is `after`.

    `before` is the state in which that click is not yet answered. `after` is the answered state, which holds the number
    of passes. Each pass of the cascade is one entry, and all work after the cascade (close-ups, merging) is one more.
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
    """Whether the mask threshold is applied only at the very end, and no part depends on it."""
    return not any(part.cuts for part in refinement.parts)
