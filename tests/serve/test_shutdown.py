"""After SIGTERM, accepted requests are answered, new ones are not, and the process exits with 0 in time."""

import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.serve.conftest import encoded, picture
from tests.serve.processes import client, open_session, served
from tests.serve.test_model import small_checkpoint

__all__ = ["small_checkpoint"]
NUM_CLIENTS = 32
"""So many that a click waits longer than connecting takes."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One click: when it was sent and when it was answered, with what."""

    sent: float
    done: float
    outcome: int | str


def click_until(stop: Callable[[], bool], http: httpx.Client, session: str, asked: list[Asked]) -> None:
    """Click, each time over a new connection, until connections are refused."""
    while not stop():
        sent = time.monotonic()
        try:
            outcome: int | str = http.post(f"/v1/sessions/{session}/clicks", json={"x": 5, "y": 5}).status_code
            if outcome == 422:  # as many clicks as a session may have
                outcome = http.post(f"/v1/sessions/{session}/clear").status_code
        except httpx.ConnectError:
            outcome = "refused"
        except httpx.TransportError as error:
            outcome = type(error).__name__
        asked.append(Asked(sent=sent, done=time.monotonic(), outcome=outcome))
        if outcome == "refused":
            return


@pytest.mark.check(48)
@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("mode", ["plain", "ray"])
def test_a_signal_ends_the_server_after_all_requests_are_answered(
    mode: str, small_checkpoint: Path, tmp_path: Path
) -> None:
    options = ["--refine", "cfr_4", *(["--plain"] if mode == "plain" else [])]
    with served(small_checkpoint, tmp_path, *options) as running:
        each_new = httpx.Limits(max_keepalive_connections=0)
        clients = [client(running, limits=each_new) for _ in range(NUM_CLIENTS)]
        sessions = [open_session(http, encoded(picture())) for http in clients]
        ended, asked = threading.Event(), [[] for _ in sessions]
        threads = [
            threading.Thread(target=click_until, args=(ended.is_set, *each))
            for each in zip(clients, sessions, asked, strict=True)
        ]
        for thread in threads:
            thread.start()
        time.sleep(2)
        signalled = time.monotonic()
        running.process.send_signal(signal.SIGTERM)
        code = running.process.wait(60)
        took = time.monotonic() - signalled
        ended.set()
        for thread in threads:
            thread.join(30)
        for http in clients:
            http.close()
    rows = [each for rows in asked for each in rows]
    # What is connecting at that very moment may be refused; all else was accepted before.
    before = [each for each in rows if each.sent < signalled - 0.1]
    under_way = [each for each in before if each.done > signalled]
    after = {each.outcome for each in rows if each.sent >= signalled - 0.1}
    print(mode, "exit", code, f"after {took:.1f} s;", len(under_way), "under way; later ones:", after)
    assert {each.outcome for each in before} == {200}, running.said()
    assert under_way, "nothing was under way: this tested nothing"
    assert after <= {200, 404, 503, "refused", "ReadError", "RemoteProtocolError"}
    assert code == 0, running.said()
    assert took <= 30
    assert len(running.said().splitlines()) == 2, f"more than that it starts, and is ready: {running.said()}"
