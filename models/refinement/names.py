"""Resolve refinements given by users and files: names, sums of names, and the JSON of checkpoints and best.json."""

import dataclasses
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.errors import InputError, lookup, unknown
from models.records import check, read
from models.refinement.cascade import Cascade
from models.refinement.composition import Refinement
from models.refinement.flip import Flip
from models.refinement.focus import Focus
from models.refinement.part import Part
from models.refinement.registry import PARTS
from models.refinement.square_zoom import SquareZoom
from models.refinement.zoom_in import ZoomIn

REFINEMENTS: dict[str, Refinement] = {
    "standard": Refinement(),
    **{name: Refinement((part,)) for kind in PARTS.values() for name, part in kind.names().items()},
    "zoom_in_flip": Refinement((ZoomIn(), Flip())),
    "zoom_in_flip_a_cfr_4": Refinement((ZoomIn(), Flip(), Cascade(steps=4, adaptive=True))),
    # As published: the mask consists of positive logits.
    "sam": Refinement(mask_threshold=0.5),
    # As published for FocusCut's networks.
    "focuscut": Refinement((SquareZoom(), Focus()), mask_threshold=0.5),
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
    if not isinstance(refinement, str):
        raise InputError(f"refinement {refinement!r}: expected a name, a JSON file or an object with its settings")
    if refinement in REFINEMENTS:
        return REFINEMENTS[refinement]
    if "+" in refinement:
        return _sum(refinement)
    if refinement.endswith(".json"):
        path = Path(refinement)
        if not path.is_file():
            raise InputError(f"no refinement file at {path}: expected a JSON file with a refinement")
        try:
            return from_dict(json.loads(path.read_text()))
        except ValueError as error:
            raise InputError(f"{path} is not a refinement: {error}") from error
    match = re.fullmatch(r"(zoom_in_)?(flip_)?(a_)?cfr_(\d{1,2})(_all_clicks)?", refinement)
    if match is None:
        return lookup("refinement", refinement, REFINEMENTS)
    zoom, flipped, adaptive, steps, all_clicks = match.groups()
    cascade = Cascade(steps=int(steps), adaptive=bool(adaptive), on_first_clicks=None if all_clicks else 1)
    return Refinement((cascade, *([ZoomIn()] if zoom else []), *([Flip()] if flipped else [])))


def _sum(names: str) -> Refinement:
    """Combine the settings of several names."""
    plain, total = to_dict(Refinement()), dict[str, Any]()
    for name in names.split("+"):
        own = {key: value for key, value in to_dict(named(name)).items() if value != plain[key]}
        if twice := sorted(key for key in own if total.get(key, own[key]) != own[key]):
            raise InputError(f"refinement {names!r}: several of its names set {', '.join(twice)}; leave one out")
        total |= own
    return from_dict(total)


def to_dict(refinement: Refinement) -> dict[str, Any]:
    """Return plain values for JSON: the settings of each part or None, and a bool for a part without settings."""
    return {
        name: dataclasses.asdict(value) if isinstance(value, Part) else value
        for name, value in refinement.named_parts().items()
    }


def from_dict(values: Mapping[str, Any]) -> Refinement:
    """Read the result of `to_dict`; missing parts are off, and missing settings take their defaults.

    Raises InputError for unknown names.
    """
    if not isinstance(values, Mapping):
        raise InputError(f"Refinement is {values!r}: expected an object with its settings")
    names = Refinement().named_parts()
    for name in values:
        if name not in names:
            raise unknown("setting of Refinement", str(name), names)
    parts: list[Part] = []
    for name, kind in PARTS.items():
        value = values.get(name)
        if not dataclasses.fields(kind):
            check(bool | None, value, name)
            parts += [kind()] if value else []
        elif value is not None and value is not False:
            parts.append(read(kind, value, name))
    return Refinement(tuple(parts), **{name: value for name, value in values.items() if name not in PARTS})
