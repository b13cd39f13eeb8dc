"""Query a server for golden sessions as a client does, and compare the answers of two versions."""

import json
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient

from models import rle
from serve.core.options import Options
from serve.http.app import create_app
from serve.start.local import LocalFleet

ADDRESS = "http://localhost"
OPENED_AT, NOW = 1_700_000_000.0, 1_700_000_060.0
"""Times in seconds: sessions were last used a minute before the test."""
VOLATILE = {"milliseconds", "expires_in_s", "instance", "request_id", "detail"}
SPARE = 4
"""Number of pixels of a mask that another CPU's rounding may change."""
OF_A_MASK = {"area", "bbox_xywh", "num_changed", "bbox"}


def server(checkpoints: Path, sessions: Path | str, *, tokens: Path | None = None, now: float = NOW) -> TestClient:
    """Return a client of a server with the two golden models and a fixed clock."""
    local = LocalFleet(
        Options(
            checkpoint=f"clicks={checkpoints / 'name'},exemplar={checkpoints / 'exemplar'}",
            sessions=str(sessions),
            tokens=None if tokens is None else str(tokens),
            num_threads=1,
            clicks_per_second=0,
            opens_per_minute=0,
        )
    )
    return TestClient(create_app(local.fleet, local.options, clock=lambda: now), ADDRESS)


def ask(client: TestClient, request: dict[str, Any]) -> tuple[int, Any]:
    """Send a request {"method", "path", "body"?, "secret"?}; returns status and JSON."""
    headers = {"Authorization": f"Bearer {request['secret']}"} if "secret" in request else {}
    answer = client.request(request["method"], request["path"], json=request.get("body"), headers=headers)
    return answer.status_code, answer.json() if answer.content else None


def kept(answer: Any) -> Any:
    """Return an answer without the fields that differ from call to call."""
    if isinstance(answer, dict):
        return {name: kept(value) for name, value in answer.items() if name not in VOLATILE}
    return [kept(value) for value in answer] if isinstance(answer, list) else answer


def lost(golden: Any, found: Any, at: str = "") -> list[str]:
    """List differences of `found` from `golden`; it may contain more, and masks may differ by SPARE pixels."""
    if isinstance(golden, dict) and isinstance(found, dict):
        if golden.keys() == {"size", "counts"}:
            return _lost_mask(golden, found, at)
        moved = any(_is_mask(value) and value != found.get(name) for name, value in golden.items())
        names = [name for name in golden if not (moved and name in OF_A_MASK)]
        return [text for name in names for text in lost(golden[name], found.get(name, "nothing"), f"{at}/{name}")]
    if isinstance(golden, list) and isinstance(found, list) and len(golden) == len(found):
        return [text for k, pair in enumerate(zip(golden, found, strict=True)) for text in lost(*pair, f"{at}/{k}")]
    return [] if golden == found else [f"{at}: {json.dumps(golden)} has become {json.dumps(found)}"]


def _is_mask(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {"size", "counts"}


def _lost_mask(golden: Any, found: Any, at: str) -> list[str]:
    if golden == found:
        return []
    if found.get("size") != golden["size"]:
        return [f"{at}: the mask's size {golden['size']} has become {found.get('size')}"]
    num = int((rle.decode(golden) ^ rle.decode(found)).sum())
    return [f"{at}: {num} pixels of the mask differ"] if num > SPARE else []
