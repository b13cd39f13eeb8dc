"""Golden sessions, in a file and in Redis: each state, each mask, and each further change."""

import base64
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis

from models import rle
from tests.golden.asking import ask, lost, server
from tests.serve.redis_server import RedisServer


@pytest.fixture(scope="module")
def running_redis() -> Iterator[RedisServer]:
    with RedisServer() as running:
        yield running


def in_a_file(golden: Path, folder: Path, _: Callable[[], RedisServer]) -> str:
    return str(shutil.copy(golden / "sessions" / "sessions.db", folder / "sessions.db"))


def in_redis(golden: Path, _: Path, redis_server: Callable[[], RedisServer]) -> str:
    running = redis_server()
    with running.client() as client:
        client.flushall()
        for key, kept in json.loads((golden / "sessions" / "redis.json").read_text()).items():
            put(client, key, kept["type"], kept["value"])
    return running.url


def put(client: redis.Redis, key: str, kind: str, value: Any) -> None:
    match kind:
        case "string":
            client.set(key, base64.b64decode(value))
        case "hash":
            client.hset(key, mapping={base64.b64decode(k): base64.b64decode(v) for k, v in value.items()})
        case "set":
            client.sadd(key, *map(base64.b64decode, value))
        case "zset":
            client.zadd(key, {base64.b64decode(member): score for member, score in value})
        case _:
            raise AssertionError(f"{key} is a {kind}")


@pytest.mark.networks
@pytest.mark.parametrize("kept", [in_a_file, in_redis])
def test_sessions_give_golden_answers(
    golden: Path, tmp_path: Path, request: pytest.FixtureRequest, kept: Callable[..., str]
) -> None:
    where = kept(golden, tmp_path, lambda: request.getfixturevalue("running_redis"))
    checkpoints, tokens = golden / "checkpoints", golden / "sessions" / "tokens.txt"
    clients = {False: server(checkpoints, where), True: server(checkpoints, where, tokens=tokens)}
    sessions = json.loads((golden / "sessions" / "answers.json").read_text())["sessions"]
    assert len(sessions) == 13
    for session in sessions:
        guarded = session["about"] == "of an owner"
        for request_ in session["asks"]:
            status, answer = ask(clients[guarded], request_)
            at = f"{session['about']}: {request_['method']} {request_['path']}"
            assert status == request_["status"], f"{at}: {answer}"
            assert lost(request_["answer"], answer, at) == []
    health = clients[False].get("/v1/health").json()
    assert health["sessions"] == 12


def test_mask_that_differs_from_golden_is_found() -> None:
    """What is compared can fail: a mask of more pixels, a state that says something else, a key that is gone."""
    shown = np.zeros((4, 6), bool)
    shown[1:3, 1:4] = True
    mask = dict(rle.encode(shown))
    golden = {"mask": mask, "area": 6, "sequence": 3, "clicks": [{"x": 1}]}
    assert lost(golden, {**golden, "more": 1}) == []
    other = {**golden, "mask": dict(rle.encode(~shown)), "area": 18}
    assert lost(golden, other) == ["/mask: 24 pixels of the mask differ"]
    assert len(lost(golden, {**golden, "area": 7})) == 1
    assert len(lost(golden, {"mask": mask, "area": 6, "clicks": [{"x": 1}, {"x": 2}]})) == 2
