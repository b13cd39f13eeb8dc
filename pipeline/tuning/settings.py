"""Settings: values by dotted names, and the refinement or training that they describe."""

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
"""Fields that are part of every `identity`, even with default values: those that existed when identities were first
stored."""


def refinement_of(base: Refinement, values: Values) -> Refinement:
    """Change a refinement by values named `refine.FIELD` or `refine.PART.FIELD`; the latter turns the part on.

    The value of `refine.PART` is None (off) or a dict of the part's settings. Settings without effect are reset to
    their defaults, so equal behaviour gives equal refinements. Raises InputError for names that do not exist.
    """
    plain = to_dict(base)
    for name in sorted(values, key=lambda name: name.count(".")):
        if not name.startswith(REFINE):
            continue
        path = name.removeprefix(REFINE).split(".")
        if len(path) > 2 or path[0] not in plain:
            raise InputError(
                f"{name} is not a setting of a refinement: expected refine.FIELD or refine.PART.FIELD, where FIELD or "
                f"PART is one of {', '.join(plain)}"
            )
        if len(path) == 1:
            plain[path[0]] = values[name]
        else:
            if path[0] not in PARTS or not dataclasses.fields(PARTS[path[0]]):
                raise InputError(f"{name}: {path[0]} has no settings; give a value for refine.{path[0]}")
            plain[path[0]] = {**(plain[path[0]] or {}), path[1]: values[name]}
    return simplest(refinement_from_dict(plain))


def simplest(refinement: Refinement) -> Refinement:
    """Reset settings without effect to their defaults."""
    parts = [part.simplest() for part in refinement.parts]
    return dataclasses.replace(refinement, parts=tuple(part for part in parts if part is not None))


def training_of(values: Values) -> dict[str, Any]:
    """Return the values that do not belong to a refinement: flags of a training run."""
    return {name: value for name, value in values.items() if not name.startswith(REFINE)}


def identity(base: Refinement, values: Values) -> str:
    """Return a short digest of a setting's behaviour: settings with equal behaviour have the same digest.

    Journals and folders of trained settings are named by it. So that they are found by later versions, a field that was
    added later is part of the digest only if its value is not the default.
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
    """Format values in one line: names without the prefix `refine.`, except those in `hidden`."""
    kept = {name: value for name, value in values.items() if name not in hidden}
    return ", ".join(f"{name.removeprefix(REFINE)} {json.dumps(value)}" for name, value in kept.items()) or "default"
