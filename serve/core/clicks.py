"""Clicks as clients send them: they must lie on the image, and masks depend on their order."""

from collections.abc import Sequence

from models.errors import InputError
from models.interaction import Click, check_click
from serve.core.problems import Problem


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


def check_wire_click(click: Click, hw: tuple[int, int]) -> None:
    """Raise Problem bad_click unless the click lies on the image of (height, width)."""
    try:
        check_click(click.y, click.x, hw)
    except InputError as error:
        inside = 0 <= click.x <= hw[1] - 1
        raise Problem("bad_click", str(error), "/y" if inside else "/x") from None
