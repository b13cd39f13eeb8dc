"""The command line of the server: invalid options are reported in one line before anything starts."""

import os
import re
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from models.errors import InputError
from serve.__main__ import main
from serve.core.options import Options
from serve.core.tokens import new_token
from serve.start import command
from tests.ports import free_port
from tests.serve.test_model import small_checkpoint

__all__ = ["small_checkpoint"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--checkpoint", "/nowhere"], "no checkpoint at"),
        (["--checkpoint", "maskwright:nothing"], "unknown model 'maskwright:nothing'"),
        (["--checkpoint", "SMALL", "--host", "0.0.0.0"], "no login"),
        (["--checkpoint", "SMALL", "--host", "example.org"], "no login"),
        (["--checkpoint", "SMALL", "--host", "0.0.0.0", "--tokens", "/nowhere"], "cannot be read"),
        (["--checkpoint", "SMALL", "--tokens", "EMPTY"], "is empty"),
        (["--checkpoint", "SMALL", "--clicks-per-second", "-1"], "--clicks-per-second"),
        (["--checkpoint", "SMALL", "--port", "0"], "--port"),
        (["--checkpoint", "SMALL", "--plain", "--proxy"], "leave out one of the two"),
        (["--checkpoint", "SMALL", "--backend", "onnx", "--precision", "bf16"], "leave one of the two out"),
        (["--checkpoint", "SMALL", "--backend", "onnx", "--device", "cuda"], "got device cuda"),
        (["--checkpoint", "SMALL", "--metrics-port", "70000"], "--metrics-port"),
        (["--checkpoint", "SMALL", "--refine", "zoom_inn"], "did you mean 'zoom_in'"),
        (["--checkpoint", "SMALL", "--examples", "/nowhere"], "--examples"),
        (["--checkpoint", "SMALL", "--port", "TAKEN"], "choose another --port"),
        (["--checkpoint", "SMALL", "--port", "TAKEN", "--plain"], "choose another --port"),
        (["--checkpoint", "BROKEN"], "not a checkpoint description"),
        (["--checkpoint", "models:/clicks@champion"], "no MLflow registry at sqlite:////"),
    ],
)
def test_bad_options_end_with_one_line(
    options: list[str],
    words: str,
    small_checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("RAY_ADDRESS", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "checkpoint.json").write_text("{}")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        values = {
            "SMALL": str(small_checkpoint),
            "TAKEN": str(taken.getsockname()[1]),
            "BROKEN": str(tmp_path),
            "EMPTY": os.devnull,
        }
        free = [] if "--port" in options else ["--port", str(free_port())]
        monkeypatch.setattr("sys.argv", ["serve", *(values.get(option, option) for option in options), *free])
        with pytest.raises(SystemExit) as caught:
            main()
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert words in error
    assert "Traceback" not in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"max_megapixels": "inf"}, "max_megapixels is 'inf': expected a number above 0"),
        ({"idle_minutes": float("nan")}, "expected a number above 0"),
        ({"num_threads": 10**20}, "expected a whole number, 0 to 1024"),
        ({"max_clicks": 201}, "expected a whole number, 1 to 200"),
        ({"sessions": 5}, "sessions is 5: expected a text"),
        ({"hosts": 5}, "hosts is 5: expected a text, or a list of texts"),
        ({"hosts": [5]}, "expected a text, or a list of texts"),
        ({"checkpoint": 5}, "expected a text, or a list of texts"),
        ({"checkpoint": {"a": "maskwright:lite_s"}}, "expected a text, or a list of texts"),
        ({"log_format": False}, "log_format is False: expected off, text, json"),
        ({"origins": "*"}, "the origin '*' lacks a scheme or a host"),
        ({"origins": "foo"}, "the origin 'foo' lacks a scheme or a host: expected one such as https://name:port"),
        ({"device": "gpu"}, "device is 'gpu': expected auto, cpu, cuda"),
        ({"refine": "flip"}, "unknown argument 'refine'"),
    ],
)
def test_a_deployment_is_refused_by_the_name_of_its_option(given: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=re.escape(words)):
        Options.of(given)


def test_options_can_be_given_as_text() -> None:
    options = Options.of({"checkpoint": "a=/x, b=/y", "max_megapixels": "5", "hosts": "a, b", "idle_minutes": 0})
    assert [each.name for each in options.checkpoint] == ["a", "b"]
    assert (options.max_pixels, options.hosts, options.idle_timeout_s) == (5_000_000, ("a", "b"), 3600)
    assert Options(negative_labels=("background, other", "sky")).negative_labels == ("background", "other", "sky")
    assert Options(**{name: getattr(options, name) for name in vars(options)}) == options


@pytest.mark.check(25)
@pytest.mark.parametrize(
    ("host", "expected"), [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False)]
)
def test_loopback(host: str, expected: bool) -> None:
    assert command.is_loopback(host) is expected


@pytest.mark.check(25)
def test_other_machines_need_tokens_or_insecure(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text(new_token("anna", "annotator")[1])
    options = command.Serve(checkpoint=("a",), host="0.0.0.0", port=free_port())
    command.check(replace(options, tokens=str(tmp_path / "tokens")))
    command.check(replace(options, insecure=True))
    with pytest.raises(InputError, match="--tokens FILE"):
        command.check(options)


def test_haproxy_needs_tokens_or_insecure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tokens").write_text(new_token("anna", "annotator")[1])
    options = command.Serve(checkpoint=("a",), port=free_port(), proxy=True)
    monkeypatch.delenv(command.HAPROXY, raising=False)
    command.check(options)
    monkeypatch.setenv(command.HAPROXY, "1")
    with pytest.raises(InputError, match="--tokens FILE"):
        command.check(options)
    command.check(replace(options, tokens=str(tmp_path / "tokens")))
    command.check(replace(options, insecure=True))
    command.check(replace(options, proxy=False))
