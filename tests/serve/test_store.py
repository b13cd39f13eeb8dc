"""The stores of sessions in memory, a file and Redis: equal results, and one of two simultaneous changes is made."""

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models import rle
from models.errors import InputError
from models.interaction import Click
from serve.core.options import Options
from serve.core.values import Basis, Change, SessionValue
from serve.engine.engine import Engine
from serve.http.app import create_app
from serve.sessions.open_store import open_store
from serve.sessions.store import SqliteStore, ValueStore
from serve.sessions.store_redis import RedisStore
from tests.serve.conftest import Server, encoded, picture
from tests.serve.disks import DiskPredictor

VALUE = SessionValue(id="a", image_sha256="f" * 64, hw=(4, 6), model_version="m-1", used_at=10.0)
CLICKS = st.lists(st.builds(Click, y=st.floats(0, 1e4), x=st.floats(0, 1e4), positive=st.booleans()), max_size=5)
NUM_ENDED = 3
NUM_THREADS = 8

Opened = Callable[[], ValueStore]


@pytest.fixture(params=["memory", "sqlite", "redis"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Opened:
    """Opens the same store several times, as the processes of a server do (in memory there is only one)."""
    if request.param == "memory":
        store = SqliteStore(num_ended=NUM_ENDED)
        return lambda: store
    if request.param == "sqlite":
        return lambda: SqliteStore(tmp_path / "sessions.db", num_ended=NUM_ENDED)
    url = request.getfixturevalue("redis_url")
    return lambda: RedisStore(url, num_ended=NUM_ENDED)


@pytest.fixture(params=["sqlite", "redis"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    """A place for sessions that several servers share."""
    return tmp_path / "sessions.db" if request.param == "sqlite" else request.getfixturevalue("redis_url")


@given(CLICKS, st.integers(0, 5), st.one_of(st.none(), st.just(np.eye(4, 6, dtype=bool))))
def test_a_value_survives_json(clicks: list[Click], position: int, mask: np.ndarray | None) -> None:
    value = replace(
        VALUE,
        history=tuple(clicks),
        position=min(position, len(clicks)),
        sequence=7,
        basis=Basis(initial_mask=None if mask is None else rle.encode(mask)),
        last_change=Change(kind="click", click=clicks[-1]) if clicks else Change(kind="undo"),
    )
    assert SessionValue.from_json(value.to_json(), value.used_at) == value


def test_committed_sessions_survive_the_process(opened: Opened) -> None:
    store = opened()
    value, image = replace(VALUE, used_at=1764262545.123456789), bytes(range(256)) * 40
    store.add(value, image)
    after = value.after(Change(kind="click", click=Click(y=1, x=2)), history=(Click(y=1, x=2),), position=1)
    assert store.commit(after, 0)
    again = opened()
    assert again.get("a") == after
    assert again.image(VALUE.image_sha256) == image
    assert again.totals() == (1, len(image))


def test_only_the_owner_can_read_the_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "sessions.db"
    SqliteStore(path).add(VALUE, b"image")
    assert path.stat().st_mode & 0o077 == 0


def test_an_initial_mask_counts_as_stored(opened: Opened) -> None:
    mask = rle.encode(np.eye(4, 6, dtype=bool))
    opened().add(replace(VALUE, basis=Basis(initial_mask=mask)), b"image")
    assert opened().totals() == (1, 5 + len(mask["counts"]))
    found = opened().get("a")
    assert found is not None
    assert found.basis.initial_mask == mask


def test_an_existing_id_is_refused(opened: Opened) -> None:
    store = opened()
    store.add(VALUE, b"image")
    with pytest.raises(ValueError, match="already"):
        store.add(replace(VALUE, used_at=20.0), b"image")
    assert store.get("a") == VALUE
    assert store.totals() == (1, 5)


def test_one_of_simultaneous_changes_is_made(opened: Opened) -> None:
    stores = [opened() for _ in range(NUM_THREADS)]
    stores[0].add(VALUE, b"image")
    start = threading.Barrier(NUM_THREADS)

    def compete(number: int) -> list[bool]:
        won = []
        for sequence in range(10):
            start.wait(timeout=30)
            click = Click(y=number, x=sequence)
            change = Change(kind="click", click=click)
            mine = replace(VALUE, history=(click,), position=1, sequence=sequence + 1, last_change=change)
            won.append(stores[number].commit(mine, sequence))
        return won

    with ThreadPoolExecutor(NUM_THREADS) as pool:
        won = list(pool.map(compete, range(NUM_THREADS)))
    assert [sum(each) for each in zip(*won, strict=True)] == [1] * 10
    last = stores[0].get("a")
    assert last is not None
    assert last.sequence == 10
    assert won[int(last.history[0].y)][-1], "what is kept is the winner's"


def test_images_are_stored_once_and_deleted_with_their_last_session(opened: Opened) -> None:
    store = opened()
    store.add(VALUE, b"image")
    store.add(replace(VALUE, id="b", used_at=20.0), b"image")
    store.delete("a")
    assert store.image(VALUE.image_sha256) == b"image"
    store.expire(20.0)
    assert store.get("b") is not None, "used at this very time, not before"
    store.expire(25.0)
    assert store.get("b") is None
    assert store.has_ended("b")
    assert not store.has_ended("a")
    assert store.totals() == (0, 0)
    with pytest.raises(KeyError):
        store.image(VALUE.image_sha256)


def test_use_extends_a_session_and_a_slower_clock_does_not_shorten_it(opened: Opened) -> None:
    store = opened()
    store.add(VALUE, b"image")
    store.touch("a", 50.0)
    store.touch("a", 40.0)
    store.touch("unknown", 99.0)
    store.expire(45.0)
    found = store.get("a")
    assert found is not None
    assert found.used_at == 50.0
    assert store.totals() == (1, 5)


def test_the_last_ended_sessions_are_remembered(opened: Opened) -> None:
    store = opened()
    for number, name in enumerate("abcde"):
        store.add(replace(VALUE, id=name, used_at=float(number)), b"image")
        store.expire(number + 0.5)
    assert [store.has_ended(name) for name in "abcde"] == [False, False, True, True, True]


NAMES = st.sampled_from("abcd")
TIMES = st.integers(0, 6).map(float)
OPERATIONS = st.one_of(
    st.tuples(st.just("add"), NAMES, TIMES, st.sampled_from([b"one", b"another"]), st.booleans()),
    st.tuples(st.just("commit"), NAMES, st.integers(0, 3), st.integers(0, 3)),
    st.tuples(st.just("touch"), NAMES, TIMES),
    st.tuples(st.just("delete"), NAMES),
    st.tuples(st.just("expire"), TIMES),
)


def apply(store: ValueStore, operation: tuple) -> object:
    kind, *rest = operation
    if kind == "add":
        name, used_at, data, masked = rest
        mask = rle.encode(np.eye(4, 6, dtype=bool)) if masked else None
        value = replace(VALUE, id=name, image_sha256=data.hex(), used_at=used_at, basis=Basis(initial_mask=mask))
        try:
            return store.add(value, data)
        except ValueError as error:
            return str(error)
    if kind == "commit":
        name, expected, sequence = rest
        return store.commit(replace(VALUE, id=name, sequence=sequence), expected)
    return getattr(store, kind)(*rest)


def everything(store: ValueStore) -> list[object]:
    def image(data: bytes) -> bytes | None:
        try:
            return store.image(data.hex())
        except KeyError:
            return None

    known = [(store.get(name), store.has_ended(name)) for name in "abcd"]
    return [store.totals(), known, image(b"one"), image(b"another")]


def test_redis_and_sqlite_answer_the_same(redis_url: str) -> None:
    one = RedisStore(redis_url, num_ended=2)

    @settings(deadline=None)  # a separate server answers, and the machine may be busy
    @given(st.lists(OPERATIONS, max_size=12))
    def same(operations: list[tuple]) -> None:
        one._redis.flushall()
        other = SqliteStore(num_ended=2)
        for operation in operations:
            assert apply(one, operation) == apply(other, operation), operation
            assert everything(one) == everything(other), operation
        one.expire(1e9)
        left = {key.decode().rsplit(":", 1)[-1] for key in one._redis.scan_iter()}
        assert left <= {"ended", "num_ended", "bytes"}, "nothing is left of sessions that ended"

    same()


def test_the_option_chooses_the_store(tmp_path: Path, redis_url: str) -> None:
    assert isinstance(open_store(redis_url), RedisStore)
    for file in (None, tmp_path / "a.db", str(tmp_path / "b.db")):
        assert isinstance(open_store(file), SqliteStore)
    assert {path.name for path in tmp_path.iterdir()} >= {"a.db", "b.db"}
    for wrong in ("postgres://me:hush@there/db", Path("redis://me:hush@there/0")):
        with pytest.raises(InputError, match="expected redis://HOST") as refusal:
            open_store(wrong)
        assert "hush" not in str(refusal.value)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="writable folder"):
        open_store(tmp_path / "file" / "sessions.db")


def test_a_session_continues_on_another_server(where: Path | str) -> None:
    from fastapi.testclient import TestClient

    settings = Options(sessions=where)
    first = Server(settings)
    session = first.open(encoded(picture()))
    masks = [first.click(session, x, 20, sequence=n + 1)["mask"] for n, x in enumerate((10, 20, 30))]
    del first
    predictor = DiskPredictor()
    client = TestClient(create_app(Engine(predictor), settings, clock=lambda: 0.0), "http://localhost")
    state = client.get(f"/v1/sessions/{session}").json()
    assert (state["sequence"], len(state["clicks"])) == (3, 3)
    # The last click, repeated because its answer was lost, is answered and not made again.
    again = client.post(f"/v1/sessions/{session}/clicks", json={"x": 30, "y": 20, "sequence": 3}).json()
    assert (again["mask"], again["num_clicks"]) == (masks[2], 3)
    assert client.post(f"/v1/sessions/{session}/undo", json={"sequence": 4}).json()["mask"] == masks[1]
    assert predictor.num_opened == 1


def test_a_session_of_an_earlier_version_is_read() -> None:
    mask = rle.encode(np.eye(4, 6, dtype=bool))
    old = {
        "id": "a",
        "image_sha256": "f" * 64,
        "hw": [4, 6],
        "model_version": "m-1",
        "initial_mask": mask,
        "history": [[1.0, 2.0, True]],
        "position": 1,
        "sequence": 1,
        "last_change": {"kind": "click", "click": [1.0, 2.0, True]},
    }
    value = SessionValue.from_json(json.dumps(old), 10.0)
    click = Click(y=1, x=2)
    expected = replace(VALUE, basis=Basis(initial_mask=mask), history=(click,), position=1, sequence=1)
    assert value == replace(expected, last_change=Change(kind="click", click=click))
