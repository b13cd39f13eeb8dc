"""The transfers between host and device in a session: an image once, then clicks to the device and run lengths back."""

import ast
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models import device, mask_runs, rle
from models.interaction import Click
from models.predictor import Predictor
from serve.core.options import Options
from serve.core.values import Basis
from serve.engine.asking import MASK, OPEN, PROBABILITY, Work
from serve.engine.engine import Engine
from serve.engine.local_model import LocalModel
from serve.on_ray.halves import Encoded, encoder, halves
from serve.on_ray.tickets import Kept, Ticket, by_ticket, regardless
from serve.on_ray.travel import pack, unpack
from tests.serve.conftest import picture
from tests.training.toys import TOYS

ROOT = Path(__file__).parents[2]
HW = (40, 60)
CLICKS = tuple(
    Click(y=y, x=x, positive=positive)
    for x, y, positive in [
        (30, 20, True),
        (5, 5, False),
        (50, 30, True),
        (12, 33, True),
        (40, 8, False),
        (20, 20, True),
    ]
)
A_CLICK = 11
"""Bytes of a click: two float32 and three flags."""
LOOKS = 2
"""Forwards of a click at most: a split network runs both halves at a first click."""


class Crossings:
    """Bytes up to the device and down to the host since `clear`, of the process with the session."""

    def __init__(self) -> None:
        self.here = True
        self.clear()

    def clear(self) -> None:
        self.up = self.down = 0

    @contextmanager
    def elsewhere(self) -> Iterator[None]:
        """Count nothing while the block runs: it stands for another process."""
        self.here = False
        try:
            yield
        finally:
            self.here = True

    def to_device(self, array: np.ndarray, where: Any) -> torch.Tensor:
        self.up += array.nbytes if self.here else 0
        return TO_DEVICE(array, where)

    def to_host(self, tensor: torch.Tensor) -> np.ndarray:
        self.down += tensor.nbytes if self.here else 0
        return TO_HOST(tensor)


TO_DEVICE, TO_HOST = device.to_device, device.to_host


@pytest.fixture
def crossings(monkeypatch: pytest.MonkeyPatch) -> Crossings:
    """Counts, as on a machine whose device has its own memory."""
    found = Crossings()
    for module in list(sys.modules.values()):
        for name, function in (("to_device", TO_DEVICE), ("to_host", TO_HOST)):
            if getattr(module, name, None) is function and module.__name__.startswith(("models", "serve")):
                monkeypatch.setattr(module, name, getattr(found, name))
    monkeypatch.setattr(mask_runs, "ON_HOST", ())
    return found


def in_one_process(name: str, crossings: Crossings) -> Predictor:
    return Predictor(TOYS[name]())


def on_two_deployments(name: str, crossings: Crossings) -> Predictor:
    predictor = Predictor(TOYS[name]())
    own = predictor.answer
    kept = Kept(own, 1 << 24)
    heavy: Any = (lambda requests, _: own(requests)) if predictor.network.traits.prompted else kept

    def send(requests: list[Any], tickets: list[Ticket], route: str | None, version: str) -> Encoded:
        sent = pack(requests)
        with crossings.elsewhere():
            encoded = encoder(lambda asked: pack(heavy(unpack(asked), tickets)), version)(sent, version)
        return unpack(encoded)

    predictor.answer = halves(regardless(own), by_ticket(send), predictor.model_version)
    return predictor


def as_runs(made: Any) -> int:
    """Bytes of the edges of a mask, and of whether its first pixel belongs to it."""
    runs = rle.decode_runs(made.encoded, HW)
    return 8 * (len(runs) - (1 if runs[0] == 0 and len(runs) > 1 else 0))


SPLIT = ("emc segformer", "mobile_sam", "sam2")


@pytest.mark.parametrize(
    ("name", "processes"),
    [(name, in_one_process) for name in ("simpleclick", "icmformer", *SPLIT)]
    + [(name, on_two_deployments) for name in SPLIT],
)
def test_a_correction_sends_clicks_and_gets_run_lengths(
    name: str, processes: Callable[[str, Crossings], Predictor], crossings: Crossings
) -> None:
    masks = LocalModel(Engine(processes(name, crossings)), Options())
    image = picture(*HW)
    masks.ask(OPEN, Work(session_id="a", basis=Basis(), image=image))
    if processes is in_one_process:
        assert (crossings.up, crossings.down) == (image.nbytes, 0)
    for num in (1, 2, 3, 4, 5, 6, 5):  # the last one is undone
        crossings.clear()
        made = masks.ask(MASK, Work(session_id="a", basis=Basis(), clicks=CLICKS[:num]))
        if processes is on_two_deployments and num == 1:
            continue  # its features come, once
        assert crossings.up <= A_CLICK * num * LOOKS
        assert crossings.down == as_runs(made)
    assert crossings.up == 0, "what is undone is still there"
    crossings.clear()
    levels = masks.ask(PROBABILITY, Work(session_id="a", basis=Basis(), clicks=CLICKS[:5]))
    assert (crossings.up, crossings.down) == (0, levels.size)


def test_run_lengths_do_not_depend_on_the_device_of_the_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    masks = [rng.random((h, w)) < p for h, w in ((1, 1), (1, 9), (7, 1), (13, 17)) for p in (0.0, 0.3, 0.7, 1.0)]
    monkeypatch.setattr(mask_runs, "ON_HOST", ())
    for mask in masks:
        np.testing.assert_array_equal(mask_runs.runs_of(torch.from_numpy(mask)), rle.runs_of(mask))
        runs = rle.runs_of(mask)
        found = [[rle.holds(runs, mask.shape[0], y, x) for x in range(mask.shape[1])] for y in range(mask.shape[0])]
        np.testing.assert_array_equal(found, mask)


MOVING = {"to", "cpu", "cuda", "numpy"}


def test_only_two_functions_copy_between_host_and_device() -> None:
    paths = [ROOT / "models/predictor.py", *(ROOT / "models/refinement").glob("*.py"), *(ROOT / "serve").rglob("*.py")]
    assert len(paths) > 50
    calls = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.func.attr}"
        for path in paths
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in MOVING
    ]
    assert not calls, "use models.device.to_device or to_host"
