"""What needs no click is done when a session opens, and a failure of that is no failure of opening."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from models import checkpoint
from models.interaction import Click
from models.networks import create
from models.predictor import Predictor
from models.steps import Start
from serve.engine import Engine
from serve.masks import LocalMasks, Work
from serve.settings import Settings
from serve.values import Basis
from tests.serve.conftest import Server, encoded, mask_of, picture

TINY = {"dim": 32, "depth": 4, "heads": 2, "neck_dims": (8, 8, 16, 16), "head_dim": 16, "input_hw": (64, 64)}


def test_opening_looks_ahead_and_a_click_does_not(server: Server) -> None:
    session = server.open()
    assert server.predictor.ahead == [0]
    server.click(session, 30, 20)
    server.click(session, 10, 20)
    server.change(session, "undo")
    assert server.predictor.ahead == [0]
    server.engine.rebase(server.engine.open(picture(), Basis()), Basis(), Basis(mask_threshold=0.4))
    assert server.predictor.ahead == [0, 0]
    start = {"size": [40, 60], "counts": [2400]}
    server.engine.rebase(server.engine.open(picture(), Basis()), Basis(), Basis(initial_mask=start))  # pyright: ignore[reportArgumentType]
    assert server.predictor.ahead == [0] * 4


def test_opening_does_not_fail_with_what_may_be_done_later(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    server.predictor.fail_ahead = True
    with caplog.at_level(logging.ERROR, "maskwright.serve"):
        session = server.open()
    assert "no memory" in caplog.text
    assert mask_of(server.click(session, 30, 20)).any()
    assert server.engine.healthy


@pytest.fixture(scope="module")
def starting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    return checkpoint.save(create("icmformer_vit_base", **TINY), tmp_path_factory.mktemp("m") / "c")


def test_what_was_done_counts_as_cache_and_may_vanish(starting: Path) -> None:
    predictor, image = Predictor(starting), picture()
    starts = 0
    own = predictor.answer

    def counted(requests: list) -> list:  # pyright: ignore[reportMissingTypeArgument]
        nonlocal starts
        starts += isinstance(requests[0], Start)
        return own(requests)

    predictor.answer = counted
    engine = Engine(predictor)
    opened = engine.open(image, Basis())
    assert sum(opened.memory.values()) == 4 * 3 * 64 * 64 + 4 * 32 * (64 // 16) ** 2
    masks = LocalMasks(engine, Settings(max_cache_bytes=1))
    work = [Work(session_id=n, load=lambda: encoded(image), basis=Basis(), clicks=(Click(y=9, x=9),)) for n in "ab"]
    masks.open("a", encoded(image), image, Basis())
    first = masks.mask(work[0]).mask
    assert starts == 2
    masks.mask(work[1])
    assert not masks.has("a")
    np.testing.assert_array_equal(masks.mask(work[0]).mask, first)
    assert starts == 4
