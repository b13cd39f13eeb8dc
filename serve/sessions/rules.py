"""The rules by which a change turns one value of a session into the next. Pure: no store, no model.

Clicks make an object. Finishing it stores its mask and starts the next object on the same image. Undo and redo act on
the clicks of the current object; editing makes a finished object current again, with its clicks.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import cv2
import numpy as np

from models import rle
from serve.core.masks import Made
from serve.core.options import Options
from serve.core.problems import Problem
from serve.core.values import Change, Exemplar, Finished, SessionValue, check_wire_click

SAME = 0.5
"""A component that shares more than this fraction of its pixels with a finished object counts as that object."""


def after(value: SessionValue, change: Change, options: Options, current: Callable[[], Made]) -> SessionValue:
    """Return the value after a change; `current` computes the current mask if it is needed. Raises Problem."""
    history, position = value.history, value.position
    match change.kind:
        case "click":
            assert change.click is not None
            check_wire_click(change.click, value.hw)
            if position >= options.max_clicks:
                raise Problem("bad_click", f"the object already has {position} clicks, the maximum")
            return value.after(change, history=(*history[:position], change.click), position=position + 1)
        case "undo":
            return value.after(change, position=max(position - 1, 0))
        case "redo":
            return value.after(change, position=min(position + 1, len(history)))
        case "clear":
            return value.after(change, position=0)
        case "settings":
            given = {"refinement": change.refinement, "mask_threshold": change.mask_threshold}
            given = {name: setting for name, setting in given.items() if setting is not None}
            return value.after(change, basis=replace(value.basis, **given))
        case "finish":
            return _finished(value, change, options, current())
        case "edit":
            _expect_free(value)
            chosen = _object(value, change.number)
            basis = replace(value.basis, initial_mask=chosen.initial_mask, exemplar=chosen.exemplar)
            rest = tuple(each for each in value.objects if each is not chosen)
            return value.after(change, objects=rest, basis=basis, history=chosen.clicks, position=len(chosen.clicks))
        case "drop":
            chosen = _object(value, change.number)
            return value.after(change, objects=tuple(each for each in value.objects if each is not chosen))
        case "add":
            assert change.added is not None
            return _added(value, change, change.added, options)
        case "recall":
            _expect_free(value)
            chosen = _object(value, change.number)
            exemplar = Exemplar(mask=chosen.mask, clicks=chosen.clicks)
            return value.after(change, basis=replace(value.basis, exemplar=exemplar), history=(), position=0)
    raise Problem("bad_request", f"there is no change {change.kind!r}")


def _finished(value: SessionValue, change: Change, options: Options, made: Made) -> SessionValue:
    if made.area == 0:
        raise Problem("object_empty", "the current object has no mask: click on it first")
    basis = value.basis
    if change.parts:
        taken = [rle.decode(each.mask) for each in value.objects]
        masks = [rle.encode(part) for part in parts_of(made.mask) if not _is_known(part, taken)]
        # A component that is edited later starts from its mask, because the clicks made all components together.
        new = [Finished(number=0, mask=mask, label=change.label, initial_mask=mask) for mask in masks]
    else:
        new = [
            Finished(
                number=0,
                mask=made.encoded,
                label=change.label,
                clicks=value.clicks,
                initial_mask=basis.initial_mask,
                exemplar=basis.exemplar,
            )
        ]
    return _with(
        value, change, new, options, basis=replace(basis, initial_mask=None, exemplar=None), history=(), position=0
    )


def _added(value: SessionValue, change: Change, added: Finished, options: Options) -> SessionValue:
    held = sum(_num_bytes(each) for each in value.objects) + _num_bytes(added)
    if held > options.max_added_bytes:
        raise Problem(
            "too_many_objects",
            f"the masks of the objects would take {held} bytes of run lengths: at most {options.max_added_bytes} fit",
        )
    return _with(value, change, [added], options)


def _with(value: SessionValue, change: Change, new: list[Finished], options: Options, **changed: Any) -> SessionValue:
    if len(value.objects) + len(new) > options.max_objects:
        raise Problem(
            "too_many_objects",
            f"a session holds at most {options.max_objects} objects: export them and open another session",
        )
    numbered = [replace(each, number=value.next_number + place) for place, each in enumerate(new)]
    objects = (*value.objects, *numbered)
    return value.after(change, objects=objects, next_number=value.next_number + len(new), **changed)


def _num_bytes(finished: Finished) -> int:
    exemplar = finished.exemplar
    masks = (finished.mask, finished.initial_mask, None if exemplar is None else exemplar.mask)
    return sum(len(mask["counts"]) for mask in masks if mask is not None)


def parts_of(mask: np.ndarray) -> list[np.ndarray]:
    """Return the connected components (8 neighbours) of a bool mask (h, w), largest first."""
    num, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    order = sorted(range(1, num), key=lambda number: (-int(stats[number, cv2.CC_STAT_AREA]), number))
    return [labels == number for number in order]


def _is_known(part: np.ndarray, taken: list[np.ndarray]) -> bool:
    size = np.count_nonzero(part)
    return any(np.count_nonzero(part & other) > SAME * size for other in taken)


def _expect_free(value: SessionValue) -> None:
    if value.clicks or value.basis.initial_mask is not None:
        raise Problem("object_open", "the current object has clicks or an initial mask: finish or clear it first")


def _object(value: SessionValue, number: int | None) -> Finished:
    for each in value.objects:
        if each.number == number:
            return each
    raise Problem("object_unknown", f"the session has no finished object {number}")
