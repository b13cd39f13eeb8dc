"""A bucket whose server dies, refuses or lacks something: one clear error, and the same command resumes later."""

import http.server
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs import compare, evaluate, predict
from jobs.cli import out_place
from models import checkpoint
from models.errors import InputError
from models.lines import Lines, lines_at
from models.storage import Storage
from models.working import at_hand
from tests.bucket import Server
from tests.jobs.test_end_to_end import SMALL, TRAIN
from tests.models.tiny import tiny_network

ROOT = Path(__file__).parents[2]


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        yield server


def job(*argv: str) -> "subprocess.Popen[str]":
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-m", *argv], stdout=pipe, stderr=pipe, text=True, cwd=ROOT)


def ends(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    said, error = process.communicate(timeout=240)
    return process.returncode, said, error


def wait_for(process: "subprocess.Popen[str]", storage: Storage, folder: str) -> None:
    until = time.monotonic() + 120
    while len(storage.names(folder, "")) < 2:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until, folder
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("what", ["evaluate", "train"])
def test_a_job_whose_bucket_dies_fails_and_resumes_with_the_same_command(
    what: str, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    out = Storage(server.address.format(folder=what))
    if what == "evaluate":
        ours = str(checkpoint.save(tiny_network(), tmp_path / "ours", refinement="standard"))
        argv = ["jobs.evaluate", "--checkpoint", ours, "--reader", "scenes", "--options", "num_images", "20"]
        argv += ["--protocol.max-clicks", "20", "--scaling.actors", "1", "--out", out.uri]
        started, again = "journal.jsonl", "resuming: "
    else:
        argv = ["jobs.train", *TRAIN, "--training.steps", "60", "--out", out.uri]
        started, again = "ray/history.jsonl", "resuming the run in s3://masks/train"
    process = job(*argv)
    wait_for(process, out, started)
    server.stop()
    code, said, error = ends(process)
    assert code == 2, said + error
    assert error.strip().splitlines()[-1].startswith("error: s3://masks/"), error
    assert "secret" not in said + error
    server.start()
    done = len(lines_at(out.below(started).uri).texts())
    code, said, error = ends(job(*argv))
    assert code == 0, said + error
    assert again in said
    assert done > 1
    assert out.exists("summary.json" if what == "evaluate" else "checkpoint/checkpoint.json")


@pytest.mark.networks
def test_missing_objects_a_key_in_an_address_and_a_dead_server_are_one_error(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = server.address.format(folder="nothing")
    with pytest.raises(InputError, match="no checkpoint at s3://masks/nothing: expected a folder"):
        evaluate.main(["--checkpoint", nothing, "--reader", "scenes", "--options", *SMALL, "--out", nothing])
    lacks = Storage(server.address.format(folder="lacks"))
    made = checkpoint.save(tiny_network(), tmp_path / "made")
    lacks.write(checkpoint.DESCRIPTION, (made / checkpoint.DESCRIPTION).read_bytes())
    with pytest.raises(InputError, match=r"weights\.safetensors cannot be read"):
        checkpoint.load(lacks.uri)
    with pytest.raises(InputError, match=r"s3://masks/out was given with a key, which .* would store"):
        evaluate.main(["--reader", "scenes", "--options", *SMALL, "--out", "s3://key:secret@masks/out"])
    server.stop()
    with pytest.raises(InputError, match="s3://masks/gone cannot be accessed"):
        evaluate.main(["--reader", "scenes", "--options", *SMALL, "--out", server.address.format(folder="gone")])
    with pytest.raises(InputError, match="cannot be accessed"):
        predict.main(["--checkpoint", server.address.format(folder="gone"), "--image", str(_image(tmp_path)),
                      "--clicks", "3,3,+"])  # fmt: skip


def keep_appending(lines: Lines) -> None:
    for step in range(4, 60):
        lines.append({"step": step})
        time.sleep(0.5)


def _image(folder: Path) -> Path:
    import cv2
    import numpy as np

    cv2.imwrite(str(folder / "image.png"), np.zeros((8, 8, 3), np.uint8))
    return folder / "image.png"


@pytest.mark.networks
def test_lines_at_an_address_appear_within_seconds_and_survive_a_restart_of_the_server(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.lines.SECONDS", 0.2)
    place = server.address.format(folder="lines.jsonl")
    lines = lines_at(place)
    tail = lines_at(place).tail()
    lines.append({"step": 1})
    lines.append({"step": 2})
    assert lines_at(place).texts() == []  # in flight
    time.sleep(1.0)
    assert tail.new() == ['{"step": 1}\n', '{"step": 2}\n']
    assert tail.new() == []
    server.stop()
    lines.append({"step": 3})
    time.sleep(1.0)
    with pytest.raises(InputError, match=r"s3://masks/lines\.jsonl/000000002 cannot be written"):
        keep_appending(lines)
    server.start()
    lines.flush()
    assert tail.new()[0] == '{"step": 3}\n'
    again = lines_at(place)
    again.append({"step": 99})
    again.flush()
    assert lines_at(place).texts()[-1] == '{"step": 99}\n'
    assert not [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]


def test_names_with_spaces_and_other_letters(server: Server) -> None:
    plain = Storage(server.address.format(folder="ö ä/däta"))
    plain.write("x y.txt", b"1")
    assert plain.path("x y.txt") == "s3://masks/ö ä/däta/x y.txt"
    assert plain.names("", ".txt") == ["x y.txt"]
    assert Storage(server.address.format(folder="%C3%B6%20%C3%A4/däta")).read("x y.txt") == b"1"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("s3://masks/a//b", "s3://masks/a//b has an empty name between two slashes"),
        ("s3://", "s3:// names no folder"),
        ("s3:/masks/x", "--out s3:/masks/x: expected an address with two slashes"),
    ],
)
def test_invalid_addresses_are_one_error(given: str, said: str) -> None:
    with pytest.raises(InputError) as raised:
        Storage(out_place("--out", given))
    assert str(raised.value).startswith(said)


def test_a_scheme_may_be_written_in_capitals(server: Server) -> None:
    Storage(server.address.format(folder="x").replace("s3://", "S3://")).write("a", b"1")
    assert Storage(server.address.format(folder="x")).read("a") == b"1"


def test_the_name_of_a_file_at_an_address_may_be_percent_encoded(server: Server) -> None:
    Storage(server.address.format(folder="in")).write("ph öto.jpg", b"1")
    folder, mark, settings = server.address.format(folder="in").partition("?")
    for name in ("ph öto.jpg", "ph%20%C3%B6to.jpg"):
        with at_hand(f"{folder}/{name}{mark}{settings}") as path:
            assert path.read_bytes() == b"1"


def test_an_address_that_cannot_be_read_shows_no_key() -> None:
    with pytest.raises(InputError, match=r"s3://bucket:xx/\[ cannot be opened: .*") as raised:
        Storage("s3://key:hidden@bucket:xx/[")
    assert "hidden" not in str(raised.value)


def test_a_folder_without_an_evaluation_is_named_by_its_address(server: Server) -> None:
    with pytest.raises(
        InputError, match=r"^s3://masks/none holds no evaluation: expected .*\(No such file or directory\)$"
    ):
        compare.pick(server.address.format(folder="none"), "")


def test_a_refused_key_is_one_error_that_does_not_show_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing(http.server.BaseHTTPRequestHandler):
        """Answers as S3 does to a request that was signed with another key."""

        def answer(self) -> None:
            code = "SignatureDoesNotMatch"
            body = f"<Error><Code>{code}</Code><Message>The signature does not match</Message></Error>".encode()
            self.send_response(403)
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_PUT = do_POST = do_HEAD = answer

        def log_message(self, *_: object) -> None:
            return

    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden-key")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as refusing:
        threading.Thread(target=refusing.serve_forever, daemon=True).start()
        place = f"s3://masks/runs?endpoint_override=127.0.0.1:{refusing.server_port}&scheme=http&region=us-east-1"
        storage = Storage(place)
        for ask in (lambda: storage.read("a"), lambda: storage.write("a", b"1"), lambda: storage.names("", "")):
            with pytest.raises(InputError, match=r"^s3://masks/runs.* cannot be (read|written|listed): ") as raised:
                ask()
            assert "hidden-key" not in str(raised.value)
            assert "same command again" in str(raised.value)
        refusing.shutdown()
