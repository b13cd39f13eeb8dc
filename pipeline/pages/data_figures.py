"""Figures about a data set: sizes of objects and images, objects per image, and counts by category."""

import unicodedata

import numpy as np

from pipeline.data.bank import AREA_EDGES, Bank
from pipeline.drawing.figures import COLOURS, new_figure, png
from pipeline.drawing.fonts import drawn

MAX_PER_IMAGE = 40
MAX_DISCS = 400
NO_CATEGORY = "(none)"


def areas_figure(bank: Bank) -> str:
    """Draw the number of objects by the fraction of the image that they cover, on a logarithmic axis."""
    figure, (axes,) = new_figure()
    used = np.flatnonzero(bank.areas)
    first = int(used[0]) if len(used) else 0
    axes.bar(
        AREA_EDGES[first:-1],
        bank.areas[first:],
        width=np.diff(AREA_EDGES)[first:],
        align="edge",
        color=COLOURS[0],
        edgecolor="white",
        linewidth=0.8,
    )
    axes.set_xscale("log")
    ticks = [tick for tick in 10.0 ** np.arange(-6, 1) if tick >= AREA_EDGES[first] * 0.99]
    axes.set_xticks(ticks, [f"{100 * tick:g} %" for tick in ticks])
    axes.minorticks_off()
    axes.set(xlabel="fraction of the image that an object covers", ylabel="objects", xlim=(AREA_EDGES[first], 1))
    return png(figure)


def per_image_figure(bank: Bank) -> str:
    """Draw the number of images by their number of objects; more than 40 objects share the last bar."""
    figure, (axes,) = new_figure()
    most = max(bank.objects_per_image, default=1)
    shown = min(most, MAX_PER_IMAGE)
    numbers = np.arange(min(bank.objects_per_image, default=0), shown + 1)
    axes.bar(numbers, [bank.objects_per_image[int(number)] for number in numbers], width=0.85, color=COLOURS[2])
    if most > shown:
        more = sum(count for number, count in bank.objects_per_image.items() if number > shown)
        axes.bar([shown + 2], [more], width=0.85, color="#b8bfc8")
        ticks = list(range(10, shown + 1, 10))
        axes.set_xticks([1, *ticks, shown + 2], [*map(str, [1, *ticks]), f"\n> {shown}"])
    else:
        axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set(xlabel="objects per image", ylabel="images")
    return png(figure)


def sizes_figure(bank: Bank) -> str:
    """Draw images by width and height in pixels; a disc's area is the number of images."""
    figure, (axes,) = new_figure()
    common = bank.sizes.most_common(MAX_DISCS)
    counts = np.array([count for _, count in common], float)
    axes.scatter(
        [width for (_, width), _ in common],
        [height for (height, _), _ in common],
        s=np.clip(500 * counts / counts.max(), 6, None),
        color=COLOURS[3],
        alpha=0.5,
        linewidths=0,
    )
    most = max(max(hw) for hw, _ in common)
    axes.set(xlabel="width (pixels)", ylabel="height (pixels)", xlim=(0, 1.1 * most), ylim=(0, 1.1 * most))
    axes.set_aspect("equal")
    axes.grid(axis="x", color="#e3e6ea")
    return png(figure)


def counts_figure(counts: list[tuple[str, int]], unit: str, colour: str = COLOURS[0]) -> str:
    """Draw a bar with its number for each name, the first on top."""
    figure, (axes,) = new_figure(height=0.9 + 0.21 * len(counts))
    numbers = [count for _, count in counts]
    bars = axes.barh(range(len(counts)), numbers, height=0.75, color=colour)
    axes.bar_label(bars, [f" {count:,}" for count in numbers], fontsize=8, color="#4a5568")
    names = [drawn(_shortened(name or NO_CATEGORY))[0] for name, _ in counts]
    axes.set_yticks(range(len(counts)), names, fontsize=8.5)
    for label in axes.get_yticklabels():
        label.set_parse_math(False)
    axes.set(xlabel=unit, ylim=(len(counts) - 0.4, -0.6), xlim=(0, 1.12 * max(numbers)))
    axes.grid(visible=False)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    return png(figure)


def _shortened(name: str, most: int = 32) -> str:
    """Shorten a name to the width of `most` letters; East Asian letters are twice as wide."""
    widths = np.cumsum([2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in name])
    return name if not name or widths[-1] <= most else name[: int(np.searchsorted(widths, most - 2))] + "..."
