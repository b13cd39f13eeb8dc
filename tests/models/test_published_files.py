"""Files that hold no weights: the error explains each, and no code in it runs."""

import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from models.errors import InputError
from models.published.importing import import_backbone, import_model


class Evil:
    def __reduce__(self):
        return os.system, ("false",)


def _cut(path: Path, keep: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])


def _flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    place = content.find(torch.tensor([500.0]).numpy().tobytes())
    assert place > 0
    content[place] ^= 1
    path.write_bytes(content)


def _zip_of_a_file(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("weights.pth", b"inside")


WEIGHTS = {"a": torch.arange(1000.0)}
FILES: list[tuple[str, Callable[[Path], Any], str]] = [
    ("folder", lambda path: path.mkdir(), "is a folder: expected a file, .pth or .safetensors"),
    ("absent", lambda path: None, "no checkpoint file at"),
    ("empty", lambda path: path.write_bytes(b""), r"it is empty \(0 bytes\); download it again"),
    ("lfs", lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid"), "git lfs pull"),
    ("html", lambda path: path.write_text("\n<!DOCTYPE html><html>Sign in"), "it is a web page, not weights"),
    ("xml", lambda path: path.write_text("\ufeff<?xml version='1.0'?><Error>"), "it is a web page, not weights"),
    ("7z", lambda path: path.write_bytes(b"7z\xbc\xaf\x27\x1c\x00"), r"it is an archive \(7z\): unpack it"),
    ("zip", _zip_of_a_file, r"it is an archive \(zip\): unpack it"),
    ("text", lambda path: path.write_text("hello there"), "it was not written by torch.save, or is damaged"),
    ("cut", lambda path: (torch.save(WEIGHTS, path), _cut(path, 0.6)), "it is truncated or damaged: download it again"),
    ("damaged", lambda path: (torch.save(WEIGHTS, path), _flip_a_byte(path)), r"the checksum of \S+ is wrong"),
    (
        "old and cut",
        lambda path: (torch.save(WEIGHTS, path, _use_new_zipfile_serialization=False), _cut(path, 0.9)),
        "it is truncated or damaged: download it again",
    ),
    ("stages", lambda path: torch.save([{"state_dict": WEIGHTS}] * 2, path), "holds a list of 2 checkpoints"),
    (
        "optimiser",
        lambda path: torch.save(torch.optim.SGD([torch.zeros(1)]).state_dict(), path),
        "holds no weights, only the state of an optimiser",
    ),
    ("trainer", lambda path: torch.save({"optimizer": {"state": {}}, "epoch": 3}, path), "the state of an optimiser"),
    ("nothing", lambda path: torch.save({"state_dict": {}}, path), "holds no weights: expected"),
    ("evil", lambda path: torch.save({"state_dict": WEIGHTS, "config": Evil()}, path), r"create or run \w+\.system"),
]


@pytest.mark.parametrize("importer", [import_model, import_backbone])
@pytest.mark.parametrize(("make", "said"), [row[1:] for row in FILES], ids=[row[0] for row in FILES])
def test_files_that_hold_no_weights_are_explained(
    make: Callable[[Path], Any], said: str, importer: Callable[..., Any], tmp_path: Path
) -> None:
    path = tmp_path / "x.pth"
    make(path)
    with pytest.raises(InputError, match=said) as caught:
        importer(path, "ritm_hrnet18s")
    assert str(path) in str(caught.value)
    assert "weights_only" not in str(caught.value), "torch's advice is to read the file unsafely"


@pytest.mark.parametrize("keep", [0.0001, 0.3, 0.99])
def test_cut_safetensors_are_refused(keep: float, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file(WEIGHTS, path)
    _cut(path, keep)
    with pytest.raises(InputError, match=r"empty|truncated or damaged"):
        import_model(path, "ritm_hrnet18s")
