"""The record that flows through the data pipeline, an image with its objects, and the interface of readers.

NumPy only. A reader lists `Item`s (light, picklable, cheap to list) and loads one as a `Sample`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from models.interaction import Clicks


def printable(text: str) -> str:
    """Escape what UTF-8 text cannot hold: undecodable bytes of file names, and lone surrogates from JSON.

    Ids and categories pass through here on their way into items and samples, so that Parquet, CSV, HTML and terminals
    accept them. Payloads keep names unchanged, because files are opened by them.
    """
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


class BadItem(Exception):
    """One item cannot be used: it is counted, named in a report and skipped; this never ends a job by itself."""

    def __init__(self, item_id: str, reason: str) -> None:
        item_id, reason = printable(item_id), printable(reason)
        super().__init__(f"{item_id}: {reason}")
        self.item_id, self.reason = item_id, reason

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.item_id, self.reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One image as a reader lists it, not yet opened; `payload` holds what the reader needs to load it."""

    id: str
    object_ids: tuple[str, ...]
    payload: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.id.isascii() or not all(map(str.isascii, self.object_ids)):
            object.__setattr__(self, "id", printable(self.id))
            object.__setattr__(self, "object_ids", tuple(map(printable, self.object_ids)))


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectRef:
    """Place of one object in a Sample: the pixels of layer `layer` with the value `value` (> 0)."""

    id: str
    layer: int
    value: int
    category: str = ""

    def __post_init__(self) -> None:
        if not (self.id.isascii() and self.category.isascii()):
            object.__setattr__(self, "id", printable(self.id))
            object.__setattr__(self, "category", printable(self.category))


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Origin of an image: its file ("" if it was generated), its licence and its source.

    `licence` and `source` (an address or a data set's name) are as the data set states them, "" if it does not.
    """

    file: str = ""
    licence: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "licence", printable(self.licence))
        object.__setattr__(self, "source", printable(self.source))


@dataclass(frozen=True, slots=True, kw_only=True)
class Exemplar:
    """A finished object that shows what the other objects of a sample are like, and the clicks that made it."""

    object_id: str
    clicks: Clicks


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sample:
    """An image and its objects.

    `image` uint8 (h, w, 3) RGB; `instance_masks` uint16 (layers, h, w), 0 = no object, objects of one layer do not
    overlap; `ignore_mask` bool (h, w), pixels that training and metrics ignore. `refused` lists the objects of this
    item that could not be used, as "object id: reason". With an `exemplar`, all objects are of its category.
    """

    id: str
    image: np.ndarray
    instance_masks: np.ndarray
    objects: tuple[ObjectRef, ...]
    ignore_mask: np.ndarray
    refused: tuple[str, ...] = ()
    origin: Origin = Origin()
    exemplar: Exemplar | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "id", printable(self.id))
        object.__setattr__(self, "refused", tuple(map(printable, self.refused)))

    def object_mask(self, ref: ObjectRef) -> np.ndarray:
        """Return the mask of one object, bool (h, w)."""
        return self.instance_masks[ref.layer] == ref.value


class Reader(Protocol):
    """A data set on disk (or generated): a frozen dataclass of its location and how to read it."""

    def items(self) -> Sequence[Item]:
        """List every image, sorted, in an order that never changes; raises InputError if there is no such data set."""
        ...

    def load(self, item: Item) -> Sample:
        """Open one image; raises BadItem with the reason if it cannot be used."""
        ...


def stream_items(reader: Reader) -> Iterable[Item]:
    """Iterate over a reader's items in the order of `items()`.

    Readers of files that may exceed the memory implement this as `stream()`; the others list all items at once.
    """
    stream = getattr(reader, "stream", None)
    return reader.items() if stream is None else stream()


def pack_objects(
    sample_id: str,
    image: np.ndarray,
    masks: Sequence[tuple[str, str, np.ndarray]],
    ignore_mask: np.ndarray | None = None,
    refused: Sequence[str] = (),
    origin: Origin | None = None,
) -> Sample:
    """Build a Sample from (object id, category, bool mask) triples, largest first, each on the first layer with room.

    An empty mask is refused by name.
    """
    refused = [*refused, *(f"{object_id}: the mask is empty" for object_id, _, mask in masks if not mask.any())]
    masks = [entry for entry in masks if entry[2].any()]
    height, width = image.shape[:2]
    layers: list[np.ndarray] = []
    counts: list[int] = []
    refs: dict[str, ObjectRef] = {}
    for object_id, category, mask in sorted(masks, key=lambda entry: -int(entry[2].sum())):
        index = next((i for i, layer in enumerate(layers) if not layer[mask].any()), len(layers))
        if index == len(layers):
            layers.append(np.zeros((height, width), np.uint16))
            counts.append(0)
        counts[index] += 1
        layers[index][mask] = counts[index]
        refs[object_id] = ObjectRef(id=object_id, layer=index, value=counts[index], category=category)
    return Sample(
        id=sample_id,
        image=image,
        instance_masks=np.stack(layers) if layers else np.zeros((1, height, width), np.uint16),
        objects=tuple(refs[object_id] for object_id, _, _ in masks),
        ignore_mask=np.zeros((height, width), bool) if ignore_mask is None else ignore_mask,
        refused=tuple(refused),
        origin=origin or Origin(),
    )
