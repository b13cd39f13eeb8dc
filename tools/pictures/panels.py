"""Pictures side by side, with a title above each."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pipeline.drawing.overlays import POSITIVE, TARGET, draw_outline


def row(
    pictures: Sequence[tuple[str, np.ndarray]], path: Path, *, columns: int | None = None, width: float = 3.0
) -> None:
    """Write uint8 RGB pictures of one size as a grid; `width` is that of a panel, in inches."""
    from matplotlib.figure import Figure

    columns = columns or len(pictures)
    rows = -(-len(pictures) // columns)
    height, across = pictures[0][1].shape[:2]
    figure = Figure(figsize=(width * columns, rows * (width * height / across + 0.35)), dpi=110, layout="constrained")
    grid: Any = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, (title, picture) in zip(grid.flat, pictures, strict=False):
        axes.imshow(picture)
        axes.set_title(title, fontsize=10)
    write(figure, path)


def write(figure: Any, path: Path) -> None:
    """Write a figure as JPEG, on white so that it reads on light and dark pages."""
    figure.savefig(path, facecolor="white", pil_kwargs={"quality": 88, "optimize": True})


def outlined(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return the image with the outline of a mask bool (height, width)."""
    picture = image.copy()
    draw_outline(picture, mask.astype(np.uint8), TARGET, thickness=3)
    return picture


def dotted(image: np.ndarray, *clicks: tuple[int, int, bool]) -> np.ndarray:
    """Return the image with clicks (x, y, positive): green for positive, red for negative."""
    picture = image.copy()
    for x, y, positive in clicks:
        cv2.circle(picture, (x, y), 9, (255, 255, 255), -1, cv2.LINE_AA)
        cv2.circle(picture, (x, y), 7, POSITIVE if positive else (215, 40, 50), -1, cv2.LINE_AA)
    return picture
