"""Live sessions: changes over a WebSocket, several in flight, answered in order. docs/HTTP.md describes the messages.

A message that was received is applied even if its client has left, so that no click is lost.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import FastAPI, Query, WebSocket, WebSocketDisconnect
from fastapi.concurrency import run_in_threadpool

from serve.core.masks import patch_between
from serve.core.options import Options
from serve.core.problems import Problem
from serve.engine.waiting import Turns
from serve.http.observe import message as observed
from serve.http.shield import as_problem, logger, new_instance
from serve.observing import metrics
from serve.observing.record import request_id
from serve.sessions.sessions import Change, Outcome, Sessions
from serve.wire.bodies import load_json, validated
from serve.wire.protocol import LiveChange, LiveClick, LivePreview, LiveSettings

MAX_WAITING = 64
"""Messages of one socket that may wait; further ones stay in the network's buffers, which slows the sender down."""
GONE = {"session_unknown": 4404, "session_expired": 4410}
TRY_LATER = 1013
LIVE = "/v1/sessions/{session_id}/live"
Encoding = Literal["rle", "bits"]
Allow = Callable[[WebSocket], Awaitable[Problem | None]]
"""Returns why a message is refused now, or None."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One message: a change, or the problem with it."""

    id: int | str | None = None
    change: Change | None = None
    sequence: int | None = None
    latest: bool = False
    preview: bool = False
    problem: Problem | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Done:
    """The outcome of a change, and the time that it took."""

    id: int | str | None
    outcome: Outcome
    milliseconds: float


def read_command(data: str | bytes, limit: int) -> Command:
    """Read a message of at most `limit` bytes; an invalid one becomes a Command with a problem."""
    if len(data) > limit:
        return Command(problem=Problem("body_too_large", f"the message exceeds {limit} bytes"))
    body = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    name = None
    try:
        if len(body) > limit:
            raise Problem("body_too_large", f"the message exceeds {limit} bytes")
        plain = load_json(body)
        if isinstance(plain, dict):
            name = plain.get("id")
            name = name if isinstance(name, int | str) and not isinstance(name, bool) and len(str(name)) <= 64 else None
        if isinstance(plain, dict) and plain.get("kind") == "click":
            click = validated(plain, LiveClick)
            change = Change(kind="click", click=click.click())
            return Command(id=click.id, change=change, sequence=click.sequence, latest=click.latest)
        if isinstance(plain, dict) and plain.get("kind") == "preview":
            would = validated(plain, LivePreview)
            return Command(id=would.id, change=Change(kind="click", click=would.click()), preview=True)
        if isinstance(plain, dict) and plain.get("kind") == "settings":
            given = validated(plain, LiveSettings)
            change = Change(kind="settings", refinement=given.refinement, mask_threshold=given.mask_threshold)
            return Command(id=given.id, change=change, sequence=given.sequence, latest=given.latest)
        other = validated(plain, LiveChange)
        return Command(id=other.id, change=Change(kind=other.kind), sequence=other.sequence, latest=other.latest)
    except Problem as problem:
        return Command(id=name, problem=problem)


class Patches:
    """Encodes the masks of one socket as patches: the first relative to an empty mask, each other to the previous."""

    def __init__(self) -> None:
        self._last: np.ndarray | None = None  # packed to one bit per pixel, because a socket may stay open for long

    def of(self, mask: np.ndarray, keep: bool = True) -> tuple[list[int], bytes]:
        """Return the box [x, y, width, height] of the pixels that changed, and the bits of `mask` in it, row by row.

        `keep`: make this mask the reference of the next patch; not for previews.
        """
        last = self._last
        before = None if last is None else np.unpackbits(last, count=mask.size).reshape(mask.shape).view(bool)
        if keep:
            self._last = np.packbits(mask)
        return patch_between(before, mask)


class Live:
    """One socket of one session: a reader fills the queue, a worker empties it."""

    def __init__(self, socket: WebSocket, encoding: Encoding, allow: Allow, options: Options, turns: Turns) -> None:
        self._socket, self._encoding, self._allow, self._options = socket, encoding, allow, options
        self._turns = turns
        self._queue: asyncio.Queue[Command | None] = asyncio.Queue(MAX_WAITING)
        self._num_changes = 0  # changes in the queue; other messages do not supersede answers
        self._patches = Patches()
        self._owed: Done | None = None  # the newest change whose mask was left out
        self._open = True

    async def serve(self, apply: Callable[[Command], Done]) -> None:
        """Serve until the client leaves or the session ends; `apply` runs in a thread."""
        reader = asyncio.create_task(self._read())
        try:
            while (command := await self._queue.get()) is not None:
                problem = await self._answer(command, apply)
                if problem is not None and problem.code in GONE:
                    await self.close(GONE[problem.code], problem.code)
                    return
            await self.close(GONE["session_expired"], "idle")
        finally:
            reader.cancel()
            with suppress(asyncio.CancelledError):
                await reader

    async def close(self, code: int, reason: str) -> None:
        """Close the socket, unless the client has."""
        if self._open:
            self._open = False
            with suppress(RuntimeError, WebSocketDisconnect, OSError):
                await self._socket.close(code, reason)

    async def _read(self) -> None:
        try:
            await self._fill()
        except Exception:
            logger.exception("reading from a live socket failed")
        await self._queue.put(None)  # the worker stops here, after all earlier messages

    async def _fill(self) -> None:
        while (message := await self._receive()) is not None:
            text = message.get("text")
            data = text if text is not None else message.get("bytes") or b""
            command = read_command(data, self._options.max_click_body_bytes)
            refusal = await self._allow(self._socket)
            if refusal is not None:
                command = Command(id=command.id, problem=refusal)
            self._num_changes += command.change is not None
            await self._queue.put(command)

    async def _receive(self) -> MutableMapping[str, Any] | None:
        try:
            message = await asyncio.wait_for(self._socket.receive(), self._options.idle_timeout_s)
        except TimeoutError:
            return None  # the session has expired, or is used over HTTP only
        except RuntimeError:  # a send has already found that the client is gone
            self._open = False
            return None
        if message["type"] == "websocket.disconnect":
            self._open = False
            return None
        return message

    async def _answer(self, command: Command, apply: Callable[[Command], Done]) -> Problem | None:
        problem, instance = command.problem, new_instance()
        if command.change is not None:
            self._num_changes -= 1
            if command.preview and self._num_changes > 0:  # later messages make this preview useless
                await self._send({"id": command.id, "preview": True, "superseded": True})
                return None
            try:
                done = await self._turns.wait(partial(apply, command))
            except Exception as error:
                problem = as_problem(error)
                if problem.code in ("internal", "model_nan"):
                    logger.exception("live %s failed (%s)", command.change.kind, instance)
            else:
                if command.preview:
                    await self._send_mask(done, preview=True)
                elif command.latest and self._num_changes > 0:
                    self._owed = done
                    await self._send(_header(done) | {"superseded": True})
                else:
                    await self._send_mask(done)
                return None
        if problem is not None:
            if command.problem is not None:  # failed changes were already counted by `observed`
                metrics.put(metrics.PROBLEMS, 1, LIVE, problem.code)
            await self._send(_refusal(command.id, problem, instance))
        # The change that superseded the previous answer has failed, so the previous mask is sent now.
        if self._owed is not None and self._num_changes == 0:
            await self._send_mask(self._owed)
        return problem

    async def _send_mask(self, done: Done, preview: bool = False) -> None:
        if not preview:
            self._owed = None
        made = done.outcome.made
        header = _header(done) | ({"preview": True} if preview else {})
        if self._encoding == "rle":
            await self._send(header | {"mask": made.encoded})
            return
        box, bits = await run_in_threadpool(lambda: self._patches.of(made.mask, keep=not preview))
        patch = {"bbox_xywh": box, "num_bytes": len(bits), "size": made.encoded["size"]}
        await self._send(header | {"patch": patch}, bits)

    async def _send(self, header: dict[str, Any], bits: bytes = b"") -> None:
        if not self._open:
            return
        try:
            await self._socket.send_text(json.dumps(header))
            if bits:
                await self._socket.send_bytes(bits)
        except (RuntimeError, WebSocketDisconnect, OSError):
            self._open = False  # messages that were received are still applied


def add_live(app: FastAPI, options: Options, store: Sessions, turns: Turns, allow: Allow) -> None:
    """Add /v1/sessions/{id}/live."""
    num_open = 0

    @app.websocket(LIVE)
    async def live(socket: WebSocket, session_id: str, mask: Annotated[Encoding, Query()] = "rle") -> None:
        nonlocal num_open
        await socket.accept("bearer" if "bearer" in socket.scope["subprotocols"] else None)
        connection = Live(socket, mask, allow, options, turns)
        if num_open >= options.max_live:
            await connection.close(TRY_LATER, "at_capacity")
            return
        num_open += 1
        metrics.put(metrics.SOCKETS, num_open)
        try:
            who = socket.scope.get("state", {}).get("token")
            await run_in_threadpool(store.get, session_id, who)
            await connection.serve(apply(session_id, who, request_id()))
        except Problem as problem:
            await connection.close(GONE.get(problem.code, TRY_LATER), problem.code)
        finally:
            num_open -= 1
            metrics.put(metrics.SOCKETS, num_open)

    def apply(session_id: str, who: str | None, named: str | None) -> Callable[[Command], Done]:
        def run(command: Command) -> Done:
            assert command.change is not None
            started = time.perf_counter()
            with observed(LIVE, session_id, named):
                if command.preview:
                    assert command.change.click is not None
                    outcome = store.preview(session_id, command.change.click, who)
                else:
                    outcome = store.change(session_id, command.change, command.sequence, who)
            milliseconds = round(1000 * (time.perf_counter() - started), 1)
            return Done(id=command.id, outcome=outcome, milliseconds=milliseconds)

        return run


def _header(done: Done) -> dict[str, Any]:
    outcome = done.outcome
    return {
        "id": done.id,
        "sequence": outcome.value.sequence,
        "num_redo": outcome.value.num_redo,
        "num_clicks": len(outcome.value.clicks),
        "area": outcome.made.area,
        "bbox_xywh": outcome.made.bbox_xywh,
        "honoured": outcome.made.honoured,
        "milliseconds": done.milliseconds,
        "model_version": outcome.made.model_version,
        "num_objects": len(outcome.value.objects),
    }


def _refusal(name: int | str | None, problem: Problem, instance: str) -> dict[str, Any]:
    wait = {} if problem.retry_after_s is None else {"retry_after_s": problem.retry_after_s}
    return {"id": name, **problem.body(instance, request_id()), **wait}
