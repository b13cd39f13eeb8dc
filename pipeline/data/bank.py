"""Statistics of a data set: sizes, objects, categories, licences, and refusals with their reasons.

They are summed image by image, so that a data set of any size can be counted. From a prepared data set only the small
columns are read.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from models.errors import InputError
from models.storage import Storage
from pipeline.data.prepared.manifest import read_manifest
from pipeline.data.sample import Sample

MIN_OBJECT_AREA = 1000
"""Objects of fewer pixels are counted separately; the value of the training recipes for COCO and LVIS."""
AREA_EDGES = np.logspace(-6, 0, 25)
"""Edges of the histogram of relative areas: four bins per power of ten. Smaller areas fall into the first bin."""
MAX_EXAMPLES = 3

Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True, eq=False)
class Described:
    """Some images without their pixels.

    Objects are listed image by image; `num_objects` says how many belong to each image.
    """

    heights: np.ndarray
    widths: np.ndarray
    num_objects: np.ndarray
    areas: np.ndarray
    categories: Sequence[str]
    licences: Sequence[str]

    @classmethod
    def of(cls, sample: Sample) -> "Described":
        """Describe one image."""
        return cls(
            heights=np.array([sample.image.shape[0]]),
            widths=np.array([sample.image.shape[1]]),
            num_objects=np.array([len(sample.objects)]),
            areas=np.array([np.count_nonzero(sample.object_mask(ref)) for ref in sample.objects], np.int64),
            categories=[ref.category for ref in sample.objects],
            licences=[sample.origin.licence],
        )


@dataclass
class Reason:
    """A kind of refusal: its count, and the first examples in full."""

    count: int = 0
    examples: list[str] = field(default_factory=list)


@dataclass(kw_only=True)
class Bank:
    """The sums over a data set.

    The category "" counts objects without a category, the licence "" images without a known licence. An image made of
    several others has several licences, joined by "; ", and counts for each.
    """

    min_object_area: int = MIN_OBJECT_AREA
    num_small: int = 0
    """Objects of fewer than `min_object_area` pixels."""
    objects_per_image: Counter[int] = field(default_factory=Counter)
    categories: Counter[str] = field(default_factory=Counter)
    licences: Counter[str] = field(default_factory=Counter)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    """Images by (height, width)."""
    areas: np.ndarray = field(default_factory=lambda: np.zeros(len(AREA_EDGES) - 1, np.int64))
    """Objects by their share of the image, in the bins of AREA_EDGES."""
    refused: dict[str, Reason] = field(default_factory=dict)
    """Refused items and objects, by kind of reason."""

    @property
    def num_images(self) -> int:
        """Number of images counted."""
        return self.objects_per_image.total()

    @property
    def num_objects(self) -> int:
        """Number of objects counted."""
        return self.categories.total()

    @property
    def num_refused(self) -> int:
        """Number of refused items and objects."""
        return sum(reason.count for reason in self.refused.values())

    def add(self, images: Described) -> None:
        """Add some images to the counts."""
        self.objects_per_image.update(images.num_objects.tolist())
        self.categories.update(images.categories)
        for licence in images.licences:
            self.licences.update(licence.split("; "))
        self.sizes.update(zip(images.heights.tolist(), images.widths.tolist(), strict=True))
        self.num_small += int(np.count_nonzero(images.areas < self.min_object_area))
        pixels = np.repeat(images.heights.astype(np.int64) * images.widths, images.num_objects)
        # An object may fill its image, so the last bin includes its upper edge, as in numpy.histogram.
        bins = np.searchsorted(AREA_EDGES, images.areas / pixels, side="right") - 1
        np.add.at(self.areas, np.clip(bins, 0, len(self.areas) - 1), 1)

    def add_refused(self, text: str) -> None:
        """Add a refusal, "id: reason", to the counts."""
        reason = self.refused.setdefault(kind_of(text), Reason())
        reason.count += 1
        if len(reason.examples) < MAX_EXAMPLES:
            reason.examples.append(text)

    def top_categories(self, num: int = 30) -> tuple[list[tuple[str, int]], int, int]:
        """Return the `num` most frequent categories with their objects, the number of other categories, and theirs."""
        ranked = sorted(self.categories.items(), key=lambda entry: (-entry[1], entry[0]))
        return ranked[:num], len(ranked[num:]), sum(count for _, count in ranked[num:])


def kind_of(refusal: str) -> str:
    """Return what refusals of a kind share: the reason without the item's name, file names, quotes and numbers."""
    _, colon, reason = refusal.partition(": ")
    kind = reason if colon else refusal
    kind = re.sub(r"'[^']*'|\"[^\"]*\"", "...", kind)
    kind = re.sub(r"\S+\.[A-Za-z]\w{1,4}\b", "...", kind)
    return re.sub(r"-?\d+(\.\d+)?", "N", kind)


def count(images: Iterable[Described], refused: Iterable[str] = (), min_object_area: int = MIN_OBJECT_AREA) -> Bank:
    """Sum up images and refusals."""
    bank = Bank(min_object_area=min_object_area)
    for some in images:
        bank.add(some)
    for text in refused:
        bank.add_refused(text)
    return bank


def bank_of_prepared(
    storage: Storage, min_object_area: int = MIN_OBJECT_AREA, progress: Progress = lambda done, total: None
) -> Bank:
    """Sum up a prepared data set; raises InputError if it is damaged.

    `progress` is called with the number of shards done and the total.
    """
    refused = storage.read("refused.txt").decode().splitlines() if storage.exists("refused.txt") else []
    return count(_described(storage, progress), refused, min_object_area)


def _described(storage: Storage, progress: Progress) -> Iterator[Described]:
    names = [shard["name"] for shard in read_manifest(storage)["shards"] if shard["name"]]
    columns = ["height", "width", "licence", "objects.list.element.category", "objects.list.element.area"]
    for done, name in enumerate(names, start=1):
        file = storage.open_parquet(name)
        try:
            for number in range(file.num_row_groups):
                yield _describe(file.read_row_group(number, columns=columns).combine_chunks())
        except (OSError, pa.ArrowException) as error:
            raise InputError(f"{storage.path(name)} cannot be read: {error}") from error
        progress(done, len(names))


def _describe(table: pa.Table) -> Described:
    objects = table.column("objects").combine_chunks()
    fields = objects.flatten()
    return Described(
        heights=table.column("height").to_numpy(),
        widths=table.column("width").to_numpy(),
        num_objects=np.diff(objects.offsets.to_numpy()),
        areas=fields.field("area").to_numpy(),
        categories=fields.field("category").to_pylist(),
        licences=table.column("licence").to_pylist(),
    )
