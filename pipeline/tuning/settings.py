"""A setting: values by dotted names, and the refinement (or training) that they describe."""

import dataclasses
import hashlib
import json
from collections.abc import Collection, Mapping
from typing import Any

from models.errors import InputError
from models.refinement import PARTS, Refinement, to_dict
from models.refinement import from_dict as refinement_from_dict

Values = Mapping[str, Any]
REFINE = "refine."
NAMED_BY = {
    "": "flip zoom_in square_zoom cascade focus split progressive_merge limit_longest_side max_network_clicks "
    "mask_threshold",
    "zoom_in": "skip_clicks expansion min_crop_size recompute_iou threshold size",
    "square_zoom": "expansion keep_iou",
    "cascade": "steps adaptive on_first_clicks pixels threshold",
    "focus": "clicks from_click min_area_ratio margin turns growth erosion smallest fixed_ratio iterative size",
    "split": "encode base_steps",
}
"""Fields that are in every `identity`, whatever their values: those that there were when the first were stored."""


def refinement_of(base: Refinement, values: Values) -> Refinement:
    """Change a refinement by values named `refine.FIELD` or `refine.PART.FIELD`; a part that was off comes on.

    A whole part may be a value too: None for off, a dict of its settings. Settings that do nothing are put back to
    their defaults, so that equal behaviour is an equal refinement. Raises InputError for names that do not exist.
    """
    plain = to_dict(base)
    for name in sorted(values, key=lambda name: name.count(".")):
        if not name.startswith(REFINE):
            continue
        path = name.removeprefix(REFINE).split(".")
        if len(path) > 2 or path[0] not in plain:
            raise InputError(
                f"{name} is no setting of a refinement: expected refine.FIELD or refine.PART.FIELD, with "
                f"{', '.join(plain)}"
            )
        if len(path) == 1:
            plain[path[0]] = values[name]
        else:
            if path[0] not in PARTS or not dataclasses.fields(PARTS[path[0]]):
                raise InputError(f"{name}: {path[0]} has no settings of its own")
            plain[path[0]] = {**(plain[path[0]] or {}), path[1]: values[name]}
    return simplest(refinement_from_dict(plain))


def simplest(refinement: Refinement) -> Refinement:
    """Put settings without effect back to their defaults."""
    parts = [part.simplest() for part in refinement.parts]
    return dataclasses.replace(refinement, parts=tuple(part for part in parts if part is not None))


def training_of(values: Values) -> dict[str, Any]:
    """Values that are no refinement's: what a training run is told."""
    return {name: value for name, value in values.items() if not name.startswith(REFINE)}


def identity(base: Refinement, values: Values) -> str:
    """Short digest of what a setting does: two settings of equal behaviour have the same.

    Journals and folders of trained settings go by it. So that they are still found, a field that was added since is in
    it only where it has another value than its default.
    """
    meant = {"refine": _meant(to_dict(refinement_of(base, values)), Refinement()), **training_of(values)}
    return hashlib.blake2b(json.dumps(meant, sort_keys=True).encode(), digest_size=6).hexdigest()


def _meant(plain: Mapping[str, Any], default: Any, part: str = "") -> dict[str, Any]:
    usual = dataclasses.asdict(default) if part else to_dict(default)
    found: dict[str, Any] = {}
    for name, value in plain.items():
        if name in NAMED_BY.get(part, "").split() or value != usual[name]:
            found[name] = _meant(value, PARTS[name](), name) if isinstance(value, dict) else value
    return found


def shown(values: Values, hidden: Collection[str] = ()) -> str:
    """One line: names without their common beginning, those left out that are alike in all settings."""
    kept = {name: value for name, value in values.items() if name not in hidden}
    return ", ".join(f"{name.removeprefix(REFINE)} {json.dumps(value)}" for name, value in kept.items()) or "default"
