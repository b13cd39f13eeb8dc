"""Fingerprints of photos, and the list of them in a checkpoint."""

import io
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models import checkpoint as checkpoints
from models.fingerprints import KEY, fingerprint, pack, trained_on
from models.published.importing import import_base
from pipeline.data.images import read_image
from tests.training.tiny import tiny_network


def photo(seed: int = 0, hw: tuple[int, int] = (47, 61)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*hw, 3), dtype=np.uint8)


def test_fingerprint_depends_on_pixels_and_not_on_the_file() -> None:
    image = photo()
    assert fingerprint(image) == fingerprint(image.copy())
    assert fingerprint(np.asfortranarray(image)) == fingerprint(image)
    assert fingerprint(image[:, ::-1][:, ::-1]) == fingerprint(image)
    for name in ("PNG", "BMP", "TIFF"):
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, name)
        assert fingerprint(read_image(buffer.getvalue())) == fingerprint(image)


def test_one_changed_value_changes_the_fingerprint() -> None:
    image = photo()
    found = {fingerprint(image)}
    for y in range(0, 47, 5):
        for x in range(0, 61, 5):
            other = image.copy()
            other[y, x, (y + x) % 3] ^= 1
            found.add(fingerprint(other))
    assert len(found) == 1 + 10 * 13
    assert all(0 <= number < 2**64 for number in found)


def test_size_changes_the_fingerprint() -> None:
    sizes = [(20, 30), (30, 20), (60, 10), (1, 600)]
    assert len({fingerprint(np.zeros((*hw, 3), np.uint8)) for hw in sizes}) == len(sizes)


@pytest.mark.parametrize("num", [0, 1, 5000])
def test_packed_fingerprints_read_back(num: int) -> None:
    numbers = {int(n) for n in np.random.default_rng(0).integers(0, 2**64, num, dtype=np.uint64)} | {2**64 - 1}
    packed = json.loads(json.dumps({KEY: pack(numbers)}))
    assert packed[KEY]["photos"] == len(numbers)
    assert trained_on(packed) == numbers
    assert len(json.dumps(packed)) < 11 * len(numbers) + 100


def test_checkpoint_without_fingerprints_has_no_training_photos() -> None:
    assert trained_on({}) == trained_on({"info": {}}) == set()
    assert trained_on({KEY: {"version": 2, "fingerprints": "?"}}) == set()


def test_copy_and_recommend_keep_fingerprints(tmp_path: Path) -> None:
    folder = checkpoints.save(tiny_network(), tmp_path / "one", photos={3, 5}, refinement="standard")
    assert checkpoints.describe(folder)["info"] == {"refinement": "standard"}
    shutil.copytree(folder, tmp_path / "two")
    checkpoints.recommend(tmp_path / "two", {"flip": True})
    assert trained_on(checkpoints.load(tmp_path / "two")[1]) == {3, 5}
    assert KEY not in checkpoints.describe(checkpoints.save(tiny_network(), tmp_path / "none"))


def test_import_base_keeps_fingerprints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from models.networks import NETWORKS, create
    from tests.models.tiny import TINY

    for name in ("simpleclick_vit_base", "emc_vit_base"):
        monkeypatch.setitem(NETWORKS, name.replace("base", "a"), create(name, **TINY).config)
    base = create("simpleclick_vit_a")
    folder = checkpoints.save(base, tmp_path / "base", photos={8, 9})
    assert import_base(folder, "emc_vit_a").photos == {8, 9}


def test_fingerprints_do_not_import_torch() -> None:
    import subprocess

    code = "import sys, models.fingerprints; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=False).returncode == 0
