"""Redis with Ray Serve: several ingresses on the same sessions."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models import checkpoint
from models.errors import InputError
from models.predictor import Predictor
from serve.client import Client
from serve.core.options import Options
from serve.on_ray import serving
from serve.sessions.store_redis import RedisStore
from tests.ports import free_port
from tests.serve.conftest import encoded, picture
from tests.serve.test_replicas import (
    pids_of,
    serving_ray,  # noqa: F401
)
from tests.training.toys import TOYS

SECRET = "hush!hush"


@pytest.fixture
def toy_checkpoint(tmp_path: Path) -> Path:
    return checkpoint.save(TOYS["simpleclick"](), tmp_path / "toy")


@pytest.mark.ray
@pytest.mark.timeout(240)
@pytest.mark.usefixtures("serving_ray")
def test_two_ingresses_on_ray_share_sessions(
    redis_url: str, toy_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port, image = free_port(), picture(48, 64)
    monkeypatch.setattr(serving, "Maskwright", serving.Maskwright.options(num_replicas=2))
    args = Options(checkpoint=str(toy_checkpoint), num_threads=1, device="cpu", sessions=redis_url)
    local = Predictor(toy_checkpoint).open(image)
    with serving.serving(args, "127.0.0.1", port, proxy=True):
        assert len(pids_of("Maskwright")) == 2
        with Client(f"http://127.0.0.1:{port}") as first:
            session = first.open(encoded(image))
        for turn in range(12):  # a connection each, so that both ingresses get some
            with Client(f"http://127.0.0.1:{port}") as client:
                found = replace(session, client=client, sequence=turn).click(5 * turn, 4 * turn, turn % 2 == 0)
            local.click(4 * turn, 5 * turn, turn % 2 == 0)
            np.testing.assert_array_equal(found, local.mask)
        latest = [client["cmd"] for client in RedisStore(redis_url)._redis.client_list()]
        assert len(latest) >= 3, "two ingresses, and who asks"
        assert "info" not in latest, "one of them has not been asked anything since it started"


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(240)
@pytest.mark.usefixtures("serving_ray")
def test_an_ingress_without_its_redis_is_refused(toy_checkpoint: Path) -> None:
    nowhere = f"redis://:{SECRET}@127.0.0.1:{free_port()}/0"
    args = Options(checkpoint=str(toy_checkpoint), num_threads=1, device="cpu", sessions=nowhere)
    with (
        pytest.raises(InputError, match="start Redis there") as refusal,
        serving.serving(args, "127.0.0.1", free_port(), proxy=True),
    ):
        raise AssertionError("it serves")
    assert "hush" not in str(refusal.value)
