"""Keep the photos of other data sets out of training, by their content, so that networks can be evaluated on them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from models.fingerprints import fingerprint
from pipeline.data.config import DataConfig
from pipeline.data.loading import load_or_refuse
from pipeline.data.readers import open_reader
from pipeline.data.sample import BadItem, Item, Reader, Sample


@dataclass(frozen=True, kw_only=True)
class LeaveOut:
    """The images of `reader` except those with one of `fingerprints`, which shows only when an image is opened."""

    reader: Reader
    fingerprints: frozenset[int]

    def items(self) -> Sequence[Item]:
        """List all images; one to leave out is refused by name when it is opened, and another replaces it."""
        return self.reader.items()

    def load(self, item: Item) -> Sample:
        """Open one image; raises BadItem if it is left out."""
        sample = self.reader.load(item)
        if fingerprint(sample.image) in self.fingerprints:
            raise BadItem(item.id, "left out: the same photo is in a data set of leave_out")
        return sample


def fingerprints_of(readers: Iterable[Reader]) -> frozenset[int]:
    """Open every image of some data sets and return their fingerprints; images that cannot be used are skipped."""
    samples = (load_or_refuse(reader, item)[0] for reader in readers for item in reader.items())
    return frozenset(fingerprint(sample.image) for sample in samples if sample is not None)


def training_reader(data: DataConfig) -> Reader:
    """Open the training data of a config: its data set without the photos of `data.leave_out`."""
    reader = open_reader(data.reader, data.root, data.split, data.options, data)
    return LeaveOut(reader=reader, fingerprints=_left_out(data.leave_out)) if data.leave_out else reader


def named_parts(text: str) -> tuple[str, str, str | None]:
    """Split READER/SPLIT=ROOT into reader, split ("" if not given) and root (None if not given)."""
    left, _, root = text.partition("=")
    reader, _, split = left.partition("/")
    return reader, split, root or None


@lru_cache(maxsize=1)
def _left_out(datasets: tuple[str, ...]) -> frozenset[int]:
    parsed = [named_parts(text) for text in datasets]
    return fingerprints_of(open_reader(reader, root, split) for reader, split, root in parsed)
