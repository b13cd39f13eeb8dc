"""The rule that says which values of a mask file are an object, and warnings if the values are not labels."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from models.decoding import Decoding
from models.errors import InputError
from pipeline.data.mask_files import MaskFile, read_mask_file
from pipeline.data.soft_masks import soft_threshold

_logger = logging.getLogger(__name__)

_RULE_HELP = "expected nonzero, above:N, above:N,ignore:M, ids or ids,ignore:M"
_SAVE_AGAIN = "save the same numbers so that 0 is black (PhotometricInterpretation 1), or as PNG"
NUM_LOOKED = 32
"""Masks of a data set that are opened to check their values if listing opens none otherwise."""
_NOTES = {
    "alpha": "have the same colour everywhere, so their alpha channel is read as the mask",
    "grays": "have a palette of grays that do not rise with their numbers: the grays are read, not the numbers",
    "soft": "are soft (lossy compression or smoothed edges): values above their middle are the object; the rule "
    "above:N sets another threshold",
}


@dataclass(frozen=True, kw_only=True)
class MaskRule:
    """Which values are an object: `kind` nonzero, above or ids; `threshold` for above; `ignore` a value or -1."""

    kind: str
    threshold: int = 0
    ignore: int = -1

    @classmethod
    def parse(cls, text: str) -> "MaskRule":
        """Parse `nonzero`, `above:N[,ignore:M]` or `ids[,ignore:M]`; raises InputError for other texts."""
        head, *rest = [part.strip() for part in text.split(",")]
        kind, _, threshold = head.partition(":")
        try:
            if kind not in ("nonzero", "above", "ids") or (kind == "above") != bool(threshold) or len(rest) > 1:
                raise ValueError(text)
            ignore = -1
            if rest:
                word, _, value = rest[0].partition(":")
                if word != "ignore" or kind == "nonzero":
                    raise ValueError(text)
                ignore = int(value)
            return cls(kind=kind, threshold=int(threshold or 0), ignore=ignore)
        except ValueError as error:
            raise InputError(f"mask rule {text!r} is not understood: {_RULE_HELP}") from error

    def read(self, path: Path, decoding: Decoding, notes: Counter[str] | None = None) -> np.ndarray:
        """Read a mask file as integers (h, w); raises ValueError if it cannot be read, or for `ids` holds no labels.

        For `ids`, a colour counts as red + 256 green + 65536 blue, and a gray as its value. For `nonzero`, a soft mask
        becomes 0 and 1; `above` keeps its threshold. `notes` counts the properties of files to warn about.
        """
        file = read_mask_file(path, palette_index=self.kind != "above", decoding=decoding)
        notes = Counter() if notes is None else notes
        notes["alpha"] += file.in_alpha
        notes["grays"] += file.of_grays
        if file.lacks_black:
            raise ValueError(f"in this TIFF 0 is white and no pixel is black: the background is unknown; {_SAVE_AGAIN}")
        numbers = self._numbers(file.values)
        if self.kind == "above" or file.is_palette:
            return numbers
        if self.kind == "ids" and file.is_negative and len(np.unique(numbers)) > 2:
            raise ValueError(f"in this TIFF 0 is white, so its numbers are ambiguous; {_SAVE_AGAIN}")
        labels = np.where(numbers == self.ignore, numbers.min(initial=0), numbers) if self.ignore >= 0 else numbers
        threshold = soft_threshold(labels, lossy=file.is_lossy)
        if threshold is None and self.kind == "ids" and file.is_ambiguous:
            raise ValueError(
                "its palette of grays does not rise with its numbers, which show other objects than the grays: save "
                "the numbers as gray values or with a rising palette, or read the grays by nonzero or above:N"
            )
        if threshold is None:
            return numbers
        if self.kind == "ids":
            raise ValueError(_no_labels(file, labels))
        notes["soft"] += 1
        return (numbers > threshold).astype(np.int64)

    def _numbers(self, values: np.ndarray) -> np.ndarray:
        if values.ndim == 2:
            return values.astype(np.int64)
        if self.kind == "above":
            return values[..., 0].astype(np.int64)
        if self.kind == "nonzero":
            return values.max(axis=2).astype(np.int64)
        if (values == values[..., :1]).all():
            return values[..., 0].astype(np.int64)
        base = 1 << 8 * values.itemsize
        return values.astype(np.int64) @ np.array([1, base, base**2])

    def values(self, labels: np.ndarray) -> list[int]:
        """Return the object numbers in a mask: its values for `ids`, otherwise the single number 1."""
        if self.kind != "ids":
            return [1]
        return [int(value) for value in np.unique(labels) if value > 0 and value != self.ignore]

    def object_mask(self, labels: np.ndarray, value: int) -> np.ndarray:
        """Return the mask of object number `value`, bool (h, w)."""
        return labels == value if self.kind == "ids" else (labels > self.threshold) & (labels != self.ignore)


def _no_labels(file: MaskFile, labels: np.ndarray) -> str:
    why = "its compression is lossy" if file.is_lossy else "its edges are smoothed"
    return (
        f"its {len(np.unique(labels))} values are not object numbers: {why}; save masks for the rule ids as PNG "
        "without smoothing, or read them as one object by nonzero or above:N"
    )


def look_at_masks(where: Path, paths: Sequence[Path], rule: MaskRule, decoding: Decoding) -> None:
    """Open some of a data set's mask files, and warn once if their values are not labels."""
    step = max(1, len(paths) // NUM_LOOKED)
    _look(where, tuple(paths[::step][:NUM_LOOKED]), len(paths), rule, decoding)


@lru_cache(maxsize=64)  # a job lists its data set several times
def _look(where: Path, paths: tuple[Path, ...], num_all: int, rule: MaskRule, decoding: Decoding) -> None:
    notes = Counter[str]()
    for path in paths:
        try:
            rule.read(path, decoding, notes)
        except ValueError:
            continue  # it is refused by name when it is loaded
    say(
        where,
        notes,
        f"{num_all} masks" if len(paths) == num_all else f"{len(paths)} checked masks ({num_all} in all)",
    )


def say(where: Path, notes: Counter[str], of_what: str) -> None:
    """Warn once about the properties of masks in `notes`."""
    for name, count in sorted(notes.items()):
        if count:
            _warn_once(f"{where}: {count} of {of_what} {_NOTES[name]}")


@lru_cache(maxsize=1024)
def _warn_once(text: str) -> None:
    _logger.warning("%s", text)
