"""Files are complete or unchanged on disks that are full, read-only or missing; each error is one sentence."""

import ast
import errno
import json
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from models import checkpoint, files
from models.errors import InputError, find_input_error
from tests.models.tiny import tiny_network
from tests.small_disk import SmallDisk

ROOT = Path(__file__).parents[2]
RAW = {
    "write_text",
    "write_bytes",
    "imwrite",
    "save_file",
    "copyfile",
    "copy2",
    "copytree",
    "touch",
    "tofile",
    "savetxt",
}
"""Calls that may leave half a file behind or do not report a full disk."""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.networks
@pytest.mark.parametrize("package", ["models", "pipeline", "jobs", "serve"])
def test_there_is_one_writer(package: str) -> None:
    """`touch` makes files whose content does not matter; SQLite's own file of sessions is one."""
    allowed = {("models/files.py", name) for name in RAW} | {
        ("models/checkpoint.py", "save_file"),
        ("models/checkpoint.py", "write_text"),
        ("pipeline/training/validation.py", "touch"),
        ("serve/sessions/store.py", "touch"),
        ("serve/sessions/sessions.py", "touch"),
    }
    found = set()
    for path in (ROOT / package).rglob("*.py"):
        name = str(path.relative_to(ROOT))
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            modes = [arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
            if called in RAW or (called == "open" and any(set(mode) & set("wax+") for mode in modes if len(mode) < 4)):
                found.add((name, called))
    opened = {
        ("models/storage.py", "open"),  # a part of `whole_file`
        ("models/checkpoint.py", "open"),
        ("models/lease.py", "open"),  # a lock, whose content does not matter
        ("jobs/mask_model.py", "copytree"),  # a temporary folder
        ("jobs/ray_env.py", "open"),  # nowhere: os.devnull
        ("serve/on_ray/serving.py", "open"),  # nowhere: os.devnull
    }
    assert found - allowed - opened == set()


@pytest.mark.parametrize("data", ["text ä", b"\x00bytes"])
def test_a_file_is_written_with_its_folders(data: bytes | str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files.write(tmp_path / "a" / "b" / "x", data)
    expected = data.encode() if isinstance(data, str) else data
    assert (tmp_path / "a" / "b" / "x").read_bytes() == expected
    assert names(tmp_path / "a" / "b") == ["x"]
    monkeypatch.chdir(tmp_path)
    files.write("relative.txt", "x")
    assert (tmp_path / "relative.txt").read_text() == "x"


def test_text_with_surrogates_is_written_escaped(tmp_path: Path) -> None:
    files.write(tmp_path / "x", "caf\udce9")
    assert (tmp_path / "x").read_text() == "caf\\udce9"


def test_write_keeps_file_modes_and_links(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        files.write(tmp_path / "new", "x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640
    (tmp_path / "new").chmod(0o600)
    (tmp_path / "link").symlink_to(tmp_path / "new")
    files.write(tmp_path / "link", "y")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "new").read_text() == "y"
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o600


def failing(number: int) -> Callable[..., None]:
    def fail(*args: object, **options: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


FAULTS = [
    (errno.ENOSPC, "No space left on device; make room there and run the same command again"),
    (errno.EDQUOT, "Disk quota exceeded; make room there and run the same command again"),
    (errno.EACCES, "Permission denied; choose a path that you may write to"),
    (errno.EROFS, "Read-only file system; choose a path that you may write to"),
    (errno.EIO, "Input/output error; fix that and run the same command again"),
]


@pytest.mark.parametrize(("number", "said"), FAULTS, ids=lambda value: str(value)[:12])
@pytest.mark.parametrize("place", ["fsync", "open"])
def test_failed_write_is_reported_and_keeps_the_old_file(
    number: int, said: str, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.json"
    files.write_json(path, {"old": 1})
    files.append_line(tmp_path / "lines", 1)
    monkeypatch.setattr(os, place, failing(number))
    with pytest.raises(InputError) as caught:
        files.write_json(path, {"new": 2})
    assert str(caught.value) == f"{path} cannot be written: {said}"
    with pytest.raises(InputError, match=r"lines cannot be written: "):
        files.append_line(tmp_path / "lines", 2)
    monkeypatch.undo()
    assert json.loads(path.read_text()) == {"old": 1}
    assert (tmp_path / "lines").read_text() == "1\n"
    assert names(tmp_path) == ["lines", "x.json"]


def test_write_names_a_folder_or_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match=r"folder cannot be written: Is a directory; name a file$"):
        files.write(tmp_path / "folder", "x")
    for path in (tmp_path / "file" / "x", tmp_path / "file" / "deep" / "x"):
        with pytest.raises(InputError, match=r"x cannot be written: .*; choose another path$"):
            files.write(path, "x")
    with pytest.raises(InputError, match=r"file cannot be written: File exists; choose another path$"):
        files.make_folder(tmp_path / "file")
    with pytest.raises(InputError, match="File name too long"):
        files.write(tmp_path / ("n" * 300), "x")
    assert (tmp_path / "file").read_text() == "mine"


def test_error_in_the_block_keeps_the_old_file(tmp_path: Path) -> None:
    files.write(tmp_path / "x", "old")
    with pytest.raises(KeyError), files.whole_file(tmp_path / "x") as part:
        raise KeyError(part.write_text("half"))
    assert (tmp_path / "x").read_text() == "old"
    assert names(tmp_path) == ["x"]


def test_whole_folder_appears_complete_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"out/x/y cannot be written"), files.whole_folder(tmp_path / "out") as folder:
        list(map(files.write, (folder / "x", folder / "x" / "y"), "xy"))
    assert names(tmp_path) == []
    (tmp_path / "out").mkdir()
    with files.whole_folder(tmp_path / "out") as folder:
        files.write(folder / "x", "x")
        assert names(tmp_path / "out") == []
    assert names(tmp_path / "out") == ["x"]
    with pytest.raises(InputError, match="out cannot be written"), files.whole_folder(tmp_path / "out"):
        pass
    assert names(tmp_path) == ["out"]


def test_append_after_half_a_line_starts_a_new_line(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_text('{"a": 1}\n{"half')
    files.append_line(path, {"b": 2})
    assert path.read_text() == '{"a": 1}\n{"half\n{"b": 2}\n'


def test_concurrent_writers_leave_one_complete_file(tmp_path: Path) -> None:
    path, texts = tmp_path / "x", [str(number) * 100_000 for number in range(8)]
    threads = [threading.Thread(target=files.write, args=(path, text)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_text() in texts
    assert names(tmp_path) == ["x"]


def test_pictures(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (7, 9, 3), np.uint8)
    files.write_image(tmp_path / "x.png", image)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "x.png")), image)
    files.write_image(tmp_path / "y.png", image[..., 0])
    assert np.array_equal(np.asarray(Image.open(tmp_path / "y.png")), image[..., 0])
    with pytest.raises(InputError, match=r"z\.jpg cannot be written: no \.jpg can hold 70000 x 2 pixels"):
        files.write_image(tmp_path / "z.jpg", np.zeros((2, 70000, 3), np.uint8))


@pytest.mark.check(45)
@pytest.mark.parametrize("room", [0, 4096, 8192, 40960, 65536])
def test_a_full_disk_leaves_the_old_file(room: int, small_disk: SmallDisk) -> None:
    path, lines = small_disk.path / "x.json", small_disk.path / "lines.jsonl"
    files.write_json(path, "old")
    files.append_line(lines, "old")
    small_disk.leave(room)
    with pytest.raises(InputError, match=r"x\.json cannot be written: No space left on device; make room there"):
        files.write_json(path, "n" * 100_000)
    with pytest.raises(InputError, match=r"lines\.jsonl cannot be written: No space left"):
        files.append_line(lines, "n" * 100_000)
    with (
        pytest.raises(InputError, match=r"new cannot be written: No space left"),
        files.whole_folder(path.parent / "new") as folder,
    ):
        (folder / "a").write_bytes(bytes(100_000))
    assert sorted(each.name for each in small_disk.path.iterdir()) == ["lines.jsonl", "x.json"]
    assert (json.loads(path.read_text()), lines.read_text()) == ("old", '"old"\n')
    small_disk.leave(2**20)
    files.write_json(path, "n" * 100_000)
    files.append_line(lines, "n" * 100_000)
    small_disk.check_whole()
    assert len(lines.read_text().splitlines()) == 2


@pytest.mark.parametrize("room", [0, 65536])
def test_save_on_a_full_disk_keeps_the_old_checkpoint(room: int, small_disk: SmallDisk) -> None:
    old, new = tiny_network(0), tiny_network(1)
    small_disk.leave(2 * 2**20)
    folder = checkpoint.save(old, small_disk.path / "a")
    small_disk.leave(room)
    for write in (lambda: checkpoint.save(new, folder), lambda: checkpoint.copy(folder, small_disk.path / "b")):
        with pytest.raises(InputError, match=r"weights\.safetensors cannot be written: .*; make room there"):
            write()
    assert not list(small_disk.path.rglob("*.part"))
    loaded, _ = checkpoint.load(folder)
    assert all(torch.equal(tensor, loaded.state_dict()[key]) for key, tensor in old.state_dict().items())
    small_disk.leave(2 * 2**20)
    assert checkpoint.load(checkpoint.copy(folder, small_disk.path / "b"))[1] == checkpoint.describe(folder)


def test_full_disk_reported_by_a_library_becomes_an_input_error() -> None:
    for text in (
        "[Errno 28] No space left on device: 'x'",
        "(sqlite3.OperationalError) database or disk is full\n[SQL: x]",
    ):
        wrapped = RuntimeError("it failed")
        wrapped.__cause__ = RuntimeError(f"a trace\n{text}")
        found = find_input_error(wrapped)
        assert found is not None
        assert str(found) == f"a disk is full ({text.splitlines()[0]}): make room and run the same command again"
    own = RuntimeError("No space left on device")
    own.__cause__ = InputError("x cannot be written: No space left on device")
    assert str(find_input_error(own)) == "x cannot be written: No space left on device"
    assert find_input_error(RuntimeError("something else")) is None


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.JPG"])
def test_write_image_prints_nothing(name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    files.write_image(tmp_path / name, np.zeros((8, 9, 3), np.uint8))
    assert capfd.readouterr() == ("", "")
