"""The server takes maskwright:NAME as a checkpoint, and maskwright:lite_s where none is given."""

from pathlib import Path

import httpx
import pytest

from models import box, checkpoint
from models.errors import InputError
from models.predictor import Predictor
from serve import __main__ as command
from serve.core.options import Options
from serve.core.sources import Source, read_sources
from serve.loading.build import build_engine
from serve.loading.checkpoints import Checkpoints
from serve.loading.model_source import pin
from serve.on_ray import app
from tests.boxed import boxed
from tests.ports import free_port

__all__ = ["boxed"]

LITE = Source("default", box.DEFAULT)


def test_models_by_name_are_accepted_in_place_of_folders() -> None:
    assert read_sources([]) == read_sources([box.DEFAULT]) == (LITE,)
    assert read_sources(["a=maskwright:lite_s,b=/x"]) == (Source("a", box.DEFAULT), Source("b", "/x"))
    assert read_sources(["/x", "b=maskwright:lite_s"]) == (Source("default", "/x"), Source("b", box.DEFAULT))
    assert pin(box.DEFAULT) == box.DEFAULT


def test_a_process_finds_the_folder_of_a_name(boxed: Path, tmp_path: Path) -> None:
    checkpoints = Checkpoints(None, tmp_path)
    assert checkpoints.load(checkpoints.pin(box.DEFAULT)) == str(boxed)
    with pytest.raises(InputError, match=r"unknown model 'maskwright:light_s'; did you mean 'maskwright:lite_s'"):
        checkpoints.load("maskwright:light_s")


@pytest.mark.parametrize("args", [{}, {"checkpoint": ""}, {"checkpoint": None}, {"checkpoint": "maskwright:lite_s"}])
def test_a_deployment_without_a_checkpoint_serves_the_model_of_the_box(args: dict, boxed: Path) -> None:
    checked = Options.of(args)
    assert checked.place == box.DEFAULT
    version = f"simpleclick_vit_xtiny-{checkpoint.describe(boxed)['sha256'][:12]}"
    engine = build_engine(checked)
    assert (engine.model_version, engine.refinement) == (version, "zoom_in")
    (owner,) = app.build_app(args)._bound_deployment.init_args[1].values()
    assert owner._bound_deployment.init_args[0].place == box.DEFAULT, "a replica finds it in its own copy"


@pytest.mark.parametrize(
    ("options", "models"),
    [([], ["default"]), (["--checkpoint", "a=maskwright:lite_s", "--checkpoint", "b=FOLDER"], ["a", "b"])],
)
def test_the_command_serves_by_name_and_without_one(
    options: list[str], models: list[str], boxed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    found: list[dict] = []

    def ask(ready: str) -> None:
        found.extend(httpx.get(f"http://127.0.0.1:{port}/v1/models", trust_env=False).json()["models"])

    monkeypatch.setattr(command, "until_stopped", ask)
    monkeypatch.setattr("serve.observing.metrics.install", lambda sink: sink)
    given = [option.replace("FOLDER", str(boxed)) for option in options]
    monkeypatch.setattr(
        "sys.argv", ["serve", "--plain", "--port", str(port), "--sessions", str(tmp_path / "s"), *given]
    )
    command.main()
    assert [each["name"] for each in found] == models
    assert {each["model_version"] for each in found} == {Predictor().model_version}
