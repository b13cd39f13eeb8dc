"""Flip: run the network on the view and on its mirror image, and average the logits."""

from dataclasses import dataclass, replace

from models.interaction import Clicks
from models.networks.base import Traits
from models.refinement.part import ENCODED, Inside, Part, Slot
from models.refinement.state import Look, Seen, View
from models.steps import Steps, together


@dataclass(frozen=True, kw_only=True)
class Flip(Part):
    """Average the logits of each look with those of its mirror image."""

    name = "flip"
    slot = Slot.LOOK
    source = "RITM's evaluation"

    def cost(self, traits: Traits) -> str:
        """Describe the cost for a network with these traits."""
        return ENCODED if traits.prompted else ""

    def looks(self, inside: Inside) -> Inside:
        """Mirror both kinds of look."""
        return inside._replace(look=flip(inside.look), close_look=flip(inside.close_look))


def mirrored(view: View) -> View:
    """Mirror a view left to right: column c becomes w - 1 - c. The caller sets its `memory`."""
    width = view.image.shape[-1]

    def turned(clicks: Clicks) -> Clicks:
        yx = clicks.yx.copy()
        yx[:, 1] = width - 1 - yx[:, 1]
        return Clicks(yx, clicks.positive)

    example = view.example
    return replace(
        view,
        image=view.image.flip(-1),
        prev_mask=view.prev_mask.flip(-1),
        clicks=turned(view.clicks),
        example=None if example is None else example.moved(lambda mask: mask.flip(-1), turned),
        frame=None if view.frame is None else view.frame.mirrored(),
    )


def flip(look: Look) -> Look:
    """Average the logits of both looks before the sigmoid, as RITM; they may share a forward and keep two memories."""

    def seen(view: View) -> Steps[Seen]:
        memories = view.memory or (None, None)
        views = (replace(view, memory=memories[0]), replace(mirrored(view), memory=memories[1]))
        straight, mirror = yield from together(*(look(one) for one in views))
        remembered = None if straight.memory is None else (straight.memory, mirror.memory)
        return Seen(0.5 * (straight.logits + mirror.logits.flip(-1)), remembered)

    return seen
