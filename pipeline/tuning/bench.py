"""Where settings are played: one network, images opened once, answers remembered. Pure: no Ray."""

import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from models.predictor import Predictor
from models.refinement import Refinement, build
from pipeline.data.sample import Item, Reader, Sample
from pipeline.evaluation.config import EvaluationConfig
from pipeline.evaluation.contestant import Contestant
from pipeline.evaluation.evaluator import evaluate
from pipeline.evaluation.journal import PieceResult
from pipeline.evaluation.results import ObjectRow
from pipeline.evaluation.shared_answers import SharedAnswers

Piece = Sequence[tuple[Item, tuple[str, ...]]]


class FewImages:
    """A reader that keeps the last few images that it opened."""

    def __init__(self, reader: Reader, most: int = 64) -> None:
        self._reader, self._most = reader, most
        self._opened: OrderedDict[str, Sample] = OrderedDict()

    def items(self) -> Sequence[Item]:
        """List what the reader lists."""
        return self._reader.items()

    def load(self, item: Item) -> Sample:
        """Open an item, or give what opening it gave before; raises BadItem as the reader does."""
        if item.id not in self._opened:
            self._opened[item.id] = self._reader.load(item)
            while len(self._opened) > self._most:
                self._opened.popitem(last=False)
        self._opened.move_to_end(item.id)
        return self._opened[item.id]


@dataclass(kw_only=True)
class Bench:
    """Plays settings on pieces of work, objects under `config`; what settings ask alike is answered once.

    `memory` bytes of answers are kept; 0: none are, so that each setting pays for itself.
    """

    predictor: Predictor
    reader: Reader
    config: EvaluationConfig
    dataset: str = "sweep"
    max_batch: int = 1
    memory: int = 2**30
    shared: SharedAnswers = field(init=False)

    def __post_init__(self) -> None:
        self.reader = FewImages(self.reader)
        self.shared = SharedAnswers(self.predictor.answer, self.memory, every=True)

    def play(self, name: str, refinement: Refinement, piece: Piece) -> PieceResult:
        """Play a piece under one setting. Seconds are charged as if nothing had been remembered."""
        contestant = Contestant(
            name=name,
            step=build(refinement, self.predictor.network.traits),
            answer=self.shared,
            mask_threshold=refinement.mask_threshold,
            takes_exemplar=self.predictor.network.traits.exemplar,
            device=self.predictor.device,
            max_batch=self.max_batch,
        )
        started, saved = time.monotonic(), self.shared.saved_seconds
        asked, computed = self.shared.asked, self.shared.computed
        out = list(evaluate(contestant, self.reader, piece, self.config, self.dataset))
        return PieceResult(
            rows={name: [row for row in out if isinstance(row, ObjectRow)]},
            seconds={name: time.monotonic() - started + self.shared.saved_seconds - saved},
            refused=[text for text in out if isinstance(text, str)],
            forwards={name: (self.shared.asked - asked, self.shared.computed - computed)},
        )
