"""What is kept of sessions, in a file: survives its process, and two processes never both make a change."""

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import rle
from models.interaction import Click
from serve.api import create_app
from serve.engine import Engine
from serve.settings import Settings
from serve.store import SqliteStore
from serve.values import Change, SessionValue
from tests.serve.conftest import Server, encoded, picture
from tests.serve.fakes import FakePredictor

VALUE = SessionValue(id="a", image_sha256="f" * 64, hw=(4, 6), model_version="m-1", used_at=10.0)
CLICKS = st.lists(st.builds(Click, y=st.floats(0, 1e4), x=st.floats(0, 1e4), positive=st.booleans()), max_size=5)


@given(CLICKS, st.integers(0, 5), st.one_of(st.none(), st.just(np.eye(4, 6, dtype=bool))))
def test_a_value_survives_json(clicks: list[Click], position: int, mask: np.ndarray | None) -> None:
    value = replace(
        VALUE,
        history=tuple(clicks),
        position=min(position, len(clicks)),
        sequence=7,
        initial_mask=None if mask is None else rle.encode(mask),
        last_change=Change(kind="click", click=clicks[-1]) if clicks else Change(kind="undo"),
    )
    assert SessionValue.from_json(value.to_json(), value.used_at) == value


def test_what_is_committed_is_there_for_the_next_process(tmp_path: Path) -> None:
    path = tmp_path / "new" / "sessions.db"
    store = SqliteStore(path)
    store.add(VALUE, b"image")
    after = VALUE.after(Change(kind="click", click=Click(y=1, x=2)), (Click(y=1, x=2),), 1)
    assert store.commit(after, 0)
    again = SqliteStore(path)
    assert again.get("a") == after
    assert again.image(VALUE.image_sha256) == b"image"
    assert again.totals() == (1, 5)
    assert path.stat().st_mode & 0o077 == 0, "images are for their owner alone"


def test_of_two_changes_at_once_one_is_made(tmp_path: Path) -> None:
    stores = [SqliteStore(tmp_path / "sessions.db") for _ in range(4)]
    stores[0].add(VALUE, b"image")
    after = VALUE.after(Change(kind="clear"), (), 0)
    won: list[bool] = []
    threads = [threading.Thread(target=lambda s=store: won.append(s.commit(after, 0))) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == [False, False, False, True]


def test_images_are_kept_once_and_go_with_their_last_session(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "sessions.db")
    store.add(VALUE, b"image")
    store.add(replace(VALUE, id="b", used_at=20.0), b"image")
    store.delete("a")
    assert store.image(VALUE.image_sha256) == b"image"
    store.expire(15.0)
    assert store.get("b") is not None
    store.expire(25.0)
    assert store.get("b") is None
    assert store.has_ended("b")
    assert not store.has_ended("a")
    with pytest.raises(KeyError):
        store.image(VALUE.image_sha256)


def test_a_session_goes_on_in_another_server(tmp_path: Path) -> None:
    from fastapi.testclient import TestClient

    settings = Settings(sessions=tmp_path / "sessions.db")
    first = Server(settings)
    session = first.open(encoded(picture()))
    masks = [first.click(session, x, 20, sequence=n + 1)["mask"] for n, x in enumerate((10, 20, 30))]
    del first
    predictor = FakePredictor()
    client = TestClient(create_app(Engine(predictor), settings, clock=lambda: 0.0), "http://localhost")
    state = client.get(f"/v1/sessions/{session}").json()
    assert (state["sequence"], len(state["clicks"])) == (3, 3)
    # The last click, repeated because its answer was lost, is answered and not made again.
    again = client.post(f"/v1/sessions/{session}/clicks", json={"x": 30, "y": 20, "sequence": 3}).json()
    assert (again["mask"], again["num_clicks"]) == (masks[2], 3)
    assert client.post(f"/v1/sessions/{session}/undo", json={"sequence": 4}).json()["mask"] == masks[1]
    assert predictor.num_opened == 1
