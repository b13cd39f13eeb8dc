"""Plain-text tables for the terminal."""

from collections.abc import Sequence


def aligned(lines: Sequence[Sequence[str]], sides: str = "") -> str:
    """Lay out rows of cells in columns separated by two spaces.

    `sides` holds a character per column, "<" (left) or ">" (right); columns beyond its end are aligned right.
    """
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    columns = list(zip(sides.ljust(len(widths), ">"), widths, strict=True))
    return "\n".join(
        "  ".join(f"{cell:{side}{width}}" for cell, (side, width) in zip(line, columns, strict=True)).rstrip()
        for line in lines
    )
