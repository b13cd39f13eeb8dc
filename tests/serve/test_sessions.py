"""Sessions as values: replay, eviction, expiry, idempotency, concurrency."""

import base64
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from serve.core.options import Options
from serve.engine import local_model as masks_module
from serve.engine.engine import NUM_OPENING
from serve.http.routes import context
from tests.serve.conftest import Server, encoded, mask_of, picture, refused

CLICKS = [(30, 20, True), (33, 20, False), (10, 10, True), (50, 30, True), (50, 32, False)]


def play(server: Server, session: str, clicks: list[tuple[int, int, bool]] = CLICKS) -> list[dict[str, object]]:
    return [server.click(session, x, y, positive)["mask"] for x, y, positive in clicks]


@pytest.mark.check(35)
def test_a_session_rebuilt_from_its_state_is_the_same(server: Server) -> None:
    session = server.open()
    masks = play(server, session)
    state = server.client.get(f"/v1/sessions/{session}").json()
    again = server.open()
    assert [server.click(again, **click)["mask"] for click in state["clicks"]] == masks
    assert server.client.get(f"/v1/sessions/{again}").json()["image_sha256"] == state["image_sha256"]


@pytest.mark.check(36)
def test_evicted_caches_are_replayed(make_server: Callable[..., Server]) -> None:
    roomy, tight = make_server(), make_server(max_cache_bytes=1)
    masks = {}
    for name, server in {"roomy": roomy, "tight": tight}.items():
        first, second = server.open(), server.open()
        found = []
        for x, y, positive in CLICKS:
            found.append(server.click(first, x, y, positive)["mask"])
            found.append(server.click(second, 59 - x, y, positive)["mask"])
        found.append(server.change(first, "undo")["mask"])
        found.append(server.client.get(f"/v1/sessions/{second}/mask").json())
        masks[name] = found
    assert masks["tight"] == masks["roomy"]
    assert roomy.predictor.num_opened == 2
    assert tight.predictor.num_opened > 8, "every change of session found its cache gone"
    assert roomy.predictor.num_forwards == 2 * len(CLICKS)


@pytest.mark.check(35)
def test_idle_sessions_expire(server: Server) -> None:
    session, other = server.open(), server.open()
    server.now = 3000
    server.click(session, 5, 5)
    server.now = 3700
    assert server.click(session, 6, 6)["num_clicks"] == 2, "use keeps it alive"
    refused(server.client.get(f"/v1/sessions/{other}"), 410, "session_expired")
    refused(server.client.post(f"/v1/sessions/{other}/undo", json={}), 410, "session_expired")
    server.now = 3700 + 3601
    assert server.client.get("/v1/health").json()["sessions"] == 0
    refused(server.client.get(f"/v1/sessions/{session}/mask"), 410, "session_expired")


def test_reading_a_session_extends_it_and_returns_its_remaining_time(make_server: Callable[..., Server]) -> None:
    server = make_server(idle_minutes=10)
    session = server.open()
    for now in (590, 1180, 1770):
        server.now = now
        assert server.client.get(f"/v1/sessions/{session}").json()["expires_in_s"] == 600
    server.now = 1770.9  # too soon to be noted as use
    left = server.client.get(f"/v1/sessions/{session}").json()["expires_in_s"]
    assert left == 599
    server.now += left
    assert server.client.get(f"/v1/sessions/{session}").status_code == 200
    server.now += 601
    problem = refused(server.client.get(f"/v1/sessions/{session}"), 410, "session_expired")
    assert "600 s" in problem["detail"]


@pytest.mark.check(37)
def test_a_full_store_sends_retry_after(make_server: Callable[..., Server]) -> None:
    size = len(encoded(picture()))
    for server in (make_server(max_sessions=2), make_server(max_stored_bytes=2 * size)):
        first, _ = server.open(), server.open()
        answer = server.client.post("/v1/sessions", content=encoded(picture()), headers={"Content-Type": "image/png"})
        refused(answer, 503, "at_capacity")
        assert int(answer.headers["retry-after"]) <= 5
        server.client.delete(f"/v1/sessions/{first}")
        server.open()


@pytest.mark.check(37)
def test_a_full_store_decodes_nothing(make_server: Callable[..., Server], monkeypatch: pytest.MonkeyPatch) -> None:
    server = make_server(max_sessions=1)
    server.open()
    monkeypatch.setattr(context, "decode_image", lambda *_: pytest.fail("decoded"))
    answer = server.client.post("/v1/sessions", content=encoded(picture()), headers={"Content-Type": "image/png"})
    refused(answer, 503, "at_capacity")


def test_few_images_are_decoded_at_once(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    most, now, lock = 0, 0, threading.Lock()

    def decode(data: bytes, max_pixels: int, bit_depth: int) -> np.ndarray:
        nonlocal most, now
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.05)
        with lock:
            now -= 1
        return picture()

    for module in (context, masks_module):
        monkeypatch.setattr(module, "decode_image", decode)
    body = {"image": base64.b64encode(encoded(picture())).decode(), "clicks": []}
    with ThreadPoolExecutor(8) as pool:
        opened = [pool.submit(server.open) for _ in range(4)]
        predicted = [pool.submit(server.client.post, "/v1/predict", json=body) for _ in range(4)]
        assert all(future.result() for future in opened)
        assert {future.result().status_code for future in predicted} == {200}
    assert most == NUM_OPENING


@pytest.mark.check(34)
def test_a_repeated_click_answers_the_same_again(server: Server) -> None:
    session = server.open()
    first = server.click(session, 30, 20, sequence=1)
    again = server.click(session, 30, 20, sequence=1)
    assert {**again, "milliseconds": 0} == {**first, "milliseconds": 0}
    assert server.predictor.num_forwards == 1
    assert server.click(session, 10, 10, sequence=2)["num_clicks"] == 2


@pytest.mark.check(34)
@pytest.mark.parametrize("sequence", [1, 2, 4, 99])
def test_clicks_out_of_order_are_refused(server: Server, sequence: int) -> None:
    session = server.open()
    server.click(session, 30, 20, sequence=1)
    server.click(session, 10, 10, sequence=2)
    answer = server.client.post(f"/v1/sessions/{session}/clicks", json={"x": 30, "y": 20, "sequence": sequence})
    assert refused(answer, 409, "stale_sequence")["pointer"] == "/sequence"
    assert server.client.get(f"/v1/sessions/{session}").json()["sequence"] == 2


@pytest.mark.check(34)
def test_a_late_repetition_of_an_undone_click_is_refused(server: Server) -> None:
    session = server.open()
    server.click(session, 30, 20, sequence=1)
    for _ in range(2):
        assert server.change(session, "undo", sequence=2)["num_clicks"] == 0, "undo may be repeated too"
    answer = server.client.post(f"/v1/sessions/{session}/clicks", json={"x": 30, "y": 20, "sequence": 1})
    refused(answer, 409, "stale_sequence")
    assert server.change(session, "redo", sequence=3)["num_clicks"] == 1


@pytest.mark.check(33)
def test_concurrent_sessions_equal_sequential_sessions(server: Server) -> None:
    streams = [[((x + 7 * i) % 60, (y + 3 * i) % 40, positive) for x, y, positive in CLICKS] for i in range(6)]
    alone = [play(server, server.open(), stream) for stream in streams]
    sessions = [server.open() for _ in streams]
    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(lambda pair: play(server, *pair), zip(sessions, streams, strict=True)))
    assert together == alone


def test_many_clicks_on_one_session_are_all_made(server: Server) -> None:
    session = server.open()
    places = [(x, y) for x in range(0, 60, 12) for y in range(0, 40, 10)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda place: server.click(session, *place), places))
    assert sorted(answer["sequence"] for answer in answers) == list(range(1, len(places) + 1))
    whole = np.any([mask_of(answer) for answer in answers], axis=0)
    final = max(answers, key=lambda answer: answer["sequence"])
    np.testing.assert_array_equal(mask_of(final), whole)


@pytest.mark.check(34)
def test_two_repetitions_at_once_make_one_click(server: Server) -> None:
    session = server.open()
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: server.click(session, 30, 20, sequence=1), range(4)))
    assert {answer["num_clicks"] for answer in answers} == {1}
    assert server.predictor.num_forwards == 1


def test_the_default_limits_are_the_documented_ones() -> None:
    settings = Options()
    assert (settings.max_body_bytes, settings.max_pixels, settings.max_clicks) == (32 << 20, 32_000_000, 200)
    assert settings.idle_timeout_s == 3600
