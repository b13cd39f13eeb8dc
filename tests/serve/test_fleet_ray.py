"""A model is replaced on Ray Serve while several users click: no answer fails, and every mask is of one version."""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from models import checkpoint, rle
from models.errors import InputError
from models.predictor import Predictor
from serve.core.options import Options
from serve.on_ray import serving
from tests.ports import free_port
from tests.serve.conftest import encoded
from tests.serve.test_replicas import pids_of
from tests.training.toys import TOYS, toy

HW = (48, 64)
NUM_CLICKS = 4  # then the session is cleared
NUM_PEOPLE = 4


@pytest.fixture
def serving_ray(ray_cluster: None) -> Iterator[None]:
    import ray.serve as ray_serve

    yield
    ray_serve.shutdown()


@dataclass
class Annotator:
    """Clicks over plain HTTP, without retries, and keeps every answer."""

    address: str
    model: str
    seed: int
    stopped: threading.Event
    pause_s: float = 0.0
    answers: list[tuple[list[tuple[int, int, bool]], httpx.Response]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        self.image = self.rng.integers(0, 256, (*HW, 3), dtype=np.uint8)
        self.thread = threading.Thread(target=self.run)

    def run(self) -> None:
        with httpx.Client(base_url=self.address, timeout=120, trust_env=False) as client:
            opened = client.post(
                f"/v1/sessions?model={self.model}", content=encoded(self.image), headers={"Content-Type": "image/png"}
            )
            session, clicks = f"/v1/sessions/{opened.json()['session_id']}", []
            while not self.stopped.wait(self.pause_s):
                if len(clicks) == NUM_CLICKS:
                    clicks = []
                    self.answers.append(([], client.post(f"{session}/clear")))
                    continue
                x, y, positive = int(self.rng.integers(HW[1])), int(self.rng.integers(HW[0])), bool(len(clicks) != 1)
                clicks = [*clicks, (x, y, positive)]
                body = {"x": x, "y": y, "positive": positive}
                self.answers.append((clicks, client.post(f"{session}/clicks", json=body)))

    @property
    def versions(self) -> list[str]:
        return [answer.json()["model_version"] for _, answer in self.answers]


def wait_until_all_have(people: list[Annotator], num: int) -> None:
    """Wait until each annotator has so many more answers than now."""
    wanted = [len(each.answers) + num for each in people]
    end = time.monotonic() + 120
    while any(len(each.answers) < least for each, least in zip(people, wanted, strict=True)):
        assert time.monotonic() < end, "answers do not come"
        time.sleep(0.01)


def expected_masks(folder: Path, person: Annotator) -> Iterator[dict[str, Any]]:
    """Return the masks that one process makes of the same clicks."""
    session = Predictor(folder).open(person.image)
    for clicks, _ in person.answers:
        while len(session.clicks) and len(session.clicks) >= max(1, len(clicks)):
            session.undo()
        if clicks:
            for x, y, positive in clicks[len(session.clicks) :]:
                session.click(y, x, positive)
        yield dict(rle.encode(session.mask))


@pytest.mark.check(49)
@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(400)
@pytest.mark.usefixtures("serving_ray")
@pytest.mark.parametrize(
    ("name", "proxy"), [("emc_segformer_b0", False), ("mobile_sam", False), ("emc_segformer_b0", True)]
)
def test_a_model_is_replaced_under_load_and_no_click_fails(name: str, proxy: bool, tmp_path: Path) -> None:
    before, after = (checkpoint.save(toy(name, seed), tmp_path / str(seed)) for seed in (1, 2))
    whole = checkpoint.save(TOYS["simpleclick"](), tmp_path / "whole")
    args = Options(
        checkpoint=f"{whole},b={before}",
        num_threads=1,
        device="cpu",
        sessions=str(tmp_path / "s.db"),
        clicks_per_second=0,
    )
    old, new, other = (Predictor(folder).model_version for folder in (before, after, whole))
    port, stopped = free_port(), threading.Event()
    people = [Annotator(f"http://127.0.0.1:{port}", "b", n, stopped) for n in range(NUM_PEOPLE - 1)]
    neighbour = Annotator(f"http://127.0.0.1:{port}", "default", NUM_PEOPLE, stopped)
    everybody = [*people, neighbour]
    with serving.serving(args, "127.0.0.1", port, proxy=proxy) as take:
        pids = {
            name: pids_of(name)
            for name in ("FirstClick", "FirstClick_b", "Correction_b", *(["Maskwright"] if proxy else []))
        }
        assert all(len(each) == 1 for each in pids.values()), pids
        for each in everybody:
            each.thread.start()
        try:
            wait_until_all_have(everybody, NUM_CLICKS + 2)
            num_before = [len(each.answers) for each in people]
            started = time.monotonic()
            take("b", str(after))
            seconds = time.monotonic() - started
            wait_until_all_have(everybody, 1)  # under way while it was replaced
            num_after = [len(each.answers) for each in people]
            wait_until_all_have(everybody, NUM_CLICKS + 2)
            damaged = tmp_path / "damaged"
            damaged.mkdir()
            for path in before.iterdir():
                (damaged / path.name).write_bytes(path.read_bytes()[:3000])
            with pytest.raises(InputError):
                take("b", str(damaged))
            wait_until_all_have(everybody, 2)
        finally:
            stopped.set()
            for each in everybody:
                each.thread.join(120)
        assert pids_of("FirstClick") == pids["FirstClick"], "the other model's replica was left alone"
        if proxy:
            assert pids_of("Maskwright") == pids["Maskwright"], "and so was the ingress"
        assert pids_of("FirstClick_b") != pids["FirstClick_b"]
        assert pids_of("Correction_b") != pids["Correction_b"]
    answers = [answer for each in everybody for _, answer in each.answers]
    assert [answer.text for answer in answers if answer.status_code != 200] == []
    assert set(neighbour.versions) == {other}
    masks = {version: folder for version, folder in ((old, before), (new, after), (other, whole))}
    for each in everybody:
        expected = {version: list(expected_masks(masks[version], each)) for version in set(each.versions)}
        for number, (version, (_, answer)) in enumerate(zip(each.versions, each.answers, strict=True)):
            assert answer.json()["mask"] == expected[version][number], (version, number)
    for each, least, most in zip(people, num_before, num_after, strict=True):
        assert set(each.versions[:least]) == {old}
        assert set(each.versions[most:]) == {new}
        assert each.versions == sorted(each.versions, key=[old, new].index), "no annotator returns to the old one"
    slowest = max(answer.elapsed.total_seconds() for answer in answers)
    print(f"replaced in {seconds:.1f} s under {len(answers)} answers, slowest {slowest:.2f} s")


PAUSE_S = 0.1
NUM_ROLLS = 3


@pytest.mark.check(49)
@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(400)
@pytest.mark.usefixtures("serving_ray")
@pytest.mark.parametrize("proxy", [False, True])
def test_clicks_every_tenth_of_a_second_survive_three_updates(proxy: bool, tmp_path: Path) -> None:
    folders = [checkpoint.save(toy("mobile_sam", seed), tmp_path / str(seed)) for seed in (1, 2)]
    whole = checkpoint.save(TOYS["simpleclick"](), tmp_path / "whole")
    options = Options(
        checkpoint=f"{whole},b={folders[0]}",
        num_threads=1,
        device="cpu",
        sessions=str(tmp_path / "s.db"),
        clicks_per_second=0,
    )
    versions = [Predictor(folder).model_version for folder in folders]
    port, stopped = free_port(), threading.Event()
    people = [
        Annotator(f"http://127.0.0.1:{port}", model, n, stopped, pause_s=PAUSE_S)
        for n, model in enumerate(("b", "default"))
    ]
    with serving.serving(options, "127.0.0.1", port, proxy=proxy) as take:
        others = ("FirstClick", *(["Maskwright"] if proxy else []))
        pids = {name: pids_of(name) for name in others}
        for each in people:
            each.thread.start()
        try:
            wait_until_all_have(people, 2)
            for number in range(1, NUM_ROLLS + 1):
                take("b", str(folders[number % 2]))
                wait_until_all_have(people, NUM_CLICKS)
                assert people[0].versions[-1] == versions[number % 2]
        finally:
            stopped.set()
            for each in people:
                each.thread.join(120)
        assert {name: pids_of(name) for name in others} == pids, "only the model that was replaced has new processes"
    answers = [answer for each in people for _, answer in each.answers]
    assert [answer.text for answer in answers if answer.status_code != 200] == []
    slowest = max(answer.elapsed.total_seconds() for answer in answers)
    print(f"{NUM_ROLLS} rolls under {len(answers)} answers, slowest {slowest:.2f} s")
