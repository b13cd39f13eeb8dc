"""Rotated photos in folders of masks and in prepared data sets: masks lie on their objects."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.errors import InputError
from models.storage import Storage
from pipeline.data.prepared.manifest import MANIFEST
from pipeline.data.prepared.prepare import prepare, run_here
from pipeline.data.readers import open_reader
from pipeline.data.sample import BadItem
from tests.pipeline.small_data import save
from tests.pipeline.turned import KEEP_SIZE, TURNS, UP, photo, save_mask, scene, share_on_object, warnings


def masks_folder(root: Path, photos: dict[str, tuple[int, bool]], file_format: str = "PNG") -> None:
    """Photos by name, with their orientation and whether their mask fits the upright photo."""
    upright, mask = scene()
    for name, (orientation, of_upright) in photos.items():
        stored = photo(root / "images" / f"{name}.png", upright, orientation, file_format)
        label = mask if of_upright else np.all(stored > 200, axis=2)
        save_mask(label, root / "masks" / f"{name}.png")


class TestMasks:
    def test_folders_of_masks_fit_upright_photos(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        masks_folder(tmp_path, {f"o{n}": (n, True) for n in (1, *TURNS)})
        reader = open_reader("masks", str(tmp_path))
        for item in reader.items():
            assert share_on_object(reader.load(item)) == 1, item.id
        (text,) = warnings(caplog)
        assert "3 photos" in text
        assert "read upright, like those" in text

    def test_decided_photos_decide_for_their_folder(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        masks_folder(tmp_path, {"quarter": (6, False), "half": (3, False), "plain": (1, True)})
        reader = open_reader("masks", str(tmp_path))
        assert [share_on_object(reader.load(item)) for item in reader.items()] == [1, 1, 1]
        assert len(warnings(caplog)) == 1

    def test_published_sets_are_read_as_they_are_stored(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        masks_folder(tmp_path, {"quarter": (6, True), "half": (3, False)})
        for folder, name in (("images", "img"), ("masks", "gt")):
            (tmp_path / folder).rename(tmp_path / name)
        reader = open_reader("davis", str(tmp_path))
        assert [share_on_object(reader.load(item)) for item in reader.items()] == [1, 1]
        assert not warnings(caplog)

    def test_an_explicit_choice_wins(self, tmp_path: Path) -> None:
        masks_folder(tmp_path, {"half": (3, True), "quarter": (6, True)})
        reader = open_reader("masks", str(tmp_path), options={"exif": "stored"})
        half, quarter = reader.items()
        assert share_on_object(reader.load(half)) == 0
        with pytest.raises(BadItem, match=r"quarter: image quarter.png: exif=stored was given.*upright"):
            reader.load(quarter)

    @pytest.mark.parametrize("orientation", [3, 6])
    def test_a_mask_may_carry_an_orientation(self, orientation: int, tmp_path: Path) -> None:
        """It is that of the photo from whose pixels the mask was copied."""
        upright, mask = scene()
        photo(tmp_path / "images" / "a.png", upright, orientation)
        photo(tmp_path / "masks" / "a.png", mask.astype(np.uint8) * 255, orientation)
        for exif in ("auto", "upright", "stored"):
            reader = open_reader("masks", str(tmp_path), options={"exif": exif, "rule": "ids"})
            assert share_on_object(reader.load(reader.items()[0])) == 1


def mask_per_object(root: Path, orientation: int, upright_masks: bool = True, folder: str = "a") -> None:
    upright, mask = scene()
    stored = photo(root / folder / "images" / "a.png", upright, orientation)
    label = mask if upright_masks else np.all(stored > 200, axis=2)
    save_mask(label, root / folder / "masks" / "one.png")


class TestMaskFolders:
    @pytest.mark.parametrize("name", ["nuclei", "mask_folders"])
    @pytest.mark.parametrize("orientation", TURNS)
    def test_rotated_photos_are_read(self, orientation: int, name: str, tmp_path: Path) -> None:
        mask_per_object(tmp_path, orientation)
        reader = open_reader(name, str(tmp_path))
        sample = reader.load(reader.items()[0])
        assert sample.refused == ()
        assert share_on_object(sample) == 1

    def test_masks_of_stored_pixels_decide_for_their_folder(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        mask_per_object(tmp_path, 6, False)
        mask_per_object(tmp_path, 3, False, "b")
        reader = open_reader("nuclei", str(tmp_path))
        assert [share_on_object(reader.load(item)) for item in reader.items()] == [1, 1]
        (text,) = warnings(caplog)
        assert "1 photos" in text

    def test_masks_that_do_not_fit_as_most_do_are_refused_alone(self, tmp_path: Path) -> None:
        mask_per_object(tmp_path, 6)
        for number, hw in enumerate((UP, UP, (20, 30), (9, 9))):
            save(np.ones(hw, np.uint8), tmp_path / "a" / "masks" / f"m{number}.png")
        reader = open_reader("nuclei", str(tmp_path))
        sample = reader.load(reader.items()[0])
        assert [ref.id for ref in sample.objects] == ["a/m0", "a/m1", "a/one"]
        assert [text.split(":")[0] for text in sample.refused] == ["a/m2", "a/m3"]
        reader = open_reader("nuclei", str(tmp_path), options={"exif": "stored"})
        sample = reader.load(reader.items()[0])
        assert [ref.id for ref in sample.objects] == ["a/m2"]
        assert "exif=stored was given" in sample.refused[0]

    @pytest.mark.parametrize("orientation", TURNS)
    def test_rotated_photos_of_mattes_are_read(self, orientation: int, tmp_path: Path) -> None:
        """HIM2K is a published data set: undecided photos are read as they are stored."""
        upright, mask = scene()
        stored = photo(tmp_path / "images" / "natural" / "a.png", upright, orientation)
        label = np.all(stored > 200, axis=2) if orientation in KEEP_SIZE else mask
        save_mask(label, tmp_path / "alphas" / "natural" / "a" / "0.png")
        reader = open_reader("him2k", str(tmp_path))
        sample = reader.load(reader.items()[0])
        assert share_on_object(sample) == 1
        assert sample.refused == ()


class TestPrepared:
    @pytest.mark.parametrize("file_format", ["PNG", "JPEG", "TIFF"])
    def test_rotated_photos_come_back_rotated(self, file_format: str, tmp_path: Path) -> None:
        masks_folder(tmp_path / "source", {f"o{n}": (n, True) for n in (1, *TURNS)}, file_format)
        for exif in ("auto", "upright", "stored"):
            reader = open_reader("masks", str(tmp_path / "source"), options={"exif": exif})
            out = tmp_path / exif
            settings = {"reader": "masks", "exif": exif}
            prepare(reader, Storage(str(out)), settings, run=run_here(2), items_per_part=3)
            assert json.loads((out / MANIFEST).read_text())["settings"]["exif"] == exif
            usable = {item.id: item for item in reader.items()}
            found = open_reader("prepared", str(out), options={"exif": exif})
            assert len(found.items()) == (8 if exif != "stored" else 4)
            for item in found.items():
                sample, expected = found.load(item), reader.load(usable[item.id])
                np.testing.assert_array_equal(sample.image, expected.image)
                np.testing.assert_array_equal(sample.instance_masks, expected.instance_masks)

    def test_another_exif_is_refused_after_preparing(self, tmp_path: Path) -> None:
        masks_folder(tmp_path / "source", {"a": (3, True)})
        reader = open_reader("masks", str(tmp_path / "source"))
        prepare(reader, Storage(str(tmp_path / "out")), {"exif": "auto"}, run=run_here())
        with pytest.raises(InputError, match=r"exif is stored.* with auto: prepare it again with --exif stored"):
            open_reader("prepared", str(tmp_path / "out"), options={"exif": "stored"})

    def test_shards_of_earlier_versions_are_read_as_stored_with_one_warning(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        masks_folder(tmp_path / "source", {"half": (3, True), "plain": (1, True), "quarter": (6, True)})
        reader = open_reader("masks", str(tmp_path / "source"), options={"exif": "auto"})
        items = reader.items()
        for item in items:
            del item.payload["upright"]

        class Before:
            """Lists the items of an earlier version's plan."""

            def items(self) -> Any:
                return items

            load = reader.load

        prepare(Before(), Storage(str(tmp_path / "out")), {"reader": "masks"}, run=run_here())
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            found = open_reader("prepared", str(tmp_path / "out"))
            samples = [found.load(item) for item in found.items()]
            assert len(found.items()) == 3
        np.testing.assert_array_equal(samples[0].image, np.rot90(scene()[0], 2))
        np.testing.assert_array_equal(samples[2].image, scene()[0])
        (text,) = warnings(caplog)
        assert "of 3 photos checked, 1 carry an EXIF orientation" in text
