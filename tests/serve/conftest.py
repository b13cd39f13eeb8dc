import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from models import rle
from serve.core.options import Options
from serve.core.tokens import Secrets, Token
from serve.engine.engine import Engine
from serve.http.app import create_app
from tests.serve.disks import DiskPredictor
from tests.serve.redis_server import RedisServer

ADDRESS = "http://localhost"


def picture(height: int = 40, width: int = 60) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


def encoded(image: np.ndarray | Image.Image, format: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(stream, format, **options)
    return stream.getvalue()


@dataclass
class Server:
    """The app on a fake predictor, a client, and a clock that a test sets."""

    options: Options = field(default_factory=Options)
    secrets: Secrets = field(default_factory=Secrets)
    now: float = 0.0

    def __post_init__(self) -> None:
        self.predictor = DiskPredictor()
        self.engine = Engine(self.predictor)
        self.app = create_app(self.engine, self.options, clock=lambda: self.now, secrets=self.secrets)
        self.client = TestClient(self.app, ADDRESS, raise_server_exceptions=False)

    def open(self, image: bytes | None = None) -> str:
        answer = self.client.post(
            "/v1/sessions", content=image or encoded(picture()), headers={"Content-Type": "image/png"}
        )
        assert answer.status_code == 201, answer.text
        return answer.json()["session_id"]

    def click(self, session: str, x: float, y: float, positive: bool = True, **rest: Any) -> dict[str, Any]:
        answer = self.client.post(f"/v1/sessions/{session}/clicks", json={"x": x, "y": y, "positive": positive, **rest})
        assert answer.status_code == 200, answer.text
        return answer.json()

    def change(self, session: str, kind: str, **body: Any) -> dict[str, Any]:
        answer = self.client.post(f"/v1/sessions/{session}/{kind}", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()


def refused(answer: Any, status: int, code: str) -> dict[str, Any]:
    """Assert that this is a well-formed problem, and hand it over."""
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    problem = answer.json()
    assert problem["code"] == code, problem
    assert problem["status"] == status
    assert {"type", "title", "detail", "instance"} <= set(problem)
    return problem


def mask_of(answer: dict[str, Any]) -> np.ndarray:
    return rle.decode(answer["mask"])


@pytest.fixture(scope="session")
def running_redis() -> Iterator[RedisServer]:
    with RedisServer() as running:
        yield running


@pytest.fixture
def redis_url(running_redis: RedisServer) -> str:
    """An empty Redis, which forgets everything with the process."""
    with running_redis.client() as client:
        client.flushall()
    return running_redis.url


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def make_server() -> Callable[..., Server]:
    def make(tokens: tuple[Token, ...] = (), label_studio_token: str | None = None, **options: Any) -> Server:
        return Server(Options(**options), Secrets(tokens=tokens, label_studio=label_studio_token))

    return make
