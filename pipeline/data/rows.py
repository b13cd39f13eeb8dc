"""Columns of a training batch: one row per sample, NumPy values only, so that Arrow passes it on unchanged.

| column | type | meaning |
|---|---|---|
| index | int64 | the sample's number, counted from the start of training |
| window | int64 | the window it was made in; a restart begins at a window |
| item | str | id of the item it shows |
| partner | str | ids of the items pasted from, joined by "; " ("" if none) |
| mode | str | copy-paste modes used, joined by "+" ("" if none) |
| refused | str | what could not be used for this row and why, joined by "; " ("" if nothing) |
| photos | str | fingerprints of the images of item and partners before augmentation, separated by spaces |
| image | uint8 (h, w, 3) | RGB |
| object_mask | uint8 (h, w) | 1 on the object |
| ignore_mask | uint8 (h, w) | 1 on ignored pixels |
| clicks_yx | float32 (2K, 2) | positive clicks from row 0, negative ones from row K; unused rows -1 |
| clicks_valid | bool (2K,) | which rows hold a click |
| clicks_order | int16 (2K,) | order of the clicks; unused rows -1 |

With `coarse` there is also a bool column of that name: whether the masks of the image are coarse.

With `focus.enabled` there is also a close-up of the target, of side s, cut from the image before augmentation:

| column | type | meaning |
|---|---|---|
| focus_image | uint8 (s, s, 3) | RGB; black beyond the image |
| focus_mask | uint8 (s, s) | 1 on the object |
| focus_ignore_mask | uint8 (s, s) | 1 on ignored pixels |
| focus_prev_mask | uint8 (s, s) | 1 on a coarse mask of the object |
| focus_clicks_yx | float32 (2K, 2) | in the close-up; as clicks_yx |
| focus_clicks_valid | bool (2K,) | which rows hold a click |
| focus_clicks_order | int16 (2K,) | 0 for the click at the centre; unused rows -1 |

With `exemplar.enabled`, object_mask is the union of all objects of a category, and one of them is the exemplar:

| column | type | meaning |
|---|---|---|
| exemplar_mask | uint8 (h, w) | 1 on the exemplar; empty if the row shows no object |
| exemplar_clicks_yx | float32 (20, 2) | clicks that could have made it, in their order; unused rows -1 |
| exemplar_clicks_valid | bool (20,) | which rows hold a click |
| exemplar_clicks_positive | bool (20,) | their signs |
| exemplar_clicks_true | bool (20,) | negative clicks that lie on no other object of the category |
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

Row: TypeAlias = dict[str, Any]
Batch: TypeAlias = dict[str, np.ndarray]


def collate(rows: Sequence[Row]) -> Batch:
    """Stack rows of equal shapes, at least one, into a dict of arrays with the rows along the first axis."""
    return {name: np.stack([np.asarray(row[name]) for row in rows]) for name in rows[0]}


def split(batch: Batch) -> list[Row]:
    """Undo `collate`: return one dict per row."""
    return [{name: column[i] for name, column in batch.items()} for i in range(len(batch["index"]))]
