"""Valid and invalid requests generated from the OpenAPI document: every answer is one that the document promises."""

import base64
import contextlib
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.clients.servers import our_server

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
BUDGET_S = 60.0
EXAMPLES = 24


@pytest.fixture(scope="module")
def unhurried(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server that lets one client come as fast as it can."""
    options = ("--clicks-per-second", "0", "--opens-per-minute", "0")
    with our_server(tmp_path_factory.mktemp("schema"), *options) as address:
        yield address


class Session:
    """A session with a finished object and one at hand; a fresh one every few calls, whatever was done to the last."""

    def __init__(self, address: str, image: bytes) -> None:
        self._http = httpx.Client(base_url=address, timeout=30, trust_env=False)
        self._body = {"image": base64.b64encode(image).decode()}
        self._id, self._used = "", 0

    def id(self) -> str:
        if self._used % 6 == 0 or self._http.get(f"/v1/sessions/{self._id}").status_code != 200:
            self._id = self._http.post("/v1/sessions", json=self._body).json()["session_id"]
            for change, body in (("clicks", {"x": 9, "y": 9}), ("finish", {}), ("clicks", {"x": 9, "y": 9})):
                if self._used % 12 or change == "clicks":
                    self._http.post(f"/v1/sessions/{self._id}/{change}", json=body).raise_for_status()
        self._used += 1
        return self._id


@pytest.mark.check(50)
def test_every_answer_is_documented(unhurried: str, image_file: bytes) -> None:
    schema = schemathesis.openapi.from_url(f"{unhurried}/openapi.json")
    operations = [result.ok() for result in schema.get_all_operations()]
    assert len(operations) >= 25
    session, deadline = Session(unhurried, image_file), time.monotonic() + BUDGET_S
    statuses: dict[str, Counter[int]] = {}
    for place, operation in enumerate(operations):
        until = time.monotonic() + (deadline - time.monotonic()) / (len(operations) - place)
        counts = statuses[operation.label] = Counter()
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            run(operation, mode, session, until, counts)
    print(*(f"{label}: {dict(counts)}" for label, counts in statuses.items()), sep="\n")
    assert all(statuses.values()), statuses
    good = [label for label, counts in statuses.items() if any(200 <= status < 300 for status in counts)]
    assert len(good) >= 0.7 * len(operations), "most operations were met in earnest, not refused at the door"


def run(operation: Any, mode: GenerationMode, session: Session, until: float, counts: Counter[int]) -> None:
    """Send what fits this operation's description and what does not, by turns, on a session that is there."""
    # Nothing is shrunk: each attempt costs a request, and the first failure says enough.
    phases = (Phase.explicit, Phase.generate)

    @settings(
        max_examples=EXAMPLES, deadline=None, phases=phases, suppress_health_check=list(HealthCheck), database=None
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def each(case: Any) -> None:
        if time.monotonic() > until:
            return
        if "session_id" in (case.path_parameters or {}) and sum(counts.values()) % 4:
            case.path_parameters["session_id"] = session.id()
        response = case.call(timeout=30)
        counts[response.status_code] += 1
        case.validate_response(response, checks=CHECKS)

    with contextlib.suppress(Unsatisfiable):  # what takes nothing cannot be asked wrongly
        each()
