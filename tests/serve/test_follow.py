"""Aliases that move: which versions are looked up, taken and ignored; once with a real MLflow registry."""

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models import checkpoint
from models.errors import InputError
from models.predictor import Predictor
from serve.core.options import Options
from serve.core.sources import Source
from serve.deployments import build_app
from serve.loading.checkpoints import Checkpoints
from serve.loading.follow import Follower, following
from serve.loading.model_source import pin
from serve.start.local import LocalFleet
from tests.training.toys import toy

ALIAS = "models:/clicks@champion"


class Registry:
    """A simulated registry: the version of each alias, or the error of its look-up."""

    def __init__(self) -> None:
        self.leads: dict[str, str | Exception] = {"models:/x@a": "x/1", "models:/y@a": "y/1"}
        self.taken: list[tuple[str, str]] = []
        self.bad: set[str] = set()
        self.lost: set[str] = set()
        self.follower = Follower(
            [Source("x", "models:/x@a"), Source("y", "models:/y@a")],
            {"x": "x/1", "y": "y/1"},
            self.pin,
            self.fetch,
            self.take,
        )

    def pin(self, place: str) -> str:
        found = self.leads[place]
        if isinstance(found, Exception):
            raise found
        return found

    def fetch(self, pinned: str) -> str:
        if pinned in self.lost:
            raise InputError("the download broke")
        return f"/copies/{pinned}"

    def take(self, name: str, place: str) -> None:
        self.taken.append((name, place))
        if place in self.bad:
            raise InputError("gives values that are not numbers")


def test_a_moved_alias_is_taken_once() -> None:
    registry = Registry()
    registry.follower.look()
    assert registry.taken == []
    registry.leads["models:/y@a"] = "y/2"
    registry.follower.look()
    registry.follower.look()
    assert registry.taken == [("y", "/copies/y/2")]


def test_an_unusable_version_is_tried_once_until_the_alias_moves(caplog: pytest.LogCaptureFixture) -> None:
    registry = Registry()
    registry.leads["models:/y@a"] = "y/2"
    registry.bad = {"/copies/y/2"}
    registry.follower.look()
    registry.follower.look()
    assert registry.taken == [("y", "/copies/y/2")]
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == [
        "model y is unchanged: y/2 cannot be used: gives values that are not numbers"
    ]
    registry.leads["models:/y@a"] = "y/3"
    registry.follower.look()
    assert registry.taken[1:] == [("y", "/copies/y/3")]


def test_a_registry_that_does_not_answer_is_tried_again_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    registry = Registry()
    registry.leads |= {"models:/x@a": InputError("no answer"), "models:/y@a": "y/2"}
    registry.lost = {"y/2"}
    registry.follower.look()
    registry.follower.look()
    logged = [record.getMessage() for record in caplog.records]
    assert logged == ["model x is unchanged: no answer", "model y is unchanged: the download broke"]
    registry.leads["models:/x@a"] = "x/1"
    registry.lost = set()
    registry.follower.look()
    assert registry.taken == [("y", "/copies/y/2")]


def test_checks_continue_after_any_failure(caplog: pytest.LogCaptureFixture) -> None:
    registry, looks = Registry(), threading.Semaphore(0)

    def pin(place: str) -> str:
        looks.release()
        raise RuntimeError("unforeseen")

    follower = Follower([Source("x", "models:/x@a")], {"x": "x/1"}, pin, registry.fetch, registry.take)
    before = threading.active_count()
    with following(follower, 0.01):
        assert all(looks.acquire(timeout=10) for _ in range(3))
    assert threading.active_count() == before
    assert "checking the aliases failed" in caplog.text
    with following(None, 0.01):
        assert threading.active_count() == before


Publish = Callable[[Path], str]


@pytest.fixture
def mlflow_registry(tmp_path: Path) -> tuple[str, Publish]:
    """A registry in a file, and a function that registers a checkpoint as the champion and returns the version."""
    import mlflow

    uri = f"sqlite:///{tmp_path}/mlflow.db"
    client: Any = mlflow.MlflowClient(uri, uri)
    experiment = client.create_experiment("t", artifact_location=(tmp_path / "artifacts").as_uri())
    client.create_registered_model("clicks")

    def publish(folder: Path) -> str:
        run = client.create_run(experiment)
        client.log_artifacts(run.info.run_id, str(folder), "checkpoint")
        version = client.create_model_version("clicks", f"{run.info.artifact_uri}/checkpoint", run.info.run_id)
        client.set_registered_model_alias("clicks", "champion", version.version)
        return str(version.version)

    return uri, publish


@pytest.mark.networks
def test_a_model_is_replaced_when_its_mlflow_alias_moves(
    mlflow_registry: tuple[str, Publish], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    uri, publish = mlflow_registry
    folders = [checkpoint.save(toy("emc_segformer_b0", seed), tmp_path / str(seed)) for seed in (1, 2)]
    home = tmp_path / "home"
    home.mkdir()
    assert publish(folders[0]) == "1"
    checkpoints = Checkpoints(uri, home)
    pinned = {"default": checkpoints.pin(ALIAS)}
    assert pinned == {"default": "models:/clicks/1"}
    place = checkpoints.load(pinned["default"])
    assert Path(place).is_relative_to(home), "a copy, because the registry's files must not be deleted"
    local = LocalFleet(Options(checkpoint=place, num_threads=1, device="cpu"))

    def take(name: str, place: str) -> None:
        local.take(name, place)
        checkpoints.keep([place])

    follower = Follower([Source("default", ALIAS)], pinned, checkpoints.pin, checkpoints.fetch, take)
    follower.look()
    assert local.fleet.info().model_version == Predictor(folders[0]).model_version
    publish(folders[1])
    follower.look()
    assert local.fleet.info().model_version == Predictor(folders[1]).model_version
    assert not Path(place).exists(), "the copy of what is served no more is dropped"
    assert len(list(home.iterdir())) == 1
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("no checkpoint")
    publish(tmp_path / "empty")
    follower.look()
    num_copies = len(list(home.iterdir()))
    follower.look()
    assert len(list(home.iterdir())) == num_copies, "it is not fetched again and again"
    assert local.fleet.info().model_version == Predictor(folders[1]).model_version
    assert "model default is unchanged: models:/clicks/3 cannot be used: no checkpoint at" in caplog.text
    with pytest.raises(InputError, match="no checkpoint at models:/clicks/3"):
        checkpoints.load("models:/clicks/3")
    with pytest.raises(InputError, match="no model 'models:/clicks/9'"):
        checkpoints.fetch("models:/clicks/9")
    assert len(list(home.iterdir())) == num_copies + 1
    assert (folders[0] / "checkpoint.json").exists()


@pytest.mark.networks
def test_replicas_get_a_version_instead_of_an_alias(
    mlflow_registry: tuple[str, Publish], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replica that starts after the alias has moved must serve the version of the others."""
    uri, publish = mlflow_registry
    publish(checkpoint.save(toy("emc_segformer_b0", 1), tmp_path / "1"))
    text = f"{ALIAS},b=models:/clicks/1"
    owners = build_app({"checkpoint": text, "tracking_uri": uri, "device": "cpu"})._bound_deployment.init_args[1]
    given = {name: owner._bound_deployment.init_args[0] for name, owner in owners.items()}
    assert {name: args.place for name, args in given.items()} == dict.fromkeys(given, "models:/clicks/1")
    assert pin("models:/clicks/1", uri) == "models:/clicks/1"
    assert pin("/a/folder@home") == "/a/folder@home"
    with pytest.raises(InputError, match="no model 'models:/clicks@missing'"):
        build_app({"checkpoint": "models:/clicks@missing", "tracking_uri": uri})
