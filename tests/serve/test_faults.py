"""Failures below the interface: too little memory, a network that stalls or gives no numbers, a full disk."""

import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient

from models.interaction import Click
from models.predictor import Session
from serve.core.options import Options
from serve.core.problems import Problem
from serve.core.values import Basis
from serve.engine.asking import MASK, OPEN, Work
from serve.engine.batching import Batched
from serve.engine.engine import DEAD_AFTER_S, STALLED_AFTER_S, Engine, ModelNan
from serve.engine.local_model import LocalModel
from serve.engine.locks import Progress
from serve.engine.memory import is_out_of_memory
from serve.http.app import create_app
from serve.on_ray.replicas import _Owner
from serve.sessions.store import SqliteStore
from tests.serve.conftest import ADDRESS, Server, encoded, picture, refused
from tests.serve.disks import DiskPredictor
from tests.serve.test_batching import correct

PNG = {"Content-Type": "image/png"}
SHORT = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB. GPU 0 has a total capacity of 24 GiB")


@pytest.mark.check(30, 42)
def test_too_little_memory_affects_only_one_request(server: Server) -> None:
    session, other = server.open(), server.open()
    server.click(other, 5, 5)
    for _ in range(5):
        server.predictor.fail_with = SHORT
        answer = server.client.post(f"/v1/sessions/{session}/clicks", json={"x": 5, "y": 5, "sequence": 1})
        refused(answer, 503, "gpu_oom")
        assert answer.headers["retry-after"] == "5"
        assert "GPU 0" not in answer.text
        server.predictor.fail_with = None
        server.click(other, 9, 9)
        assert server.client.get("/v1/health/ready").status_code == 200
    assert server.click(session, 5, 5, sequence=1)["num_clicks"] == 1, "nothing was half done"


@pytest.mark.check(42)
@pytest.mark.networks
def test_memory_is_freed_after_a_thousand_failures(monkeypatch: pytest.MonkeyPatch) -> None:
    tensors: list[weakref.ref[Any]] = []

    def click(self: Session, *_: Any) -> np.ndarray:
        features = np.zeros(250_000, np.float32)
        tensors.append(weakref.ref(features))
        raise torch.OutOfMemoryError("CUDA out of memory")

    engine = Engine(DiskPredictor())
    masks = LocalModel(engine, Options())
    work = Work(
        session_id="a",
        load=lambda: encoded(picture()),
        basis=Basis(),
        clicks=(Click(y=5, x=5, positive=True),),
    )
    with monkeypatch.context() as patched:
        patched.setattr(Session, "add", click)
        problems = []
        for _ in range(1000):
            with pytest.raises(Problem) as caught:
                masks.ask(MASK, work)
            problems.append(caught.value)
        # The problems themselves are still there, as a log that keeps the last ones would have them.
        assert {problem.code for problem in problems} == {"gpu_oom"}
        assert sum(each() is not None for each in tensors) == 0
    assert engine.healthy
    assert masks.ask(MASK, work).area > 0


@pytest.mark.check(42)
def test_a_batch_that_does_not_fit_into_memory_runs_in_parts() -> None:
    """The device has memory for three of the requests that share a forward, and one request never fits."""

    def answer(requests: list[Any]) -> list[Any]:
        values = [float(request.image[0, 0, 0]) for request in requests]
        if len(values) > 3 or 7.0 in values:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return values

    batched, found = Batched(answer, 8), {}
    with batched._network:  # so that all wait, and come in one batch
        threads = [threading.Thread(target=lambda n=n: found.update({n: ask(batched, n)})) for n in range(8)]
        for thread in threads:
            thread.start()
        while len(batched._queue) < 8:
            time.sleep(0.002)
    for thread in threads:
        thread.join(10)
    assert isinstance(found.pop(7), torch.OutOfMemoryError)
    assert found == {n: [float(n)] for n in range(7)}


def ask(batched: Batched, number: int) -> Any:
    try:
        return batched([correct(number)])
    except torch.OutOfMemoryError as error:
        return error


def test_an_error_of_another_process_is_recognised_by_its_cause() -> None:
    class Wrapped(Exception):
        cause = SHORT

    assert is_out_of_memory(Wrapped())
    assert is_out_of_memory(SHORT)
    assert not is_out_of_memory(RuntimeError("CUDA error: device-side assert triggered"))


@pytest.mark.check(43)
def test_a_replica_whose_network_gives_no_numbers_requests_a_new_one() -> None:
    predictor = DiskPredictor()
    owner = _Owner()
    owner.model = LocalModel(Engine(predictor), Options())
    work = Work(session_id="a", load=lambda: encoded(picture()), basis=Basis())
    owner.model.ask(OPEN, work)
    predictor.nan = True
    for _ in range(3):
        owner.check_health()
        with pytest.raises(ModelNan):
            owner.model.ask(MASK, replace(work, clicks=(Click(y=5.0, x=5.0),)))
    with pytest.raises(RuntimeError, match="failed several times"):
        owner.check_health()


@pytest.mark.check(44)
def test_a_stalled_network_is_not_ready_but_the_process_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    now, go, entered = 0.0, threading.Event(), threading.Event()
    engine = Engine(DiskPredictor(), clock=lambda: now)
    client = TestClient(create_app(engine), ADDRESS)
    session = client.post("/v1/sessions", content=encoded(picture()), headers=PNG).json()["session_id"]
    engine.warm_up()
    now = 1000.0
    assert client.get("/v1/health/ready").status_code == 200, "idle is no stall"
    real = Session.add

    def stall(self: Session, *where: Any) -> np.ndarray:
        entered.set()
        assert go.wait(20)
        return real(self, *where)

    monkeypatch.setattr(Session, "add", stall)
    answers: list[Any] = []
    thread = threading.Thread(
        target=lambda: answers.append(client.post(f"/v1/sessions/{session}/clicks", json={"x": 5, "y": 5}))
    )
    thread.start()
    assert entered.wait(10)
    now += STALLED_AFTER_S - 1
    assert client.get("/v1/health/ready").status_code == 200
    now += 2
    refused(client.get("/v1/health/ready"), 503, "not_ready")
    assert client.get("/v1/health/live").status_code == 200
    assert client.get("/v1/health").json()["status"] == "ok"
    now += DEAD_AFTER_S
    assert client.get("/v1/health").json()["status"] == "unwell", "a replica asks for a new process now"
    go.set()
    thread.join(10)
    assert answers[0].status_code == 200
    assert client.get("/v1/health/ready").status_code == 200


@pytest.mark.check(44)
def test_a_moving_queue_is_not_a_stall() -> None:
    now = 0.0
    progress = Progress(lambda: now)
    with progress.step():
        now = 50.0
        with progress.step():
            now = 60.0
            assert progress.idle_s() == 60
        now = 70.0
        assert progress.idle_s() == 10
    assert progress.idle_s() == 0


def fill(store: SqliteStore, how: str) -> Callable[[], None]:
    """Make SQLite unable to write the file of sessions; return the function that undoes that."""
    connection = store._connection
    if how == "full":
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")
        return lambda: connection.execute("PRAGMA max_page_count = 1000000") and None
    connection.execute("PRAGMA query_only = 1")
    return lambda: connection.execute("PRAGMA query_only = 0") and None


@pytest.mark.check(45)
@pytest.mark.parametrize("how", ["full", "read-only"])
def test_a_disk_that_cannot_be_written_refuses_changes_and_can_be_read(
    how: str, make_server: Callable[..., Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores: list[SqliteStore] = []
    real = SqliteStore.__init__

    def remember(self: SqliteStore, *args: Any, **options: Any) -> None:
        real(self, *args, **options)
        stores.append(self)

    monkeypatch.setattr(SqliteStore, "__init__", remember)
    server = make_server(sessions=tmp_path / "sessions.db")
    session = server.open()
    first = server.click(session, 5, 5)
    image = encoded(np.random.default_rng(1).integers(0, 256, (200, 300, 3), dtype=np.uint8))
    undo = fill(stores[0], how)
    server.now = 100.0  # so that reading would note the use
    answer = server.client.post("/v1/sessions", content=image, headers=PNG)
    refused(answer, 503, "unavailable")
    assert answer.headers["retry-after"] == "5"
    assert str(tmp_path) not in answer.text
    assert server.client.get(f"/v1/sessions/{session}/mask").json() == first["mask"]
    assert server.client.get(f"/v1/sessions/{session}").json()["sequence"] == 1
    assert server.client.get(f"/v1/sessions/{session}/export").status_code == 200
    preview = server.client.post(f"/v1/sessions/{session}/preview", json={"x": 30, "y": 20})
    assert preview.status_code == 200, "what stores nothing goes on"
    if how == "read-only":
        clicked = server.client.post(f"/v1/sessions/{session}/clicks", json={"x": 30, "y": 20, "sequence": 2})
        refused(clicked, 503, "unavailable")
        server.now = 3800.0  # it would expire now, which cannot be noted either
        assert server.client.get("/v1/health").status_code == 200
    undo()
    server.now = 200.0
    assert server.click(session, 30, 20, sequence=2)["num_clicks"] == 2, "as soon as there is room"
    server.open(image)
