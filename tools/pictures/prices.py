"""EMC-Click's two prices: milliseconds of a first click and of a correction, from benchmarks/RESULTS.md."""

import re
from pathlib import Path

from pipeline.drawing.figures import COLOURS, legend, new_figure
from tools.pictures.panels import write
from tools.pictures.photos import Photos

RESULTS = Path(__file__).parents[2] / "benchmarks/RESULTS.md"


def draw(photos: Photos, path: Path) -> None:
    """Draw two bars a network."""
    table = re.search(
        r"\| network \| first click, ms \| correction, ms \|.*\n\|[-|]+\n((?:\|.*\n)+)", RESULTS.read_text()
    )
    assert table is not None, "benchmarks/RESULTS.md has no table of first clicks and corrections"
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.group(1).splitlines()]
    figure, (axes,) = new_figure(6.4, 2.9)
    places = range(len(rows))
    for offset, column, name, colour in (
        (-0.2, 1, "first click: whole network", COLOURS[1]),
        (0.2, 2, "correction: light network", COLOURS[0]),
    ):
        values = [float(each[column]) for each in rows]
        bars = axes.barh([place + offset for place in places], values, height=0.36, color=colour, label=name)
        axes.bar_label(bars, fmt="%.0f ms", padding=3, fontsize=9)
    axes.set_yticks(places, [each[0] for each in rows])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.15 * max(float(each[1]) for each in rows))
    axes.set_xlabel("milliseconds over HTTP, on a CPU")
    axes.grid(visible=False)
    legend(axes, loc="upper right")
    write(figure, path)
