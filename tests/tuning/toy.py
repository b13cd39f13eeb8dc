"""A sweep with a known result: images show the network's probabilities; objects are above a hidden threshold."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch

from models.networks.base import Traits
from models.refinement import Refinement
from models.steps import Segment
from pipeline.data.sample import Item, Sample, pack_objects
from pipeline.evaluation.config import EvaluationConfig
from pipeline.tuning.bench import Bench
from pipeline.tuning.contest import RUNNING, Contest
from pipeline.tuning.objective import objective as objective_of
from pipeline.tuning.race import RaceConfig
from pipeline.tuning.search import Search
from pipeline.tuning.settings import identity, refinement_of

HIDDEN = 0.6
CONFIG = EvaluationConfig(max_clicks=6, target_iou=0.9, qualities=(0.9,), boundaries=False)
BASE = Refinement(mask_threshold=0.3)


@dataclass(frozen=True, kw_only=True)
class SmoothReader:
    """Images of smooth noise; pixels brighter than HIDDEN are the object."""

    num_items: int = 40

    def items(self) -> Sequence[Item]:
        return [Item(id=f"smooth{k:03d}", object_ids=("bright",), payload={"seed": k}) for k in range(self.num_items)]

    def load(self, item: Item) -> Sample:
        small = np.random.default_rng(item.payload["seed"]).random((4, 5)).astype(np.float32)
        bright = np.clip(cv2.resize(small, (40, 32), interpolation=cv2.INTER_CUBIC), 0, 1)
        image = np.repeat((255 * bright).round().astype(np.uint8)[..., None], 3, 2)
        return pack_objects(item.id, image, [("bright", "", image[..., 0] / 255 > HIDDEN)])


class ToyPredictor:
    """Answers with the image's brightness as probability, pulled towards the clicks: more clicks give better masks."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        self.network: Any = type("Toy", (), {"traits": Traits(size=None, zoom_size=40)})()
        self.computed = 0

    def answer(self, requests: list[Any]) -> list[Any]:
        self.computed += len(requests)
        return [self._one(request) for request in requests]

    @staticmethod
    def _one(request: Any) -> torch.Tensor:
        assert isinstance(request, Segment)
        prob = request.image[:1].clamp(0.01, 0.99)
        height, width = prob.shape[1:]
        rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        logits = torch.logit(prob)
        for (y, x), positive in zip(request.clicks.yx, request.clicks.positive, strict=True):
            near = torch.exp(-((rows - float(y)) ** 2 + (columns - float(x)) ** 2) / 18)
            logits = logits + (1.5 if positive else -1.5) * near
        return logits


def bench(memory: int = 2**28) -> Bench:
    predictor: Any = ToyPredictor()
    return Bench(predictor=predictor, reader=SmoothReader(), config=CONFIG, memory=memory)


def contest_of(race: RaceConfig, num: int = 40, *, pareto: bool = False, objective: str = "noc90") -> Contest:
    return Contest(
        objective=objective_of(objective), race=race, max_clicks=CONFIG.max_clicks, ends=race.sizes(num),
        default=identity(BASE, {}), pareto=pareto,
    )  # fmt: skip


def run(contest: Contest, search: Search, played: Bench, *, generation: int = 8, broken: str = "") -> Contest:
    """Run a sweep as the Ray driver does, one setting after another."""
    pieces = [(item, item.object_ids) for item in played.reader.items()][: contest.ends[-1]]
    started = False
    known: dict[str, Mapping[str, Any]] = {}
    while True:
        asked = search.ask(generation)
        if not asked and started:
            return contest
        fresh = {identity(BASE, values): values for values in ([] if started else [{}]) + asked}
        known |= fresh
        started = True
        contest.open({name: dict(values) for name, values in fresh.items()})
        for rung, end in enumerate(contest.ends):
            for name in contest.generation:
                entry = contest.entries[name]
                if entry.status != RUNNING:
                    continue
                for piece in range(end):
                    if piece not in entry.results:
                        if name == broken and piece == 1:
                            contest.leave(name, "broken")
                            break
                        contest.record(
                            name, piece, played.play(name, refinement_of(BASE, entry.values), [pieces[piece]])
                        )
            for name in contest.generation:
                contest.verdict(name, rung)
        for values in asked:
            entry = contest.entries[identity(BASE, values)]
            losses = [min(loss, 1e9) for loss in contest.estimate(entry)]
            search.tell(values, losses)
