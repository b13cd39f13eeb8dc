"""The deployments: FirstClick (the heavy half, or a whole network without halves) and Correction (the light half).

Sessions are cached where corrections are made: in Correction's replicas if the network has two halves, else in
FirstClick's. Calls carry the session's id as routing key, so that a session returns to the replica that has it cached.
A replica that does not have it (after a kill, or when the number of replicas changes) requests the image and computes
everything again. Only encodings pass from one deployment to the other.
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
    """A replica with sessions. Ray runs its plain methods in threads; a method that can be cancelled starts one."""

    model: LocalModel
    batched: Batched

    def stats(self) -> dict[str, int]:
        """Return how many forwards and requests the network has run in this process."""
        return {"forwards": self.batched.num_forwards, "requests": self.batched.num_requests}

    def info(self) -> ModelInfo:
        """Return the description and state of the model."""
        return self.model.info()

    async def ask(self, kind: str, work: Work, data: bytes | None, request: str | None) -> Any:
        """Return the result of a session after its clicks, for the HTTP request with this id.

        None if the image file is needed, which is not sent with every call.
        """
        work = work if data is None else replace(work, load=lambda: data)
        with worked(counted_as(kind, work), named_by(request), work.session_id):
            try:
                return await in_thread(lambda: self.model.ask(KINDS[kind], work))
            except FileNeeded:
                return None

    def forget(self, session_id: str) -> None:
        """Drop the cached data of a session."""
        self.model.forget(session_id)

    def check_health(self) -> None:
        """Raise after several failures in a row, or if clicks do not finish, so that Ray starts a new replica."""
        if not self.model.engine.healthy:
            raise RuntimeError("the network failed several times in a row, or its clicks do not finish")


def counted_as(kind: str, work: Work) -> str:
    """Return the label of a call in the metrics."""
    return kind if work.session_id is not None else "once"


@ray_serve.deployment(**OPTIONS)
class FirstClick(_Owner):
    """The heavy half, which encodes images in batches across sessions; or a whole network without halves."""

    def __init__(self, options: Options) -> None:
        from serve.loading.build import build_engine

        observe_replica(options.log_format)
        with refusing():
            predictor = _predictor(options)
        self.batched = Batched(predictor.answer, max_batch_of(predictor))
        predictor.answer = self.batched
        self.kept = Kept(self.batched, options.max_cache_bytes // 4)
        # With such a network, the light half needs all features of the image at every click, so they are sent once.
        self._heavy = self._travelling if predictor.network.traits.prompted else self.kept
        self._version, self._device = predictor.model_version, predictor.device
        with refusing():
            engine = build_engine(options, predictor, alone=max_batch_of(predictor) == 1)
        self.model = LocalModel(engine, options)

    def stats(self) -> dict[str, int]:
        """Return also how many tickets were found and missed."""
        return super().stats() | {"tickets_found": self.kept.num_found, "tickets_missed": self.kept.num_missed}

    def encode(self, requests: list[Any], tickets: list[Ticket], model_version: str, request: str | None) -> Encoded:
        """Answer requests of the heavy half (for close-ups, of both halves), packed by serve/on_ray/travel.py.

        `tickets`: see serve/on_ray/tickets.py. Callers of another version are refused (serve/on_ray/halves.py).
        """

        def answer(packed: list[Any]) -> list[Any]:
            return pack(self._heavy(unpack(packed, self._device), tickets))

        with worked("encode", named_by(request)):
            return encoder(answer, self._version)(requests, model_version)

    def _travelling(self, requests: list[Any], tickets: list[Ticket]) -> list[Any]:
        return self.batched(requests)


@ray_serve.deployment(**OPTIONS)
class Correction(_Owner):
    """The light half, with the sessions; it calls FirstClick for the heavy half."""

    def __init__(self, options: Options, first_click: Any) -> None:
        from serve.loading.build import build_engine

        observe_replica(options.log_format)
        with refusing():
            predictor = _predictor(options)
        light = Batched(predictor.answer, max_batch_of(predictor))

        def heavy(requests: list[Any], tickets: list[Ticket], route: str | None, model_version: str) -> Encoded:
            replica = first_click if route is None else first_click.options(session_id=route)
            encoded = answered(replica.encode, pack(requests), tickets, model_version, request_id())
            return unpack(encoded, predictor.device)  # once, because the session keeps them

        predictor.answer = halves(regardless(light), by_ticket(heavy), predictor.model_version)
        self.batched = light
        # In a thread: the first click waits for FirstClick, and Ray's thread, which runs this, may not wait.
        with refusing(), ThreadPoolExecutor(1) as pool:
            engine = pool.submit(build_engine, options, predictor, alone=False).result()
        self.model = LocalModel(engine, options)


def _predictor(options: Options) -> Any:
    from serve.loading.build import build_predictor

    # Ray sets OMP_NUM_THREADS to the CPUs that a replica reserves, with which torch would use one thread.
    return build_predictor(replace(options, num_threads=options.num_threads or os.cpu_count() or 1))


def max_batch_of(predictor: Any) -> int:
    """Return the maximum views in a forward: many on a GPU; one on a CPU, where a batch is no faster."""
    return 32 if predictor.device.type == "cuda" else 1


def owner_of(suffix: str, options: Options, share: Share, split: bool) -> Application:
    """Bind the deployments of one model, with `suffix` in their names; return the one with the sessions."""
    # The next version starts beside the old one, except on GPUs, which are fully reserved: there it starts after it.
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
    """A Model that calls the deployment with the sessions (`owner`) by handle, from the ingress's threads."""

    def __init__(self, owner: Any, timeout_s: float, *, direct: bool = False) -> None:
        """`timeout_s`: seconds after which a call without an answer fails.

        `direct`: send clicks and masks, which are small, over gRPC (compat.by_value). Not for replicas of the ingress:
        within a request from its proxy, Ray Serve passes such answers on unread.
        """
        self._owner, self._timeout_s, self._direct = owner, timeout_s, direct
        self._info: ModelInfo | None = None

    def info(self) -> ModelInfo:
        """Return the description and state of the model; if no replica answers, the last one, not ready."""
        last = self._info
        try:
            self._info = last = self._call(self._owner.info, timeout_s=5.0)
        except Problem:
            if last is None:
                raise
            return replace(last, ready=False)
        return last

    def ask(self, kind: Kind[T], work: Work) -> T:
        """Return the result of a session after its clicks; the image file is sent only if the replica needs it."""
        sent, call = replace(work, load=None, image=None), counted_as(kind.name, work)
        known = work.session_id is not None and kind is not OPEN  # then the replica may have the image
        with metrics.timed(metrics.CALL_MS, call):
            near, data = self._of(work, direct=known and kind is MASK), None if known else _file(work)
            found = self._call(near.ask, kind.name, sent, data, request_id())
        if known and found is None:
            metrics.put(metrics.RETRIES, 1, "file")
            with metrics.timed(metrics.CALL_MS, call):
                found = self._call(self._of(work).ask, kind.name, sent, _file(work), request_id())
        return found

    def forget(self, session_id: str) -> None:
        """Drop the cached data of a session; if no replica answers, only log it."""
        try:
            self._call(self._owner.options(session_id=session_id).forget, session_id)
        except Problem as problem:
            logger.warning("session %s is deleted, but not its cached data: %s", session_name(session_id), problem)

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
                "unavailable",
                "the process that runs the model ended or is overloaded; send the request again",
                retry_after_s=1,
            ) from error


def _file(work: Work) -> bytes:
    assert work.load is not None, "the caller must be able to fetch the file"
    return work.load()
