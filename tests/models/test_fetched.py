"""A checkpoint in a bucket is accepted everywhere; it is copied once, and again when it has changed."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from jobs.predict import main as predict
from models import checkpoint
from models.errors import InputError
from models.predictor import Predictor
from models.storage import Storage, fetched, is_address, without_key
from serve.core.options import Options
from serve.loading.build import build_predictor
from tests.bucket import a_bucket
from tests.models.tiny import tiny_network


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with a_bucket() as address:
        yield without_login(address)


def without_login(address: str) -> str:
    return address.replace("key:secret@", "")


@pytest.fixture(autouse=True)
def at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "home"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")


def put(uri: str, folder: Path) -> None:
    for name in (checkpoint.WEIGHTS, checkpoint.DESCRIPTION):
        Storage(uri).write(name, (folder / name).read_bytes())


def test_checkpoint_at_an_address_answers_as_its_folder_and_is_copied_once(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri, here = bucket.format(folder="made/checkpoint"), checkpoint.save(tiny_network(), tmp_path / "here")
    put(uri, here)
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    near, far = Predictor(here), Predictor(uri)
    assert np.array_equal(near.open(image).click(30, 30), far.open(image).click(30, 30))
    assert far.model_version == near.model_version
    monkeypatch.setattr(Storage, "read", lambda self, name: pytest.fail("it was read again"))
    assert checkpoint.describe(uri) == checkpoint.describe(here)


def test_changed_checkpoint_at_an_address_is_read_again(bucket: str, tmp_path: Path) -> None:
    uri = bucket.format(folder="renewed")
    put(uri, checkpoint.save(tiny_network(), tmp_path / "one", note="one"))
    assert checkpoint.describe(uri)["info"] == {"note": "one"}
    put(uri, checkpoint.save(tiny_network(), tmp_path / "another", note="another"))
    assert checkpoint.describe(uri)["info"] == {"note": "another"}


def test_jobs_and_server_accept_an_address(bucket: str, tmp_path: Path) -> None:
    from PIL import Image

    uri = bucket.format(folder="served")
    put(uri, checkpoint.save(tiny_network(), tmp_path / "here"))
    Image.fromarray(np.zeros((40, 50, 3), np.uint8)).save(tmp_path / "photo.png")
    wanted = ["--image", str(tmp_path / "photo.png"), "--clicks", "20,20,+", "--out", str(tmp_path / "mask.png")]
    assert predict(["--checkpoint", uri, *wanted]) in (0, None)
    assert (tmp_path / "mask.png").is_file()
    built = build_predictor(Options.of({"checkpoint": f"clicks={uri}"}))
    assert built.model_version.startswith(built.network_name)


def test_address_with_a_key_is_refused_before_it_is_stored() -> None:
    uri = "s3://key:secret@masks/served"
    for given in (lambda: Options.of({"checkpoint": uri}), lambda: checkpoint.describe(uri), lambda: Predictor(uri)):
        with pytest.raises(InputError, match="AWS_SECRET_ACCESS_KEY") as caught:
            given()
        assert "secret@" not in str(caught.value)


def test_concurrent_copies_give_one_folder(bucket: str, tmp_path: Path) -> None:
    uri = bucket.format(folder="crowd")
    put(uri, checkpoint.save(tiny_network(), tmp_path / "here"))
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: fetched(uri, (checkpoint.WEIGHTS, checkpoint.DESCRIPTION)), range(8)))
    assert len(set(folders)) == 1
    assert checkpoint.load(folders[0])


def test_checkpoint_that_changes_during_the_copy_is_refused(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri, read = bucket.format(folder="moving"), Storage.read
    put(uri, checkpoint.save(tiny_network(), tmp_path / "here"))

    def changing(self: Storage, name: str) -> bytes:
        Storage(uri).write(checkpoint.DESCRIPTION, b"{}")
        return read(self, name)

    monkeypatch.setattr(Storage, "read", changing)
    with pytest.raises(InputError, match="changed while it was being copied"):
        checkpoint.describe(uri)
    assert not any((tmp_path / "home").glob("*/fetched/*"))


@pytest.mark.networks
def test_errors_about_missing_files_hide_the_key(bucket: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no checkpoint at s3://masks/nothing: expected") as missing:
        checkpoint.load(bucket.format(folder="nothing"))
    uri = bucket.format(folder="half")
    Storage(uri).write(
        checkpoint.DESCRIPTION, (checkpoint.save(tiny_network(), tmp_path / "a") / checkpoint.DESCRIPTION).read_bytes()
    )
    with pytest.raises(InputError, match=r"weights\.safetensors") as half:
        checkpoint.load(uri)
    with pytest.raises(InputError, match="cannot be changed in place") as fixed:
        checkpoint.recommend(uri, {})
    with a_bucket() as gone:
        dead = without_login(gone).format(folder="x")
    with pytest.raises(InputError, match="cannot be accessed") as unanswered:
        fetched(dead, (checkpoint.DESCRIPTION,))
    for caught in (missing, half, fixed, unanswered):
        assert "secret" not in str(caught.value)


def test_addresses_are_distinguished_from_paths() -> None:
    assert is_address("s3://a/b")
    assert not is_address("/a/b")
    assert without_key("s3://a:b@c/d?e=f") == "s3://c/d"
