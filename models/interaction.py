"""Clicks in image coordinates, and checks of a session's input. Needs only NumPy, so data workers never load torch."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from models.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class Click:
    """One click: `y` down, `x` right, in pixels; an integer is the centre of that pixel."""

    y: float
    x: float
    positive: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class Clicks:
    """The clicks on one object, in the order in which they were made; adding one returns a new record.

    `yx` is float64 (n, 2), rows (y, x), in the frame of the image or view beside which it is passed; in a view,
    coordinates may be fractional or lie outside. `positive` is bool (n,).
    """

    yx: np.ndarray
    positive: np.ndarray

    @classmethod
    def none(cls) -> "Clicks":
        """Return an empty list of clicks."""
        return cls(np.zeros((0, 2)), np.zeros(0, bool))

    @classmethod
    def of(cls, clicks: Iterable[Click | Sequence[float]]) -> "Clicks":
        """Collect Click records or rows (y, x, positive)."""
        rows = [(c.y, c.x, c.positive) if isinstance(c, Click) else tuple(c) for c in clicks]
        return cls(
            np.array([row[:2] for row in rows], np.float64).reshape(-1, 2),
            np.array([bool(row[2]) for row in rows], bool),
        )

    def __len__(self) -> int:
        return len(self.yx)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Clicks)
            and np.array_equal(self.yx, other.yx)
            and np.array_equal(self.positive, other.positive)
        )

    def add(self, click: Click) -> "Clicks":
        """Return these clicks and one more."""
        return Clicks(np.concatenate([self.yx, [[click.y, click.x]]]), np.append(self.positive, click.positive))

    def first(self, num: int | None) -> "Clicks":
        """Keep the first `num` clicks (None: all)."""
        return self if num is None else Clicks(self.yx[:num], self.positive[:num])

    def rows(self) -> list[tuple[float, float, bool]]:
        """Return a list of (y, x, positive), for JSON and Parquet."""
        return [(float(y), float(x), bool(p)) for (y, x), p in zip(self.yx, self.positive, strict=True)]


def check_click(y: float, x: float, hw: tuple[int, int]) -> None:
    """Raise InputError unless (y, x) lies on the image of `hw` = (height, width)."""
    height, width = hw
    finite = all(isinstance(v, int | float | np.number) and not isinstance(v, bool) and np.isfinite(v) for v in (y, x))
    if not finite or not (0 <= y <= height - 1 and 0 <= x <= width - 1):
        raise InputError(
            f"click (y={y!r}, x={x!r}) is outside the image: expected 0 <= y <= {height - 1} and 0 <= x <= {width - 1}"
        )


def check_image(image: np.ndarray) -> None:
    """Raise InputError unless `image` is RGB uint8 (height, width, 3) with at least one pixel."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        given = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise InputError(f"the image is {given}: expected a uint8 array (height, width, 3) in RGB order")
    if 0 in image.shape:
        raise InputError(f"the image is empty: shape {image.shape}, expected at least one pixel")


def check_mask(mask: np.ndarray, hw: tuple[int, int]) -> None:
    """Raise InputError unless `mask` is a bool array of the image's height and width."""
    if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_ or mask.shape != tuple(hw):
        given = f"{mask.dtype} {mask.shape}" if isinstance(mask, np.ndarray) else type(mask).__name__
        raise InputError(f"the mask is {given}: expected a bool array {tuple(hw)}, the image's height and width")


def in_known_order(known: Sequence[Click], positive: Sequence[Click], negative: Sequence[Click]) -> tuple[Click, ...]:
    """Put clicks into the order of an earlier call, `known`, with new clicks at the end.

    Clicks of `known` that are missing now were undone. Among new clicks, positive ones come first.
    """
    rest = {True: list(positive), False: list(negative)}
    order: list[Click] = []
    for click in known:
        if click not in rest[click.positive]:
            continue  # undone since
        if rest[click.positive][0] != click:
            break  # not the clicks of the earlier call
        order.append(rest[click.positive].pop(0))
    return (*order, *rest[True], *rest[False])
