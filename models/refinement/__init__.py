"""Refinements: what happens at a click. Each is written once, as a generator; `build` composes them.

To add one: a file with its frozen config and its function, a field of Refinement, a line in `build`.
"""

import dataclasses
import json
import re
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.errors import InputError, lookup, unknown
from models.geometry import LongSide
from models.networks.base import Traits
from models.refinement.cascade import Cascade, cascade
from models.refinement.flip import flip
from models.refinement.focus import FAST_RATIO, Focus, focus, view_hw
from models.refinement.patches import Masking
from models.refinement.progressive_merge import progressive_merge
from models.refinement.prompted import prompted
from models.refinement.split import Split, forgetful, split
from models.refinement.square_zoom import SquareZoom, square_zoom
from models.refinement.standard import limit_longest_side, standard
from models.refinement.state import Look, Seen, State, Step, View, segment, segment_started
from models.refinement.zoom_in import ZoomIn, zoom_in
from models.resampling import Resampling
from models.steps import Steps

__all__ = [
    "FAST_RATIO",
    "REFINEMENTS",
    "Cascade",
    "Focus",
    "Refinement",
    "Split",
    "SquareZoom",
    "State",
    "ZoomIn",
    "build",
    "named",
    "why_not",
]


@dataclass(frozen=True, kw_only=True)
class Refinement:
    """What to do at a click, from the inside out: flip a look, zoom in, cascade the whole step, look at details."""

    flip: bool = False
    """Average the logits of each look with those of its mirror image."""
    zoom_in: ZoomIn | None = None
    square_zoom: SquareZoom | None = None
    """FocusCut's zoom instead: a square from the first click on."""
    cascade: Cascade | None = None
    focus: Focus | None = None
    """Close-ups around the clicks that correct details; a split network runs as a whole on each."""
    split: Split | None = None
    """When the heavy half of a split network runs; None: once, and again where zoom_in changes the view."""
    progressive_merge: bool = False
    """Where the session began with a mask, let a click change only the part that it lies in."""
    limit_longest_side: int | None = None
    """Shrink larger images first (whole-image looks of networks that take any size)."""
    max_network_clicks: int | None = None
    """Show the network the first n clicks only; close-ups show all that lie in them."""
    mask_threshold: float = 0.49
    """Probability above which a pixel belongs to the mask."""

    def __post_init__(self) -> None:
        if not 0 < self.mask_threshold < 1:
            raise InputError(f"mask_threshold {self.mask_threshold}: expected a probability between 0 and 1")
        if self.zoom_in is not None and self.limit_longest_side is not None:
            raise InputError("zoom_in and limit_longest_side exclude each other: zoom_in decides the size of each look")
        if self.square_zoom is not None and (self.zoom_in is not None or self.limit_longest_side is not None):
            raise InputError(
                "square_zoom excludes zoom_in and limit_longest_side: it decides where to look and at which size"
            )


NESTED = {"zoom_in": ZoomIn, "square_zoom": SquareZoom, "cascade": Cascade, "split": Split, "focus": Focus}

REFINEMENTS: dict[str, Refinement] = {
    "standard": Refinement(),
    "flip": Refinement(flip=True),
    "zoom_in": Refinement(zoom_in=ZoomIn()),
    "zoom_in_late": Refinement(zoom_in=ZoomIn(skip_clicks=3)),
    "zoom_in_flip": Refinement(zoom_in=ZoomIn(), flip=True),
    "cfr_1": Refinement(cascade=Cascade(steps=1)),
    "cfr_4": Refinement(cascade=Cascade(steps=4)),
    "a_cfr_4": Refinement(cascade=Cascade(steps=4, adaptive=True)),
    "cfr_1_all_clicks": Refinement(cascade=Cascade(steps=1, on_first_clicks=None)),
    "a_cfr_4_all_clicks": Refinement(cascade=Cascade(steps=4, adaptive=True, on_first_clicks=None)),
    "every_click_encoded": Refinement(split=Split(encode="every_click")),
    "base_cfr_2": Refinement(split=Split(base_steps=2)),
    "progressive_merge": Refinement(progressive_merge=True),
    "focus": Refinement(focus=Focus()),
    "focus_fast": Refinement(focus=Focus(fixed_ratio=FAST_RATIO, iterative=False)),
    # As published: the mask is where the logits are positive.
    "sam": Refinement(mask_threshold=0.5),
    # As published for FocusCut's own networks.
    "focuscut": Refinement(square_zoom=SquareZoom(), focus=Focus(), mask_threshold=0.5),
    "zoom_in_flip_a_cfr_4": Refinement(zoom_in=ZoomIn(), flip=True, cascade=Cascade(steps=4, adaptive=True)),
}


def named(refinement: "str | Refinement | Mapping[str, Any] | None") -> Refinement:
    """Resolve a refinement: a name, a JSON file, or a dict.

    Names are those of REFINEMENTS, (zoom_in_)(flip_)(a_)cfr_N(_all_clicks), and sums of names, such as zoom_in+cfr_2.
    """
    if refinement is None:
        return Refinement()
    if isinstance(refinement, Refinement):
        return refinement
    if isinstance(refinement, Mapping):
        return from_dict(refinement)
    if refinement in REFINEMENTS:
        return REFINEMENTS[refinement]
    if "+" in refinement:
        return _sum(refinement)
    if refinement.endswith(".json"):
        path = Path(refinement)
        if not path.is_file():
            raise InputError(f"no refinement file at {path}")
        try:
            return from_dict(json.loads(path.read_text()))
        except ValueError as error:
            raise InputError(f"{path} is not a refinement: {error}") from error
    match = re.fullmatch(r"(zoom_in_)?(flip_)?(a_)?cfr_(\d{1,2})(_all_clicks)?", refinement)
    if match is None:
        return lookup("refinement", refinement, REFINEMENTS)
    zoom, flipped, adaptive, steps, all_clicks = match.groups()
    return Refinement(
        zoom_in=ZoomIn() if zoom else None,
        flip=bool(flipped),
        cascade=Cascade(steps=int(steps), adaptive=bool(adaptive), on_first_clicks=None if all_clicks else 1),
    )


def _sum(names: str) -> Refinement:
    """Everything that the names ask for, together."""
    total: dict[str, Any] = {}
    for name in names.split("+"):
        part, plain = named(name), Refinement()
        own = {field.name: getattr(part, field.name) for field in dataclasses.fields(part)}
        own = {key: value for key, value in own.items() if value != getattr(plain, key)}
        if twice := sorted(key for key in own if total.get(key, own[key]) != own[key]):
            raise InputError(f"refinement {names!r}: more than one of its parts sets {', '.join(twice)}")
        total |= own
    return Refinement(**total)


def from_dict(values: Mapping[str, Any]) -> Refinement:
    """Rebuild a Refinement from `dataclasses.asdict` or JSON; unknown names raise InputError."""
    fields: dict[str, Any] = {
        key: _from_fields(NESTED[key], value) if key in NESTED and value is not None else value
        for key, value in _checked(Refinement, values).items()
    }
    return Refinement(**fields)


def _from_fields(kind: Any, values: Mapping[str, Any]) -> Any:
    return kind(**_checked(kind, values))


def _checked(kind: Any, values: Any) -> dict[str, Any]:
    if not isinstance(values, Mapping):
        raise InputError(f"{kind.__name__}: expected an object with its settings, not {values!r}")
    hints = typing.get_type_hints(kind)
    checked: dict[str, Any] = {}
    for key, value in values.items():
        if key not in hints:
            raise unknown(f"setting of {kind.__name__}", key, hints)
        checked[key] = tuple(value) if isinstance(value, list) else value
        if key not in NESTED and not _fits(checked[key], hints[key]):
            raise InputError(f"{kind.__name__}.{key} is {value!r}: expected {hints[key]}")
    return checked


def _fits(value: Any, hint: Any) -> bool:
    """Whether a JSON value is of a field's type; a whole number does for a float, a bool does not for a number."""
    if typing.get_origin(hint) is typing.Literal:
        return value in typing.get_args(hint)
    kinds = [typing.get_origin(kind) or kind for kind in typing.get_args(hint) or (hint,)]
    if isinstance(value, bool):
        return bool in kinds
    return isinstance(value, tuple(kinds)) or (isinstance(value, int) and float in kinds)


def why_not(refinement: Refinement, traits: Traits) -> list[str]:
    """Reasons for which a network with these traits cannot be refined so; none: it can (docs/REFINEMENTS.md)."""
    zoom, halves, fixed = refinement.zoom_in, refinement.split or Split(), isinstance(traits.size, tuple)
    close = None if refinement.focus is None else view_hw(refinement.focus, traits)
    refused = {
        f"zoom_in.size {zoom and zoom.size}: this network takes views of exactly {traits.size}": (
            zoom is not None and fixed and zoom.size not in (None, traits.size)
        ),
        "zoom_in: the exemplar may lie anywhere in the image, and a network that takes one sees the whole": (
            zoom is not None and traits.exemplar
        ),
        "square_zoom: the exemplar may lie anywhere in the image, and a network that takes one sees the whole": (
            refinement.square_zoom is not None and traits.exemplar
        ),
        "focus: a close-up does not show the exemplar that this network takes; leave it out": (
            close is not None and traits.exemplar
        ),
        f"focus.size {close}: this network takes views of exactly {traits.size}": (
            close is not None and fixed and close != traits.size
        ),
        f"focus.size {close}: this network takes sides that are multiples of {traits.multiple}": (
            close is not None and any(side % traits.multiple for side in close)
        ),
        f"limit_longest_side: this network takes views of {traits.size} only; leave it out": (
            refinement.limit_longest_side is not None
            and (fixed or isinstance(traits.size, LongSide) or traits.multiple > 1)
        ),
        "split: this network has no heavy and light half; leave it out": (
            refinement.split is not None and not traits.split
        ),
        "split: the heavy half of this network sees no click, and never has to run again; leave it out": (
            refinement.split is not None and traits.prompted
        ),
        "split.base_steps: the heavy half of this network does not look at a previous mask, so that its cascade would "
        "change nothing; cascade the correction instead": (
            halves.base_steps > 0 and traits.split and not traits.prompted and traits.prev_mask == "unused"
        ),
        "split.encode 'once': a zoom changes the view, which has to be encoded again (on_zoom)": (
            halves.encode == "once"
            and traits.split
            and not traits.prompted
            and (zoom is not None or refinement.square_zoom is not None)
        ),
    }
    return [reason for reason, applies in refused.items() if applies]


def build(refinement: Refinement, traits: Traits) -> Step:
    """Compose the step of one click for a network with these traits; raises InputError where they exclude it."""
    if reasons := why_not(refinement, traits):
        raise InputError("; ".join(reasons))
    halves = refinement.split or Split()
    look: Look = segment_started if traits.starts else segment
    if traits.prompted:
        look = prompted
    elif traits.split:
        look = split(halves, traits.starts)
    # A close-up is another view each time: there is nothing to remember of it.
    close_look: Look = segment
    if refinement.flip:
        look, close_look = flip(look), flip(close_look)
    masking = Masking(threshold=refinement.mask_threshold, binary=traits.prev_mask == "binary")
    if refinement.max_network_clicks is not None:
        look = _first_clicks_only(look, refinement.max_network_clicks)
    if refinement.zoom_in is not None:
        config = refinement.zoom_in
        if config.skip_clicks > 0 and isinstance(traits.size, tuple):
            # A network of one fixed size sees every view resized: the published setting is to skip none.
            config = dataclasses.replace(config, skip_clicks=-1)
        step = zoom_in(look, config, size=traits.size, zoom_size=traits.zoom_size)
    elif refinement.square_zoom is not None:
        step = square_zoom(look, refinement.square_zoom, masking, size=traits.size, zoom_size=traits.zoom_size)
    elif refinement.limit_longest_side is not None:
        step = _limited(look, refinement.limit_longest_side)
    else:
        step = standard(look, traits.size)
    if traits.split and halves.encode == "every_click":
        step = forgetful(step)
    if refinement.cascade is not None:
        step = cascade(step, refinement.cascade)
    if refinement.focus is not None:
        step = focus(step, close_look, refinement.focus, masking, hw=view_hw(refinement.focus, traits))
    if refinement.progressive_merge:
        step = progressive_merge(step, refinement.mask_threshold)
    return step if traits.resampling == "corners" else _resampled(step, traits.resampling)


def _resampled(step: Step, how: Resampling) -> Step:
    def seen(state: State) -> Steps[State]:
        return (yield from step(dataclasses.replace(state, resampling=how)))

    return seen


def _limited(look: Look, longest: int) -> Step:
    def step(state: State) -> Steps[State]:
        return (yield from standard(look, limit_longest_side(longest, state.hw))(state))

    return step


def _first_clicks_only(look: Look, num: int) -> Look:
    def seen(view: View) -> Steps[Seen]:
        return (yield from look(dataclasses.replace(view, clicks=view.clicks.first(num))))

    return seen
