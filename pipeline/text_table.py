"""Tables on the terminal."""

from collections.abc import Sequence


def aligned(lines: Sequence[Sequence[str]], sides: str = "") -> str:
    """Lay out cells in columns two spaces apart; `sides` has "<" or ">" for each, and what it lacks is ">" (right)."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    columns = list(zip(sides.ljust(len(widths), ">"), widths, strict=True))
    return "\n".join(
        "  ".join(f"{cell:{side}{width}}" for cell, (side, width) in zip(line, columns, strict=True)).rstrip()
        for line in lines
    )
