"""More users than the capacity, on real processes: some are refused at once, the others are served."""

import threading
import time
from pathlib import Path
from statistics import median

import numpy as np
import pytest

from serve.core.options import Options
from tests.serve.conftest import encoded, picture
from tests.serve.processes import Running, client, open_session, served
from tests.serve.test_model import small_checkpoint

__all__ = ["small_checkpoint"]
LIMIT = Options().max_waiting


def annotate(running: Running, session: str, stop: threading.Event, found: list[tuple[int, float]]) -> None:
    """Preview one click after the other; a refused one is repeated a little sooner than a polite client would."""
    with client(running) as http:
        while not stop.is_set():
            started = time.perf_counter()
            where = {"x": 5, "y": 5 + len(found) % 30}
            status = http.post(f"/v1/sessions/{session}/preview", json=where).status_code
            found.append((status, time.perf_counter() - started))
            if status == 503:
                time.sleep(0.1)


@pytest.mark.check(37, 38, 52)
@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("mode", ["plain", "ray"])
def test_beyond_capacity_refusals_are_quick_and_the_rest_is_served(
    mode: str, small_checkpoint: Path, tmp_path: Path
) -> None:
    options = ["--refine", "cfr_4", *(["--plain"] if mode == "plain" else [])]
    stop, found, refusals = threading.Event(), [], []
    with served(small_checkpoint, tmp_path, *options) as running, client(running) as http:
        sessions = [open_session(http, encoded(picture())) for _ in range(LIMIT + 32)]
        threads = [threading.Thread(target=annotate, args=(running, each, stop, found)) for each in sessions]
        began = time.perf_counter()
        for thread in threads:
            thread.start()
        while not any(status == 503 for status, _ in found):
            time.sleep(0.05)
            assert time.perf_counter() - began < 60, "it never was full"
        while len(refusals) < 30:
            started = time.perf_counter()
            answer = http.post(f"/v1/sessions/{sessions[0]}/preview", json={"x": 1, "y": 1})
            if answer.status_code == 503:
                refusals.append(time.perf_counter() - started)
                assert answer.json()["code"] == "at_capacity", answer.text
                assert 1 <= int(answer.headers["retry-after"]) <= 5
            time.sleep(0.02)
        took, num_served = time.perf_counter() - began, sum(status == 200 for status, _ in found)
        stop.set()
        for thread in threads:
            thread.join(60)
        assert http.get("/v1/health/ready").status_code == 200
        assert http.post(f"/v1/sessions/{sessions[0]}/clicks", json={"x": 5, "y": 5}).status_code == 200
    assert {status for status, _ in found} == {200, 503}
    served_in = [seconds for status, seconds in found if status == 200]
    # Those that were still in the line when the clock stopped are no part of its time.
    each, p95 = took / num_served, float(np.quantile(served_in, 0.95))
    print(mode, f"refused in {1000 * median(refusals):.0f} ms (median of {len(refusals)}, at most", end=" ")
    print(f"{1000 * max(refusals):.0f}); one click {1000 * each:.0f} ms ({num_served}), accepted ones p95 {p95:.2f} s")
    # The clients share the server's CPUs: their part is in these times.
    assert median(refusals) < 0.05
    # As many as may wait, one after the other, is the longest that anybody accepted waits.
    assert p95 < 2 * LIMIT * each
