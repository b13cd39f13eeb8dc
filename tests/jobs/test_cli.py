from pathlib import Path

import pytest

from jobs.cli import absolute_path, as_dict, parse, progress_line, run_job
from jobs.config import TrainConfig
from jobs.predict import parse_click
from jobs.train import origin
from models import checkpoint
from models.errors import InputError
from pipeline.data.config import DataConfig
from tests.models.tiny import tiny_network


def exit_code(error: BaseException | int | None) -> object:
    def main(argv: object) -> int | None:
        if isinstance(error, BaseException):
            raise error
        return error

    with pytest.raises(SystemExit) as ended:
        run_job(main)
    return ended.value.code


def test_a_user_error_is_one_message_and_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(InputError("no data at /x: expected a folder")) == 2
    assert capsys.readouterr().err == "error: no data at /x: expected a folder\n"
    assert exit_code(None) == 0
    assert exit_code(3) == 3
    assert exit_code(KeyboardInterrupt()) == 130


def test_a_programming_error_keeps_its_traceback() -> None:
    def main(argv: object) -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_job(main)


def test_relative_paths_are_made_absolute_where_the_user_started(tmp_path: Path) -> None:
    assert absolute_path("--out", "runs/a") == tmp_path / "runs" / "a"
    assert absolute_path("--out", "/data/a") == Path("/data/a")
    assert absolute_path("--out", "~/a") == Path.home() / "a"


def test_relative_paths_are_refused_inside_a_submitted_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    with pytest.raises(InputError, match=r"--out runs/a: expected an absolute path under `ray job submit`"):
        absolute_path("--out", "runs/a")
    assert absolute_path("--out", "/data/a") == Path("/data/a")


def test_progress_without_a_terminal_is_a_line_per_tenth(capsys: pytest.CaptureFixture[str]) -> None:
    for done in range(1, 101):
        progress_line("evaluating", done, 100)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 10
    assert lines[-1] == "evaluating: 100/100"


@pytest.mark.parametrize(
    ("given", "click"),
    [("12,8.5,+", (12.0, 8.5, True)), ("0,3,-", (0.0, 3.0, False)), ("4,5", (4.0, 5.0, True))],
)
def test_clicks_are_read(given: str, click: tuple[float, float, bool]) -> None:
    assert parse_click(given) == click


@pytest.mark.parametrize("given", ["", "12", "a,b,+", "1,2,?", "1;2;+"])
def test_clicks_that_cannot_be_read_say_what_was_expected(given: str) -> None:
    with pytest.raises(InputError, match=r"expected Y,X,\+ or Y,X,- in pixels"):
        parse_click(given)


def test_a_fine_tuned_checkpoint_says_what_it_came_from(tmp_path: Path) -> None:
    folder = checkpoint.save(tiny_network(), tmp_path / "c", licence="CC BY-NC 4.0")
    assert origin(None) == {}
    assert origin(str(folder)) == {"started_from": checkpoint.describe(folder)["sha256"], "licence": "CC BY-NC 4.0"}
    assert list(origin(str(checkpoint.save(tiny_network(), tmp_path / "d")))) == ["started_from"]


def test_close_ups_and_laws_of_clicks_are_flags() -> None:
    flags = "--data.focus.enabled --data.focus.size 96 --data.focus.clicks.max-negative 1 --data.clicks.law dios"
    config = parse(TrainConfig, flags.split(), prog="train").data
    assert (config.focus.enabled, config.focus.size, config.focus.clicks.max_negative) == (True, 96, 1)
    assert config.clicks.law == "dios"
    assert not parse(TrainConfig, [], prog="train").data.focus.enabled


@pytest.mark.check(29)
def test_a_stored_config_contains_no_key() -> None:
    config = TrainConfig(data=DataConfig(reader="prepared", root="s3://key:secret@bucket/set?endpoint_override=x"))
    assert as_dict(config)["data"]["root"] == "s3://bucket/set"
    assert as_dict(TrainConfig(data=DataConfig(root="/data/a@b")))["data"]["root"] == "/data/a@b"
