"""Play settings with one network, images that are opened once, and a cache of answers. Does not import Ray."""

import time
from collections import OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from models.predictor import Predictor
from models.refinement import Refinement, build
from pipeline.data.sample import Item, Reader, Sample
from pipeline.evaluation.config import EvaluationConfig
from pipeline.evaluation.evaluator import evaluate, known_photos
from pipeline.evaluation.journal import PieceResult
from pipeline.evaluation.method import Method
from pipeline.evaluation.object_row import ObjectRow
from pipeline.evaluation.shared_answers import SharedAnswers

Piece = Sequence[tuple[Item, tuple[str, ...]]]


class FewImages:
    """A reader that keeps the last few images that it opened."""

    def __init__(self, reader: Reader, most: int = 64) -> None:
        self._reader, self._most = reader, most
        self.opened: OrderedDict[str, Sample] = OrderedDict()

    def items(self) -> Sequence[Item]:
        """List the wrapped reader's items."""
        return self._reader.items()

    def load(self, item: Item) -> Sample:
        """Return an item's sample, opened now or before; raises BadItem as the reader does."""
        if item.id not in self.opened:
            self.opened[item.id] = self._reader.load(item)
            while len(self.opened) > self._most:
                self.opened.popitem(last=False)
        self.opened.move_to_end(item.id)
        return self.opened[item.id]


@dataclass(kw_only=True)
class Bench:
    """Plays settings on pieces of work, under the protocol `config`; equal requests of settings are computed once.

    `memory`: bytes of answers in the cache; 0: no cache, so each setting runs independently.
    """

    predictor: Predictor
    reader: Reader
    config: EvaluationConfig
    dataset: str = "sweep"
    max_batch: int = 1
    memory: int = 2**30
    trained_on: Collection[int] = ()
    """Fingerprints of the photos that the predictor was trained on."""
    images: FewImages = field(init=False)
    shared: SharedAnswers = field(init=False)

    def __post_init__(self) -> None:
        self.images = FewImages(self.reader)
        self.shared = SharedAnswers(self.predictor.answer, self.memory, every=True)

    def play(self, name: str, refinement: Refinement, piece: Piece) -> PieceResult:
        """Play a piece under one setting; seconds are charged as if nothing had been cached."""
        method = Method(
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
        out = list(evaluate(method, self.images, piece, self.config, self.dataset))
        opened = {item.id: self.images.opened[item.id] for item, _ in piece if item.id in self.images.opened}
        return PieceResult(
            rows={name: [row for row in out if isinstance(row, ObjectRow)]},
            seconds={name: time.monotonic() - started + self.shared.saved_seconds - saved},
            refused=[text for text in out if isinstance(text, str)],
            forwards={name: (self.shared.asked - asked, self.shared.computed - computed)},
            trained_on=known_photos(opened, self.trained_on),
        )
