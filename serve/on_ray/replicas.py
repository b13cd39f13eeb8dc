"""The deployments: FirstClick (the heavy half, or all of a network without halves) and Correction (the light half).

Sessions live where corrections are made: in Correction's replicas if the network has two halves, else in FirstClick's.
Calls carry the session's id as routing key, so that a session comes back to the replica that remembers it; one that
does not (after a kill, or with other replicas than before) asks for the image and makes everything again. Of a session
only encodings cross from one deployment to the other.
"""

import asyncio
import logging
import os
from concurrent.futures import CancelledError as FutureCancelled
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, TypeVar

import ray.serve as ray_serve
from grpc import RpcError
from ray.exceptions import RayError
from ray.serve import Application
from ray.serve.exceptions import RayServeException

from models.errors import InputError
from serve.core.options import Options
from serve.core.problems import Problem
from serve.engine.asking import KINDS, MASK, OPEN, FileNeeded, Kind, ModelInfo, Work
from serve.engine.batching import Batched
from serve.engine.engine import ModelNan
from serve.engine.local_model import LocalModel
from serve.engine.waiting import in_thread
from serve.http.observe import work as worked
from serve.observing import metrics
from serve.observing.record import named_by, request_id, session_name
from serve.on_ray.calls import answered
from serve.on_ray.compat import affinity, by_value
from serve.on_ray.environment import MEMORY
from serve.on_ray.halves import Encoded, encoder, halves
from serve.on_ray.observing import observe_replica
from serve.on_ray.refusals import refusing
from serve.on_ray.shares import Share
from serve.on_ray.tickets import Kept, Ticket, by_ticket, regardless
from serve.on_ray.travel import pack, unpack

T = TypeVar("T")
logger = logging.getLogger("maskwright.serve")
OPTIONS: dict[str, Any] = {
    "max_ongoing_requests": 100,
    "max_queued_requests": 200,
    "health_check_period_s": 10,
    "health_check_timeout_s": 30,
    **affinity(),
}


class _Owner:
    """A replica that owns sessions. Ray runs its plain methods in threads; what may be cancelled takes its own."""

    model: LocalModel
    batched: Batched

    def stats(self) -> dict[str, int]:
        """What the network did since this process began."""
        return {"forwards": self.batched.num_forwards, "requests": self.batched.num_requests}

    def info(self) -> ModelInfo:
        """Which model answers."""
        return self.model.info()

    async def ask(self, kind: str, work: Work, data: bytes | None, request: str | None) -> Any:
        """What a session has after its clicks, for the request of this id.

        None where its image file is needed: files do not travel each time.
        """
        work = work if data is None else replace(work, load=lambda: data)
        with worked(counted_as(kind, work), named_by(request), work.session_id):
            try:
                return await in_thread(lambda: self.model.ask(KINDS[kind], work))
            except FileNeeded:
                return None

    def forget(self, session_id: str) -> None:
        """Drop what is cached of a session."""
        self.model.forget(session_id)

    def check_health(self) -> None:
        """Ask for a new replica after several failures of the network in a row."""
        if not self.model.engine.healthy:
            raise RuntimeError("the network failed several times in a row")


def counted_as(kind: str, work: Work) -> str:
    """What a call is counted as."""
    return kind if work.session_id is not None else "once"


@ray_serve.deployment(**OPTIONS)
class FirstClick(_Owner):
    """The heavy half: encodes for corrections, in batches across sessions; whole networks live here altogether."""

    def __init__(self, options: Options) -> None:
        from serve.loading.build import build_engine

        observe_replica(options.log_format)
        with refusing():
            predictor = _predictor(options)
        self.batched = Batched(predictor.answer, max_batch_of(predictor))
        predictor.answer = self.batched
        self.kept = Kept(self.batched, options.max_cache_bytes // 4)
        # What such a network makes of an image is all that its light half needs, at every click: it travels, once.
        self._heavy = self._travelling if predictor.network.traits.prompted else self.kept
        self._version, self._device = predictor.model_version, predictor.device
        with refusing():
            engine = build_engine(options, predictor, alone=max_batch_of(predictor) == 1)
        self.model = LocalModel(engine, options)

    def stats(self) -> dict[str, int]:
        """Also: tickets of sessions elsewhere that still stood for something."""
        return super().stats() | {"tickets_found": self.kept.num_found, "tickets_missed": self.kept.num_missed}

    def encode(self, requests: list[Any], tickets: list[Ticket], model_version: str, request: str | None) -> Encoded:
        """Answer requests of the heavy half (or of both, for close-ups), packed by serve/on_ray/travel.py.

        `tickets` as in serve/on_ray/tickets.py; askers of another version are refused (serve/on_ray/halves.py).
        """

        def answer(packed: list[Any]) -> list[Any]:
            return pack(self._heavy(unpack(packed, self._device), tickets))

        with worked("encode", named_by(request)):
            return encoder(answer, self._version)(requests, model_version)

    def _travelling(self, requests: list[Any], tickets: list[Ticket]) -> list[Any]:
        return self.batched(requests)


@ray_serve.deployment(**OPTIONS)
class Correction(_Owner):
    """The light half, with the sessions; what is heavy is asked of FirstClick."""

    def __init__(self, options: Options, first_click: Any) -> None:
        from serve.loading.build import build_engine

        observe_replica(options.log_format)
        with refusing():
            predictor = _predictor(options)
        light = Batched(predictor.answer, max_batch_of(predictor))

        def heavy(requests: list[Any], tickets: list[Ticket], route: str | None, model_version: str) -> Encoded:
            replica = first_click if route is None else first_click.options(session_id=route)
            encoded = answered(replica.encode, pack(requests), tickets, model_version, request_id())
            return unpack(encoded, predictor.device)  # once: they stay where the session is

        predictor.answer = halves(regardless(light), by_ticket(heavy), predictor.model_version)
        self.batched = light
        # Its first click waits for FirstClick, which Ray's own thread may not.
        with refusing(), ThreadPoolExecutor(1) as pool:
            engine = pool.submit(build_engine, options, predictor, alone=False).result()
        self.model = LocalModel(engine, options)


def _predictor(options: Options) -> Any:
    from serve.loading.build import build_predictor

    # Ray sets OMP_NUM_THREADS to the CPUs that a replica reserves, so torch would decide on one thread.
    return build_predictor(replace(options, num_threads=options.num_threads or os.cpu_count() or 1))


def max_batch_of(predictor: Any) -> int:
    """Views in a forward: many on a GPU; on a CPU a batch is no faster than one after the other."""
    return 32 if predictor.device.type == "cuda" else 1


def owner_of(suffix: str, options: Options, share: Share, split: bool) -> Application:
    """Bind the deployments of one model, with `suffix` in their names; the one that is returned owns its sessions."""
    # The next version starts beside this one; but GPUs are reserved as a whole, so there it starts after.
    surge = 0 if share.gpus else 100

    def bound(deployment: Any, resources: dict[str, float], *more: Any) -> Application:
        chosen = deployment.options(
            name=f"{deployment.name}{suffix}",
            ray_actor_options={**resources, "runtime_env": {"env_vars": MEMORY}},
            max_surge_percent=surge,
        )
        return chosen.bind(options, *more)

    heavy = bound(FirstClick, share.heavy(split))
    return bound(Correction, share.light(), heavy) if split else heavy


class RemoteModel:
    """Masks by deployments: those that own sessions (`owner`), reached by handle from the ingress's threads."""

    def __init__(self, owner: Any, timeout_s: float, *, direct: bool = False) -> None:
        """`timeout_s`: seconds until a call without an answer is given up.

        `direct`: clicks and masks, which are small, go from process to process (compat.by_value).

        Not for the ingress's replicas: in a request of its proxy Ray Serve hands such answers on unread.
        """
        self._owner, self._timeout_s, self._direct = owner, timeout_s, direct
        self._info: ModelInfo | None = None

    def info(self) -> ModelInfo:
        """Which model answers; while none does, the one that did."""
        last = self._info
        try:
            self._info = last = self._call(self._owner.info, timeout_s=5.0)
        except Problem:
            if last is None:
                raise
            return replace(last, ready=False)
        return last

    def ask(self, kind: Kind[T], work: Work) -> T:
        """What a session has after its clicks, first without its image file, which only some replicas need."""
        sent, call = replace(work, load=None, image=None), counted_as(kind.name, work)
        known = work.session_id is not None and kind is not OPEN  # then its file may be where it goes
        with metrics.timed(metrics.CALL_MS, call):
            near, data = self._of(work, direct=known and kind is MASK), None if known else _file(work)
            found = self._call(near.ask, kind.name, sent, data, request_id())
        if known and found is None:
            metrics.put(metrics.RETRIES, 1, "file")
            with metrics.timed(metrics.CALL_MS, call):
                found = self._call(self._of(work).ask, kind.name, sent, _file(work), request_id())
        return found

    def forget(self, session_id: str) -> None:
        """Drop what is cached of a session; if none answers, there is nothing to drop."""
        try:
            self._call(self._owner.options(session_id=session_id).forget, session_id)
        except Problem as problem:
            logger.warning("session %s is deleted, its cache is not: %s", session_name(session_id), problem)

    def _of(self, work: Work, *, direct: bool = False) -> Any:
        owner = self._owner if work.session_id is None else self._owner.options(session_id=work.session_id)
        return by_value(owner) if direct and self._direct else owner

    def _call(self, method: Any, *values: Any, timeout_s: float | None = None) -> Any:
        try:
            return answered(method, *values, timeout_s=timeout_s or self._timeout_s)
        except (RayError, RayServeException, TimeoutError, asyncio.CancelledError, FutureCancelled, RpcError) as error:
            cause = getattr(error, "cause", None)
            if isinstance(cause, ModelNan | InputError | Problem):
                raise cause from None
            logger.warning("no answer from the model: %s: %s", type(error).__name__, " ".join(str(error).split())[:300])
            raise Problem(
                "unavailable", "the process that runs the model ended or is full; send the same again", retry_after_s=1
            ) from error


def _file(work: Work) -> bytes:
    assert work.load is not None, "the caller can fetch the file"
    return work.load()
