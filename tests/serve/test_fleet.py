"""Several models by name: their names, what each reserves, and how one is replaced, without Ray."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient

from models import checkpoint, rle
from models.errors import InputError
from models.predictor import Predictor
from serve.core.options import Options
from serve.core.sources import Source, read_sources
from serve.http.app import create_app
from serve.loading.follow import Rolling
from serve.on_ray import calls
from serve.on_ray.app import build_app, halves_of, owners_of
from serve.on_ray.calls import again
from serve.on_ray.halves import OtherVersion, encoder, halves
from serve.on_ray.shares import INGRESS_CPUS, share_of
from serve.start.local import LocalFleet
from tests.serve.conftest import ADDRESS, encoded, mask_of, picture, refused
from tests.training.toys import TOYS, toy

CLICKS = [(30, 20, True), (5, 5, False), (50, 30, True)]


@pytest.fixture(scope="session", params=["emc_segformer_b0", "mobile_sam"])
def versions(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> list[Path]:
    """Two checkpoints of the same split network."""
    folder = tmp_path_factory.mktemp("versions")
    return [checkpoint.save(toy(request.param, seed), folder / str(seed)) for seed in (1, 2)]


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint.save(TOYS["simpleclick"](), tmp_path_factory.mktemp("whole") / "checkpoint")


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["/x"], [("default", "/x")]),
        (["models:/clicks@champion"], [("default", "models:/clicks@champion")]),
        (["a=/x,b=models:/clicks@champion"], [("a", "/x"), ("b", "models:/clicks@champion")]),
        (["/x", "b=/y", "c=/z"], [("default", "/x"), ("b", "/y"), ("c", "/z")]),
        (["/x, b_2=/y"], [("default", "/x"), ("b_2", "/y")]),
        (["/runs/lr=0.1/x,with,commas"], [("default", "/runs/lr=0.1/x,with,commas")]),
        (["a=/runs/lr=0.1/x"], [("a", "/runs/lr=0.1/x")]),
    ],
)
def test_models_are_named(texts: list[str], expected: list[tuple[str, str]]) -> None:
    found = read_sources(texts)
    assert found == tuple(Source(*each) for each in expected)
    assert read_sources(found) == found


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["a=/x", "a=/y"], r"named 'a' \(/x and /y\)"),
        (["/x", "/y"], r"have no name \(/x and /y\): expected NAME=FOLDER"),
        (["/x", "default=/y"], "have no name"),
        (["b c=/x"], "'b c' cannot name a model"),
        (["a=/x,b c=/y"], "'b c' cannot name"),
        (["=/x"], "cannot name"),
        (["x" * 41 + "=/x"], "up to 40"),
        (["a="], "no checkpoint for 'a'"),
        ([""], "no checkpoint for 'default'"),
    ],
)
def test_invalid_names_are_refused(texts: list[str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        read_sources(texts)


def test_the_folder_of_a_source_is_not_split_at_commas() -> None:
    (folder,) = Options(checkpoint=(Source("a", "/x,b=c"),)).checkpoint
    assert folder == Source("a", "/x,b=c")


def test_the_builder_reads_several_models() -> None:
    args = Options.of({"checkpoint": "a=/x,b=/y", "num_threads": "3"})
    assert {name: (each.place, each.num_threads) for name, each in args.models().items()} == {
        "a": ("/x", 3),
        "b": ("/y", 3),
    }
    assert args.moved("b", "/z").checkpoint == read_sources("a=/x,b=/z")
    with pytest.raises(InputError, match="named 'a'"):
        Options.of({"checkpoint": "a=/x,a=/y"})


@pytest.mark.parametrize("num_models", [1, 2, 3, 5])
@pytest.mark.parametrize("cpus", [1, 2, 16])
@pytest.mark.parametrize("gpus", [1, 2, 4])
def test_shares_leave_room_for_the_next_version_of_a_model(num_models: int, cpus: int, gpus: int) -> None:
    share = share_of(num_models, cpus, gpus, use_gpu=True)
    both = [share.heavy(split=True), share.light()]
    each = {name: sum(half[name] for half in both) for name in ("num_cpus", "num_gpus")}
    assert each["num_cpus"] * (num_models + 1) + INGRESS_CPUS <= cpus + 1e-9
    assert share.heavy(split=False)["num_gpus"] == share.gpus
    assert each["num_gpus"] <= share.gpus <= 1
    fitting = int(1 / share.gpus + 1e-9) * gpus
    assert num_models <= fitting, "every model finds its part of one of the GPUs"
    assert share.gpus == 1 or num_models > gpus
    assert share_of(num_models, cpus, gpus, use_gpu=False).light()["num_gpus"] == 0


def chained(owners: Iterable[Any]) -> dict[str, Any]:
    """Return the deployments by name: those with the sessions, and those that they call."""
    found = {}
    for owner in owners:
        while owner is not None:
            bound = owner._bound_deployment
            found[bound.name] = bound
            owner = bound.init_args[1] if len(bound.init_args) > 1 else None
    return found


def deployments_of(application: Any) -> dict[str, Any]:
    """Deployments of an application by name."""
    ingress = application._bound_deployment
    return chained(ingress.init_args[1].values()) | {"Maskwright": ingress}


def test_each_model_has_separate_deployments(versions: list[Path], whole: Path) -> None:
    first, second = versions
    text = f"{first},b={second},c={whole}"
    found = deployments_of(build_app({"checkpoint": text, "device": "cpu"}))
    assert set(found) == {"Maskwright", "FirstClick", "Correction", "FirstClick_b", "Correction_b", "FirstClick_c"}
    assert found["Correction_b"].init_args[0].place == str(second)
    assert found["FirstClick"].init_args[0].place == str(first)
    assert list(found["Maskwright"].init_args[1]) == ["default", "b", "c"]
    reserved = sum(each.ray_actor_options["num_cpus"] for each in found.values())
    assert reserved < 3 * 1.5 + 1


def test_an_update_keeps_the_deployments_that_a_model_has(versions: list[Path], whole: Path) -> None:
    """A removed deployment would fail its calls, so two deployments stay two and one stays one."""
    first, second = versions
    args = Options(checkpoint=f"a={whole},b={first}", device="cpu", num_threads=1)
    split = halves_of(args)
    assert split == {"a": False, "b": True}

    def names(options: Options) -> set[str]:
        return set(chained(owners_of(options, split).values()))

    before = names(args)
    assert before == {"FirstClick_a", "FirstClick_b", "Correction_b"}
    for name, place in (("b", second), ("b", whole), ("a", second)):
        assert names(args.moved(name, str(place))) == before


def test_halves_of_two_versions_are_never_mixed(versions: list[Path]) -> None:
    """Correction of one version with FirstClick of another gives the masks of one process, without its features."""
    own, other, local = (Predictor(folder) for folder in (versions[0], versions[1], versions[0]))
    asked: list[object] = []

    def elsewhere(predictor: Predictor) -> Callable[[list[Any], str], Any]:
        answer = encoder(predictor.answer, predictor.model_version)

        def encode(requests: list[Any], model_version: str) -> Any:
            asked.append(answer(requests, model_version))
            return asked[-1]

        return encode

    def masks(predictor: Predictor) -> list[np.ndarray]:
        session = predictor.open(picture())
        return [session.click(y, x, positive) for x, y, positive in CLICKS]

    expected, whole = masks(local), own.answer
    for first_click, is_refused in ((other, True), (Predictor(versions[0]), False)):
        asked.clear()
        own.answer = halves(whole, elsewhere(first_click), own.model_version)
        for mine, wanted in zip(masks(own), expected, strict=True):
            np.testing.assert_array_equal(mine, wanted)
        assert asked
        assert [isinstance(each, OtherVersion) for each in asked] == [is_refused] * len(asked)
    # Unasked, the other version's features would have made another mask.
    own.answer = halves(whole, lambda requests, _: other.answer(requests), own.model_version)
    assert any((mine != wanted).any() for mine, wanted in zip(masks(own), expected, strict=True))


class Gone(Exception):
    pass


def test_a_call_is_repeated_if_its_replica_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "PAUSE_S", 0.0)
    waits: list[float] = []

    def failing(times: int, error: Exception) -> Callable[[float], str]:
        waits.clear()

        def call(left_s: float) -> str:
            waits.append(left_s)
            if len(waits) <= times:
                raise error
            return "answer"

        return call

    assert again(failing(2, Gone()), (Gone,), 10.0) == "answer"
    assert len(waits) == 3
    assert 10.0 >= waits[0] >= waits[1] >= waits[2] > 9.0, "one deadline for all tries"
    with pytest.raises(Gone):
        again(failing(3, Gone()), (Gone,), 10.0)
    assert len(waits) == 3
    with pytest.raises(Gone):
        again(failing(1, Gone()), (Gone,), 0.0)
    with pytest.raises(ValueError, match="mine"):
        again(failing(1, ValueError("mine")), (Gone,), 10.0)
    assert len(waits) == 1


def test_a_failed_deployment_is_rolled_back() -> None:
    deployed: list[str] = []

    def said(args: Options) -> str:
        return ",".join(f"{each.name}={each.place}" for each in args.checkpoint)

    def deploy(args: Options, name: str) -> None:
        deployed.append(said(args))
        if "/bad" in said(args):
            raise RuntimeError("replicas do not start")

    def tried(args: Options, name: str) -> None:
        if "/unread" in args.models()[name].place:
            raise InputError("cannot be read")

    rolling = Rolling(Options(checkpoint="a=/x,b=/y"), deploy, tried)
    deploy(rolling.options, "a")
    rolling.take("b", "/z")
    with pytest.raises(InputError):
        rolling.take("a", "/unread")
    assert deployed == ["a=/x,b=/y", "a=/x,b=/z"], "what cannot be read is not deployed"
    with pytest.raises(RuntimeError):
        rolling.take("a", "/bad")
    assert deployed[2:] == ["a=/bad,b=/z", "a=/x,b=/z"]
    assert said(rolling.options) == "a=/x,b=/z"


@pytest.fixture
def local(versions: list[Path], whole: Path) -> LocalFleet:
    return LocalFleet(Options(checkpoint=f"whole={whole},split={versions[0]}", num_threads=1, device="cpu"))


@pytest.mark.networks
def test_sessions_continue_with_the_new_model(local: LocalFleet, versions: list[Path], whole: Path) -> None:
    client, image = TestClient(create_app(local.fleet, local.options), ADDRESS), picture()

    def opened(model: str) -> str:
        answer = client.post(
            f"/v1/sessions?model={model}", content=encoded(image), headers={"Content-Type": "image/png"}
        )
        return f"/v1/sessions/{answer.json()['session_id']}"

    def clicked(session: str, number: int) -> dict[str, Any]:
        x, y, positive = CLICKS[number]
        return client.post(f"{session}/clicks", json={"x": x, "y": y, "positive": positive}).json()

    def expected(folder: Path, number: int) -> tuple[str, np.ndarray]:
        predictor = Predictor(folder)
        session = predictor.open(image)
        for x, y, positive in CLICKS[: number + 1]:
            session.click(y, x, positive)
        return predictor.model_version, session.mask

    def check(answer: dict[str, Any], folder: Path, number: int) -> None:
        version, mask = expected(folder, number)
        assert answer["model_version"] == version
        np.testing.assert_array_equal(mask_of(answer), mask)

    split, other = opened("split"), opened("whole")
    check(clicked(split, 0), versions[0], 0)
    check(clicked(other, 0), whole, 0)
    local.take("split", str(versions[1]))
    check(clicked(split, 1), versions[1], 1)
    check(clicked(other, 1), whole, 1)
    listed = client.get("/v1/models").json()["models"]
    assert [(each["name"], each["model_version"]) for each in listed] == [
        ("whole", Predictor(whole).model_version),
        ("split", Predictor(versions[1]).model_version),
    ]
    answer = client.post("/v1/sessions?model=third", content=encoded(image), headers={"Content-Type": "image/png"})
    refused(answer, 422, "model_unknown")


@pytest.mark.networks
def test_an_unusable_checkpoint_changes_nothing(local: LocalFleet, versions: list[Path], tmp_path: Path) -> None:
    before = local.fleet.info("split").model_version
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    for path in versions[1].iterdir():
        (damaged / path.name).write_bytes(path.read_bytes()[:3000])
    network = toy("emc_segformer_b0", 3)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(float("nan"))
    for folder, words in ((damaged, "cannot be read|damaged"), (checkpoint.save(network, tmp_path / "nan"), "numbers")):
        with pytest.raises(InputError, match=words):
            local.take("split", str(folder))
    assert local.fleet.info("split").model_version == before
    answer = TestClient(create_app(local.fleet, local.options), ADDRESS).post(
        "/v1/predict",
        json={"image": _base64(picture()), "clicks": [{"x": 5, "y": 6}], "model": "split"},
    )
    assert (answer.status_code, answer.json()["model_version"]) == (200, before)
    assert rle.decode(answer.json()["mask"]).shape == picture().shape[:2]


def _base64(image: np.ndarray) -> str:
    import base64

    return base64.b64encode(encoded(image)).decode()
