"""The engine: a predictor and the lock around its network. It knows neither HTTP nor Ray.

On a CPU, one forward at a time is as fast as several and keeps every user's wait predictable. Call the engine from
worker threads, never from the event loop.
"""

import contextlib
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import numpy as np

from models import rle
from models.errors import InputError
from models.interaction import Click, Clicks
from models.predictor import Predictor, Session
from serve.core.problems import Problem
from serve.core.values import Basis
from serve.engine.locks import KeyedLocks, Progress
from serve.engine.memory import is_out_of_memory, memory_as_problem
from serve.engine.waiting import Abandoned, check
from serve.observing import metrics

logger = logging.getLogger("maskwright.serve")
FAILURES_UNTIL_UNWELL = 3
NUM_OPENING = 2  # images decoded at the same time: one of 32 megapixels takes half a GB
STALLED_AFTER_S = 30.0
"""After so long without a finished click while some are running, the engine is not ready."""
DEAD_AFTER_S = 90.0
"""After so long, every caller has given up and the engine is unhealthy."""
WARM_UP_HW = (256, 256)
MAX_VARIANTS = 64  # cached combinations of refinement and threshold; making another one is cheap


class ModelNan(RuntimeError):
    """The network produced values that are not numbers."""


class Engine:
    """Run sessions of one predictor, one forward at a time."""

    def __init__(
        self,
        predictor: Predictor,
        refinement: str = "standard",
        *,
        alone: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take a predictor.

        `refinement`: name of the predictor's refinement, for `info`. `alone`: run one click at a time; otherwise clicks
        run concurrently and the predictor's `answer` batches them. `clock` (s) decides whether a click has stalled.
        """
        self.refinement = refinement
        self._predictor = predictor
        self._network: AbstractContextManager[object] = (
            metrics.Waited(threading.Lock(), "network") if alone else contextlib.nullcontext()
        )
        self._variants: OrderedDict[tuple[str | None, float | None], Predictor] = OrderedDict()
        self._guard = threading.Lock()
        self._failures = 0
        self._warm = False
        self._progress = Progress(clock)
        self._ahead = KeyedLocks("preparation")
        self.opening = metrics.Waited(threading.BoundedSemaphore(NUM_OPENING), "image")
        """Hold this while decoding and opening an image. The only lock that may be held before it is a record's."""

    @property
    def model_version(self) -> str:
        """Identifies the weights; part of every answer."""
        return self._predictor.model_version

    @property
    def network(self) -> str:
        """Name of the network."""
        return self._predictor.network_name

    @property
    def takes_exemplar(self) -> bool:
        """Whether sessions may start with an exemplar."""
        return self._predictor.takes_exemplar

    @property
    def mask_threshold(self) -> float:
        """Probability above which a pixel belongs to the mask."""
        return self._predictor.mask_threshold

    @property
    def refinements(self) -> tuple[str, ...]:
        """Names of the refinements that a session may choose."""
        return self._predictor.refinements

    @property
    def healthy(self) -> bool:
        """False after several failures in a row, or if clicks do not finish; a new process is needed then."""
        return self._failures < FAILURES_UNTIL_UNWELL and self._progress.idle_s() < DEAD_AFTER_S

    @property
    def ready(self) -> bool:
        """True after the first click, as long as the engine is healthy and no click stalls."""
        return self._warm and self.healthy and self._progress.idle_s() < STALLED_AFTER_S

    def warm_up(self) -> None:
        """Make one click on a grey image, because the first click is slow; raises ModelNan."""
        height, width = WARM_UP_HW
        session = self.open(np.full((height, width, 3), 128, np.uint8), Basis())
        self.walk(session, (Click(y=height // 2, x=width // 2, positive=True),))

    def open(self, image: np.ndarray, basis: Basis) -> Session:
        """Open a session on a uint8 (h, w, 3) RGB image, and do the click-independent work of its first click.

        Raises bad_refinement, no_exemplar, bad_mask.
        """
        predictor, mask, exemplar = self._start(basis)
        with self._network, _as_problem():
            session = predictor.open(image, mask, exemplar)
        self._look_ahead(session)
        return session

    def rebase(self, session: Session, before: Basis, basis: Basis) -> Session:
        """Return the session with another basis on the same image; its clicks may have to be made again."""
        predictor, mask, exemplar = self._start(basis)
        with self._network, _as_problem():
            if (before.initial_mask, before.exemplar) == (basis.initial_mask, basis.exemplar):
                return session.refined(predictor)
            session = predictor.reopen(session, mask, exemplar)
        self._look_ahead(session)
        return session

    def _look_ahead(self, session: Session) -> None:
        try:
            with self._ahead.alone(session.content), self._network:  # other sessions on this image reuse the result
                session.look_ahead()
        except Exception:
            # The first click does this work itself, and raises if the failure persists.
            logger.exception("the click-independent work failed; the first click will repeat it")

    def _start(self, basis: Basis) -> tuple[Predictor, np.ndarray | None, tuple[np.ndarray, Clicks] | None]:
        exemplar = basis.exemplar
        if exemplar is not None and not self.takes_exemplar:
            raise Problem("no_exemplar", f"the network {self.network} takes no exemplar", "/exemplar")
        return (
            self._variant(basis),
            None if basis.initial_mask is None else rle.decode(basis.initial_mask),
            None if exemplar is None else (rle.decode(exemplar.mask), Clicks.of(exemplar.clicks)),
        )

    def _variant(self, basis: Basis) -> Predictor:
        key = (basis.refinement, basis.mask_threshold)
        if key == (None, None):
            return self._predictor
        with self._guard:
            found = self._variants.get(key)
            if found is None:
                try:
                    found = self._variants[key] = self._predictor.refined(*key)
                except InputError as error:
                    raise Problem("bad_refinement", str(error), "/refinement") from None
            self._variants.move_to_end(key)
            while len(self._variants) > MAX_VARIANTS:
                self._variants.popitem(last=False)
        return found

    def passes(self, session: Session) -> list[tuple[str, np.ndarray]]:
        """Return (name, mask bool) of each pass of the refinement that led to the newest click's mask."""
        with self._network, memory_as_problem():
            return session.passes()

    def walk(self, session: Session, clicks: tuple[Click, ...]) -> Session:
        """Bring a session to exactly these clicks: undo down to the common ones, then make the others.

        Raises ModelNan and gpu_oom, after which the session cannot be used, and Abandoned, after which it has some of
        the clicks. Other sessions get their turn between two clicks.
        """
        target = Clicks.of(clicks).rows()
        made = session.clicks.rows()
        shared = next((i for i, (a, b) in enumerate(zip(made, target, strict=False)) if a != b), None)
        keep = min(len(made), len(target)) if shared is None else shared
        for _ in range(len(made) - keep):
            session.drop()
        for y, x, positive in target[keep:]:
            with self._network:
                check()  # the client may have left while others had their turn
                self._click(session, y, x, positive)
        return session

    def _click(self, session: Session, y: float, x: float, positive: bool) -> None:
        with self._progress.step(), memory_as_problem():
            try:
                session.add(y, x, positive)
                if not session.finite:
                    metrics.put(metrics.MODEL_NAN, 1, self.model_version)
                    raise ModelNan(f"mask_prob contains NaN or infinity after a click at (y={y}, x={x})")
            except (InputError, Abandoned):
                raise
            except Exception as error:
                self._failures += not is_out_of_memory(error)  # too little memory is not the network's fault
                raise
        self._failures, self._warm = 0, True


@contextlib.contextmanager
def _as_problem() -> Iterator[None]:
    """Raise bad_mask for an InputError, which at this point can only concern a mask or an exemplar, or gpu_oom."""
    try:
        with memory_as_problem():
            yield
    except InputError as error:
        raise Problem("bad_mask", str(error)) from None
