"""Real networks with several users: the results equal those of one user after the other, within the cache limit."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from models.interaction import Click
from models.predictor import Predictor
from serve.core.options import Options
from serve.core.values import Basis
from serve.engine.asking import MASK, Work
from serve.engine.batching import Batched
from serve.engine.engine import Engine
from serve.engine.local_model import LocalModel
from tests.serve.conftest import encoded, picture
from tests.training.toys import TOYS

CLICKS = [(30, 20, True), (5, 5, False), (50, 30, True), (12, 33, True)]
NETWORKS = [
    "simpleclick",
    *(pytest.param(name, marks=pytest.mark.networks) for name in ("emc segformer", "mobile_sam")),
]


def play(engine: Engine, number: int) -> list[bytes]:
    """Return the probabilities after each click of a new session, whose bits show more than a mask would."""
    rng = np.random.default_rng(number)
    session = engine.open(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8), Basis())
    found: list[bytes] = []
    clicks = tuple(Click(y=y, x=x + number, positive=positive) for x, y, positive in CLICKS)
    for num in (1, 2, 3, 4, 2):
        prob = engine.walk(session, clicks[:num]).mask_prob
        assert prob is not None
        found.append(prob.tobytes())
    return found


@pytest.mark.check(33)
@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("network", NETWORKS)
def test_concurrent_streams_equal_sequential_streams(network: str, alone: bool) -> None:
    predictor = Predictor(TOYS[network]())
    if not alone:  # as in a replica on a CPU
        predictor.answer = Batched(predictor.answer)
    in_turn = [play(Engine(predictor), number) for number in range(3)]
    engine = Engine(predictor, alone=alone)
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(lambda number: play(engine, number), range(3))) == in_turn
    assert len({bits for stream in in_turn for bits in stream}) == 3 * 4, "all differ, but for what was undone"


@pytest.mark.check(36)
@pytest.mark.parametrize("network", NETWORKS)
def test_the_cache_keeps_to_its_limit_and_masks_stay_the_same(network: str) -> None:
    predictor, data = Predictor(TOYS[network]()), encoded(picture(48, 64))
    roomy = LocalModel(Engine(predictor), Options())
    roomy.ask(MASK, work("a", data, 4))
    one = roomy._total()
    tight = LocalModel(Engine(predictor), Options(max_cache_bytes=int(2.5 * one)))
    for clicks in range(1, 4):
        for name in "abcd":
            asked = work(name, data, clicks)
            assert tight.ask(MASK, asked).encoded == roomy.ask(MASK, asked).encoded
            assert tight._total() <= 2.5 * one
            assert set(tight._sizes) == set(tight._cached)
    assert list(tight._cached)[-2:] == ["c", "d"], "the ones used last"
    assert len(roomy._cached) == 4


def work(name: str, data: bytes, num: int) -> Work:
    clicks = tuple(Click(y=y, x=x, positive=positive) for x, y, positive in CLICKS[:num])
    return Work(session_id=name, load=lambda: data, basis=Basis(), clicks=clicks)
