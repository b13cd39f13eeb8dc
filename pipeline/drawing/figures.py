"""Matplotlib figures in a common style, as data URIs."""

import base64
import io
from typing import Any

from pipeline.drawing import fonts

COLOURS = ("#1f6fd6", "#d1495b", "#2a9d5c", "#8d5fd3", "#e08a1e", "#4a5568")


def new_figure(width: float = 5.6, height: float = 3.7, num_rows: int = 1) -> tuple[Any, list[Any]]:
    """Make a figure with `num_rows` axes below each other that share the x axis; sizes are in inches."""
    from matplotlib.figure import Figure  # not pyplot: no global state, no display

    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    axes = list(figure.subplots(num_rows, 1, sharex=True, squeeze=False)[:, 0])
    for each in axes:
        each.spines[["top", "right"]].set_visible(False)
        each.grid(axis="y", color="#e3e6ea")
        each.set_axisbelow(True)
    return figure, axes


def legend(axes: Any, **options: Any) -> None:
    """Add a legend; names are shown literally, not as formulas."""
    for text in axes.legend(frameon=False, fontsize=9, **options).get_texts():
        text.set_parse_math(False)


def png(figure: Any) -> str:
    """Render a figure as a data URI, each text in fonts that have its letters."""
    from matplotlib.text import Text

    for axes in figure.axes:  # matplotlib sets the ticks' texts when they are read
        for labels in (axes.get_xticklabels, axes.get_yticklabels):
            labels()
    for text in figure.findobj(Text):
        text.set_fontfamily(list(fonts.drawn(text.get_text())[1]))
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
