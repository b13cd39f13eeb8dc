"""Two deployments on Ray Serve: masks equal those of one process, and no kill loses a session."""

import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models import checkpoint, onnx_backend
from models.predictor import Predictor
from serve.client import Client, ServerError
from serve.core.options import Options
from serve.on_ray import serving
from serve.on_ray.app import build_app, is_split, share_for
from serve.start.local import serving_here
from tests.ports import free_port
from tests.serve.conftest import encoded, picture
from tests.training.toys import TOYS, toy

HALVES = ["emc segformer", "mobile_sam"]
"""Of the one every first click is encoded, of the other each view once."""
CLICKS = [(30, 20, True), (5, 5, False), (50, 30, True), (12, 33, True), (40, 8, False)]


@pytest.fixture(scope="module")
def split_checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: checkpoint.save(TOYS[name](), tmp_path_factory.mktemp("split") / "checkpoint") for name in HALVES}


@pytest.fixture
def serving_ray(ray_cluster: None) -> Iterator[None]:
    import ray.serve as ray_serve

    yield
    ray_serve.shutdown()


@pytest.mark.parametrize("name", HALVES)
def test_networks_with_two_halves_are_recognised(name: str, split_checkpoints: dict[str, Path], tmp_path: Path) -> None:
    split_checkpoint = split_checkpoints[name]
    whole = checkpoint.save(TOYS["simpleclick"](), tmp_path / "whole")
    for folder, names in ((split_checkpoint, ["Correction", "FirstClick"]), (whole, ["FirstClick"])):
        assert is_split(Options(checkpoint=str(folder))) == (len(names) == 2)
        owners = build_app({"checkpoint": str(folder), "device": "cpu"})._bound_deployment.init_args[1]
        application: Any = owners["default"]
        found = []
        while application is not None:
            found.append(application._bound_deployment.name)
            rest = application._bound_deployment.init_args[1:]
            application = rest[0] if rest else None
        assert found == names


@pytest.mark.ray
@pytest.mark.timeout(240)
@pytest.mark.usefixtures("serving_ray")
@pytest.mark.parametrize("name", HALVES)
def test_a_session_on_two_deployments_equals_one_in_process(
    name: str, split_checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    import ray.serve as ray_serve

    split_checkpoint, prompted = split_checkpoints[name], name == "mobile_sam"
    port, image = free_port(), picture(48, 64)
    args = Options(checkpoint=str(split_checkpoint), num_threads=1, device="cpu", sessions=str(tmp_path / "s.db"))
    local = Predictor(split_checkpoint).open(image)
    with serving.serving(args, "127.0.0.1", port), Client(f"http://127.0.0.1:{port}") as client:
        with client.open(encoded(image)) as session:
            for x, y, positive in CLICKS:
                local.click(y, x, positive)
                np.testing.assert_array_equal(session.click(x, y, positive), local.mask)
            local.undo()
            np.testing.assert_array_equal(session.undo(), local.mask)
            assert session.last["model_version"] == local.predictor.model_version
        stats = {
            each: ray_serve.get_deployment_handle(each, "maskwright-default").stats.remote().result()
            for each in ("FirstClick", "Correction")
        }
        # The heavy half ran when the session opened and, unless it sees no click, at the first one, and so at each
        # deployment's warm-up; the light half always.
        assert stats["FirstClick"]["requests"] == (1 + 2 + 1 if prompted else 2 + 3 + 2)
        assert stats["FirstClick"]["tickets_found"] == (0 if prompted else 2)
        assert stats["FirstClick"]["tickets_missed"] == 0
        assert stats["Correction"]["requests"] == len(CLICKS) + 1
        start = np.zeros(image.shape[:2], bool)
        start[10:30, 10:40] = True
        given = Predictor(split_checkpoint).open(image, start)
        given.click(20, 50)
        np.testing.assert_array_equal(client.open(encoded(image), start).click(50, 20), given.mask)
        with pytest.raises(ServerError, match="bad_click"):
            client.open(encoded(image)).click(1000, 0)


@pytest.mark.slow
@pytest.mark.networks
@pytest.mark.ray
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("serving_ray")
@pytest.mark.parametrize("name", ["simpleclick_vit_base", "emc_hrnet18s", "lite_s"])
def test_onnxruntime_answers_on_deployments_as_in_process(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files are those of other weights, so that a mask shows whether it is theirs or torch's."""
    folder, other = (checkpoint.save(toy(name, seed), tmp_path / str(seed)) for seed in (1, 3))
    make = onnx_backend._make
    monkeypatch.setattr(onnx_backend, "_make", lambda source, part: make(other, part))
    onnx_backend.onnx_files(folder)
    image, masks = picture(48, 64), {}
    for way, serve in (("plain", serving_here), ("ray", serving.serving)):
        port = free_port()
        options = Options(checkpoint=str(folder), num_threads=1, backend="onnx", sessions=str(tmp_path / f"{way}.db"))
        with serve(options, "127.0.0.1", port), Client(f"http://127.0.0.1:{port}") as client:
            session = client.open(encoded(image))
            masks[way] = [session.click(*click) for click in CLICKS] + [session.undo()]
    np.testing.assert_array_equal(masks["ray"], masks["plain"])
    by_torch = Predictor(folder).open(image)
    for x, y, positive in CLICKS:
        by_torch.click(y, x, positive)
    assert np.mean(masks["ray"][-2] != by_torch.mask) > 0.005


def test_a_model_that_onnxruntime_answers_reserves_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve.on_ray.app.ray.is_initialized", lambda: True)
    monkeypatch.setattr("serve.on_ray.app.ray.cluster_resources", lambda: {"CPU": 8.0, "GPU": 1.0})
    monkeypatch.setenv("RAY_ADDRESS", "local")
    shares = [share_for(Options(checkpoint="somewhere", backend=backend), 1) for backend in ("torch", "onnx")]
    assert [share.gpus for share in shares] == [1.0, 0.0]


def pids_of(deployment: str) -> list[int]:
    """Return the processes of a deployment's replicas, by the names that Ray gives them, only of this process's Ray."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                title = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if re.match(rf"ray::ServeReplica:maskwright(-\w+)?:{deployment}(?!\w)", title) and is_ours(
                int(folder.name)
            ):
                found.append(int(folder.name))
    return found


def is_ours(pid: int) -> bool:
    """Return whether a process descends from this one, because another test process may run a separate Ray."""
    while pid > 1 and pid != os.getpid():
        try:
            # The name may hold spaces and brackets; the parent is the second field behind it.
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            return False
    return pid == os.getpid()


@pytest.mark.check(41)
@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("name", "victim", "proxy"),
    [
        *(("emc segformer", victim, True) for victim in ("FirstClick", "Correction", "Maskwright")),
        *((name, victim, False) for name in HALVES for victim in ("FirstClick", "Correction")),
    ],
)
@pytest.mark.usefixtures("serving_ray")
def test_a_kill_loses_no_session_and_no_click(
    name: str, victim: str, proxy: bool, split_checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    """kill -9 while clicks are in flight: clients repeat unanswered ones, and get the masks of one process."""
    split_checkpoint = split_checkpoints[name]
    port, num_clients, num_rounds = free_port(), 3, 40
    args = Options(checkpoint=str(split_checkpoint), num_threads=1, device="cpu", sessions=str(tmp_path / "s.db"))
    images = [np.random.default_rng(n).integers(0, 256, (48, 64, 3), dtype=np.uint8) for n in range(num_clients)]
    warm = threading.Barrier(num_clients + 1)
    masks: dict[int, list[np.ndarray]] = {n: [] for n in range(num_clients)}
    retries: dict[int, int] = {}
    errors: list[BaseException] = []

    def annotate(number: int) -> None:
        try:
            with Client(f"http://127.0.0.1:{port}", tries=9) as client:
                session = client.open(encoded(images[number]))
                for turn in range(num_rounds):
                    if turn == 3:
                        warm.wait(60)
                    x, y, positive = CLICKS[turn % len(CLICKS)]
                    masks[number].append(session.click(x + turn % 3, y, positive))
                assert session.sequence == num_rounds
                retries[number] = client.num_retries
        except BaseException as error:
            errors.append(error)
            warm.abort()

    with serving.serving(args, "127.0.0.1", port, proxy=proxy):
        threads = [threading.Thread(target=annotate, args=(n,)) for n in range(num_clients)]
        for thread in threads:
            thread.start()
        warm.wait(120)
        while min(map(len, masks.values())) < 8:
            time.sleep(0.005)
        (pid,) = pids_of(victim)
        os.kill(pid, signal.SIGKILL)
        made = {number: len(found) for number, found in masks.items()}
        for thread in threads:
            thread.join(200)
        assert not errors, errors
        assert pids_of(victim) != [pid]
    assert max(made.values()) < num_rounds, "it was killed too late to matter"
    for number, image in enumerate(images):
        local = Predictor(split_checkpoint).open(image)
        for turn in range(num_rounds):
            x, y, positive = CLICKS[turn % len(CLICKS)]
            local.click(y, x + turn % 3, positive)
            np.testing.assert_array_equal(masks[number][turn], local.mask)
    # Of each client at most the one request that was under way, but for the pause until a new process answers.
    assert max(retries.values()) <= 3, retries
    print("retries", victim, retries)
