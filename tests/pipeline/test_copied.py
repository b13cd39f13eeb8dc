"""A data set of files in a bucket is read like its folder: through a copy on each machine, made once."""

import dataclasses
import functools
import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.errors import InputError
from models.storage import Storage
from pipeline.data.readers import READERS, open_reader
from pipeline.data.readers.copied import Copied
from tests.bucket import Server
from tests.pipeline.small_data import SMALL

OF_FILES = [name for name in SMALL if READERS[name].root and name != "prepared"]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server() as server:
        yield server


@pytest.fixture(autouse=True)
def at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "home"))


def put(folder: Path, uri: str) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            Storage(uri).write(path.relative_to(folder).as_posix(), path.read_bytes())


def over(reader: Any, folder: str) -> Any:
    return dataclasses.replace(reader, root=folder)


@pytest.mark.parametrize("name", OF_FILES)
def test_a_copy_lists_and_opens_the_images_of_its_folder(
    name: str, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    near: Any = SMALL[name](tmp_path / "here")
    uri = server.address.format(folder=f"raw/{name}")
    put(Path(near.root), uri)
    far = Copied(uri, functools.partial(over, near))
    items = far.items()
    assert [(item.id, item.object_ids) for item in items] == [(item.id, item.object_ids) for item in near.items()]
    # A worker has another folder for temporary files.
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "elsewhere"))
    other = pickle.loads(pickle.dumps(far))
    shutil.rmtree(tmp_path / "home")
    for own, item in zip(near.items(), items, strict=True):
        here, there = near.load(own), other.load(item)
        assert np.array_equal(here.image, there.image)
        assert [o.id for o in here.objects] == [o.id for o in there.objects]


def test_readers_copy_an_address_once(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    near: Any = SMALL["coco"](tmp_path / "here")
    uri = server.address.format(folder="once")
    put(Path(near.root), uri)
    assert [item.id for item in open_reader("coco", uri, near.split).items()] == [item.id for item in near.items()]
    assert "s3://masks/once is copied to this machine" in caplog.text
    with monkeypatch.context() as patched:
        patched.setattr(Storage, "read", lambda self, name: pytest.fail("it was copied again"))
        again = open_reader("coco", uri, near.split)
        assert again.load(again.items()[0]).image.shape == near.load(near.items()[0]).image.shape
    with pytest.raises(InputError, match="was given with a key"):
        open_reader("coco", uri.replace("s3://", "s3://key:secret@"))
    with pytest.raises(InputError, match="there are no files at s3://masks/nothing"):
        open_reader("coco", server.address.format(folder="nothing")).items()
    Storage(server.address.format(folder="other")).write("notes.txt", b"?")
    with pytest.raises(InputError, match=r"'s3://masks/other' holds .*; reader 'coco' expects a COCO JSON"):
        open_reader("coco", server.address.format(folder="other")).items()
