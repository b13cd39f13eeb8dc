"""`python -m benchmarks.opening`: time that a click saves through work done when the session opened.

Sessions that look ahead alternate with sessions that run the whole network at each click, with the same weights and
clicks; their masks are checked to be equal. Times are milliseconds of CPU time, which other load changes little.
"""

import dataclasses
import functools
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import tyro

from benchmarks.networks import seeded
from models.inference import prepare
from models.interaction import Clicks
from models.networks import create
from models.predictor import Predictor, Session
from pipeline.data.readers import open_reader

SMALL = {"dim": 160, "depth": 8, "heads": 4, "neck_dims": (96, 192, 288, 384), "head_dim": 128}
"""The shape of simpleclick_vit_xtiny, for networks on a plain ViT."""
FORMS: dict[str, tuple[str, dict[str, Any], bool]] = {
    "emc_segformer_b0": ("emc_segformer_b0", {}, False),
    "emc_segformer_b3": ("emc_segformer_b3", {}, False),
    "icmformer, xtiny's shape": ("icmformer_vit_base", SMALL, False),
    "icmformerpp, xtiny's shape, exemplar": ("icmformerpp_vit_base", SMALL, True),
    "icmformer_vit_base": ("icmformer_vit_base", {}, False),
    "icmformerpp_vit_base, exemplar": ("icmformerpp_vit_base", {}, True),
    "icmformer_swin_base": ("icmformer_swin_base", {}, False),
    "simpleclick_vit_xtiny": ("simpleclick_vit_xtiny", {}, False),
}
"""By label: network, overrides of its config, and whether sessions have an exemplar. The last network has no part that
runs before a click; it only saves resizing the image."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Measure what opening a session saves at its clicks."""

    forms: tuple[str, ...] = tuple(FORMS)
    """Labels of the networks to measure."""
    repeats: int = 15
    """Sessions per figure, after one to warm up."""
    threads: int = 1
    """Threads of torch."""
    hw: tuple[int, int] = (480, 640)
    """Height and width of the image in pixels."""
    previews: bool = False
    """Measure instead what a preview saves at the first click, in the same place and ten pixels away."""


def milliseconds(run: Callable[[], Any]) -> float:
    """Return the CPU time of a call."""
    began = time.process_time()
    run()
    return 1e3 * (time.process_time() - began)


def predictors(label: str) -> tuple[Predictor, Predictor]:
    """Return two predictors of one network: one that runs it whole at each click, and one that looks ahead."""
    name, overrides, _ = FORMS[label]
    network = prepare(seeded(create(name, **overrides)))
    ahead, traits = Predictor(network), network.traits
    network.traits = dataclasses.replace(traits, starts=False)
    whole = Predictor(network)
    network.traits = traits
    return whole, ahead


def opened(predictor: Predictor, image: np.ndarray, exemplar: bool) -> Session:
    """Open a session, with a rectangle in a corner as exemplar if one is wanted."""
    if not exemplar:
        return predictor.open(image)
    mask = np.zeros(image.shape[:2], bool)
    mask[20:120, 30:150] = True
    return predictor.open(image, exemplar=(mask, Clicks.of([(70, 90, True)])))


def row(label: str, image: np.ndarray, repeats: int) -> str:
    """Measure one network and return its line of the table."""
    (h, w), (whole, ahead) = image.shape[:2], predictors(label)
    clicks = [(h // 2, w // 2, True), (h // 3, w // 4, False)]
    times: dict[str, list[float]] = {name: [] for name in ("open", "first", "first ahead", "next", "next ahead")}
    kept = 0
    for _ in range(repeats + 1):
        plain, session = (opened(each, image, FORMS[label][2]) for each in (whole, ahead))
        times["open"].append(milliseconds(session.look_ahead))
        kept = sum(session.memory.values())
        for name, click in zip(("first", "next"), clicks, strict=True):
            times[name].append(milliseconds(functools.partial(plain.click, *click)))
            times[f"{name} ahead"].append(milliseconds(functools.partial(session.click, *click)))
            assert np.array_equal(plain.mask_prob, session.mask_prob)  # pyright: ignore[reportArgumentType]
    median = {name: statistics.median(values[1:]) for name, values in times.items()}  # the first warms up
    cells = [label, f"{median['open']:.0f}", f"{kept / 2**20:.1f}"]
    for name in ("first", "next"):
        before, after = median[name], median[f"{name} ahead"]
        cells += [f"{before:.0f}", f"{after:.0f} (-{100 * (1 - after / before):.0f} %)"]
    return "| " + " | ".join(cells) + " |"


def preview_row(label: str, image: np.ndarray, repeats: int) -> str:
    """Measure first clicks after a preview; as in `walk` of serve, a preview in another place is undone."""
    (h, w), (_, ahead) = image.shape[:2], predictors(label)
    times: dict[str, list[float]] = {"none": [], "beside": [], "same": []}
    for _ in range(repeats + 1):
        for name, offset in (("none", None), ("beside", 10), ("same", 0)):
            session = opened(ahead, image, FORMS[label][2])
            session.look_ahead()
            place = (h // 2, w // 2, True)
            if offset is not None:
                session.click(place[0], place[1] + offset)

            def click(session: Session = session, place: tuple[int, int, bool] = place) -> None:
                if session.clicks.rows()[:1] != [place]:
                    session.undo()
                    session.click(*place)

            times[name].append(milliseconds(click))
    return f"| {label} | " + " | ".join(f"{statistics.median(each[1:]):.1f}" for each in times.values()) + " |"


def main(options: Options) -> None:
    """Measure and print."""
    torch.set_num_threads(options.threads)
    h, w = options.hw
    reader = open_reader("scenes", None, "test", {"num_images": "1", "height": str(h), "width": str(w)})
    image = np.ascontiguousarray(reader.load(reader.items()[0]).image)
    head = ["network", "ms at opening", "MiB kept", "first click, ms", "looked ahead", "next click, ms", "looked ahead"]
    if options.previews:
        head = ["network", "first click, ms", "after a preview 10 pixels away", "in the same place"]
    print("| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    for label in options.forms:
        print((preview_row if options.previews else row)(label, image, options.repeats), flush=True)


if __name__ == "__main__":
    main(tyro.cli(Options))
