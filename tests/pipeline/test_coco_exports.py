"""COCO instances as CVAT, Label Studio and Roboflow write them: twelve small files, read completely.

Images are made here, in the sizes (and EXIF orientations) that expected.json lists; everything else is in the files.
"""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from models.errors import InputError
from pipeline.data.readers import coco_tables, open_reader
from pipeline.data.sample import BadItem
from tests.pipeline.small_data import picture

FOLDER = Path(__file__).parent / "golden" / "coco_exports"
EXPECTED = json.loads((FOLDER / "expected.json").read_text())


def write(name: str, root: Path) -> dict[str, np.ndarray]:
    """Lay out one export; returns the stored pixels of its images by path."""
    expected = EXPECTED[name]
    target = root / expected["json"]
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes((FOLDER / f"{name}.json").read_bytes())
    stored = {}
    for number, (path, (height, width, *orientation)) in enumerate(expected["images"].items()):
        stored[path] = picture(number, (height, width))
        exif = Image.Exif()
        if orientation:
            exif[0x0112] = orientation[0]
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        # A PNG, whatever the name says: its pixels come back as they are.
        Image.fromarray(stored[path]).save(root / path, "PNG", exif=exif)
    return stored


def read(name: str, root: Path) -> dict[str, dict[str, Any]]:
    expected = EXPECTED[name]
    reader = open_reader("coco", str(root), split=expected.get("split", ""))
    found: dict[str, dict[str, Any]] = {}
    for item in reader.items():
        wanted = expected["items"].get(item.id, {})
        try:
            sample = reader.load(item)
        except BadItem as error:
            bad = wanted.get("bad", "nothing")
            found[item.id] = {"listed": list(item.object_ids), "bad": bad if bad in error.reason else error.reason}
            continue
        reasons = dict(text.split(": ", 1) for text in sample.refused)
        entry: dict[str, Any] = {
            "objects": {ref.id: [ref.category, int(sample.object_mask(ref).sum())] for ref in sample.objects}
        }
        if reasons:
            entry["refused"] = {key: _shared(text, wanted, key) for key, text in reasons.items()}
        for key, value in (
            ("ignored", int(sample.ignore_mask.sum())),
            ("licence", sample.origin.licence),
        ):
            if value:
                entry[key] = value
        if "hw" in wanted:
            entry["hw"] = list(sample.image.shape[:2])
        if "file" in wanted:
            entry["file"] = wanted["file"] if sample.origin.file.endswith(f"/{wanted['file']}") else sample.origin.file
        found[item.id] = entry
    return found


def _shared(text: str, wanted: dict[str, Any], key: str) -> str:
    part = wanted.get("refused", {}).get(key, "nothing")
    return part if part in text else text


def test_there_are_twelve_exports() -> None:
    assert sorted(EXPECTED) == sorted(path.stem for path in FOLDER.glob("*.json") if path.stem != "expected")
    assert len(EXPECTED) == 12


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_an_export_reads_as_expected(
    name: str, streamed: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coco_tables, "STREAM_ABOVE", 0 if streamed else 1 << 30)
    write(name, tmp_path)
    with caplog.at_level(logging.WARNING):
        found = read(name, tmp_path)
    assert found == EXPECTED[name]["items"]
    assert list(found) == sorted(found)
    missing = [text for text in EXPECTED[name].get("warnings", []) if text not in caplog.text]
    assert not missing


def test_painted_masks_can_be_read_as_crowds(tmp_path: Path) -> None:
    write("cvat_painted", tmp_path)
    for crowds, objects in (("ignore", ["1/2"]), ("objects", ["1/1", "1/2", "2/3", "2/4"]), ("auto", None)):
        items = open_reader("coco", str(tmp_path), options={"crowds": crowds}).items()
        listed = [object_id for item in items for object_id in item.object_ids]
        assert listed == (objects or ["1/1", "1/2", "2/3", "2/4"])


def test_a_data_set_of_crowds_warns_and_names_the_option(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write("cvat_painted", tmp_path)
    path = tmp_path / EXPECTED["cvat_painted"]["json"]
    data = json.loads(path.read_text())
    data["annotations"] = [{**record, "iscrowd": 1, "attributes": {}} for record in data["annotations"]]
    path.write_text(json.dumps(data))
    assert [item.object_ids for item in open_reader("coco", str(tmp_path)).items()] == [(), ()]
    assert "all 4 annotations are crowds and none is an object; set crowds=objects" in caplog.text
    with pytest.raises(InputError, match="expected auto, ignore or objects"):
        open_reader("coco", str(tmp_path), options={"crowds": "keep"})


def test_names_may_begin_with_the_images_folder(tmp_path: Path) -> None:
    """As Label Studio writes them, with the folder named by an option; the name of another folder is kept."""
    write("label_studio_polygons", tmp_path)
    for name in ("images", "photos"):
        (tmp_path / "images").rename(tmp_path / name)
        reader = open_reader("coco", str(tmp_path), options={"images": name})
        assert len(reader.load(reader.items()[0]).objects) == 2
    text = (tmp_path / "result.json").read_text()
    (tmp_path / "result.json").write_text(text.replace("images/", "other/"))
    with pytest.raises(BadItem, match="does not exist"):
        reader.load(reader.items()[0])


def test_rotated_photos_are_rotated_to_fit(tmp_path: Path) -> None:
    stored = write("cvat_rotated", tmp_path)
    reader = open_reader("coco", str(tmp_path))
    turned, kept, _ = reader.items()
    np.testing.assert_array_equal(reader.load(turned).image, np.rot90(stored["images/default/phone.jpg"], -1))
    np.testing.assert_array_equal(reader.load(kept).image, stored["images/default/stored.jpg"])
