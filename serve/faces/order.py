"""The order of clicks that a protocol sends apart, positive and negative ones: masks depend on it. No dependencies."""

from collections.abc import Sequence

from models.interaction import Click


def in_known_order(known: Sequence[Click], positive: Sequence[Click], negative: Sequence[Click]) -> tuple[Click, ...]:
    """Put clicks into the order `known` from an earlier call, new ones at the end.

    Clicks of `known` that are not there any more were taken back. Among new ones, positive clicks come first.
    """
    rest = {True: list(positive), False: list(negative)}
    order: list[Click] = []
    for click in known:
        if click not in rest[click.positive]:
            continue  # taken back since
        if rest[click.positive][0] != click:
            break  # these are other clicks than those of the earlier call
        order.append(rest[click.positive].pop(0))
    return (*order, *rest[True], *rest[False])
