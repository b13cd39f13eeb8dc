"""Names: whole stems, names that differ from a file's only in form, and texts that are not UTF-8."""

import json
import os
import re
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from models import rle
from models.errors import InputError
from models.storage import Storage
from pipeline.data.prepared.prepare import prepare, run_here
from pipeline.data.readers import coco_tables, open_reader
from pipeline.data.readers.folders import is_image, stem
from pipeline.data.readers.names import Names, pair, seek
from pipeline.data.sample import BadItem, Item, Reader, printable
from pipeline.evaluation import results
from pipeline.evaluation.config import EvaluationConfig
from pipeline.pages.data_report import write_prepared_report
from pipeline.pages.report import write_report
from tests.evaluation.fakes import row
from tests.pipeline.small_data import (
    HW,
    annotation,
    box,
    image_record,
    panoptic_png,
    picture,
    save,
    save_mat,
    sbd_instances,
    write_coco_json,
)

BYTES = os.fsdecode(b"caf\xe9")
"""A name of Latin-1 on a disk of UTF-8."""
FORMS = [
    ("Capture_d'écran", "Capture_d%27%C3%A9cran", "percent-encoding"),
    ("Capture_d%C3%A9cran", "Capture_décran", "percent-encoding"),
    ("IMG_1", "img_1", "letter case"),
    (unicodedata.normalize("NFC", "Ångström é"), unicodedata.normalize("NFD", "Ångström é"), "composed letters"),
    ("ECRAN%20É", unicodedata.normalize("NFD", "ecran é"), "composed letters"),
]
"""What is asked for, what is there, and what has to be overlooked."""


def mask(number: int = 0) -> np.ndarray:
    return box(2 + number, 3, 9, 6).astype(np.uint8) * 255


def masks_folder(root: Path, pairs: dict[str, str]) -> Reader:
    """Images by name, with the name of their mask ("" for none)."""
    for number, (image, label) in enumerate(pairs.items()):
        save(picture(number), root / "images" / image)
        if label:
            save(mask(number), root / "masks" / label)
    return open_reader("masks", str(root))


def belongs(reader: Reader, pairs: dict[str, int | str]) -> None:
    """Assert that items have the mask of the number, or are refused for the reason."""
    items = {item.id: item for item in reader.items()}
    assert sorted(items) == sorted(pairs)
    for name, expected in pairs.items():
        if isinstance(expected, str):
            assert len(items[name].object_ids) <= 1
            with pytest.raises(BadItem, match=expected):
                reader.load(items[name])
        else:
            sample = reader.load(items[name])
            np.testing.assert_array_equal(sample.object_mask(sample.objects[0]), mask(expected) > 0)


class TestStems:
    def test_the_last_dot_ends_a_name(self, tmp_path: Path) -> None:
        names = ("shot_0.10.png", "shot_0.15.png", "plain.png")
        belongs(masks_folder(tmp_path, {name: name for name in names}), {stem(name): n for n, name in enumerate(names)})

    def test_names_are_not_paired_by_their_beginning(self, tmp_path: Path) -> None:
        reader = masks_folder(tmp_path, {"LIDC_1.3.6.1.png": "LIDC_1.9.9.7.png", "fine.png": "fine.png"})
        belongs(reader, {"LIDC_1.3.6.1": "no mask file", "fine": 1})

    @pytest.mark.parametrize(
        ("image", "label"), [("12.png", "12.seg.png"), ("12.rgb.png", "12.png"), ("v1.5.png", "v1.5.mask.GT.png")]
    )
    def test_words_between_dots_may_be_left_out(
        self, image: str, label: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        belongs(masks_folder(tmp_path, {image: label}), {stem(image): 0})
        (text,) = [text for text in caplog.messages if "1 names match no file exactly" in text]
        assert f"words between dots: 1, such as {stem(label)!r} for {stem(image)!r}" in text

    def test_ambiguous_masks_are_refused(self, tmp_path: Path) -> None:
        reader = masks_folder(tmp_path, {"12.png": "12.seg.png", "13.png": "13.png"})
        save(mask(), tmp_path / "masks" / "12.depth.png")
        belongs(reader, {"12": "'12' may refer to '12.depth', '12.seg'", "13": 1})
        assert next(iter(reader.items())).object_ids == ("12/unreadable",)

    def test_words_on_both_sides_must_be_the_same_in_the_whole_data_set(self, tmp_path: Path) -> None:
        reader = masks_folder(tmp_path / "a", {f"{n}.rgb.png": f"{n}.seg.png" for n in (1, 2, 3)})
        belongs(reader, {"1.rgb": 0, "2.rgb": 1, "3.rgb": 2})
        reader = masks_folder(tmp_path / "b", {"a.one.png": "a.two.png", "c.png": "c.png"})
        belongs(reader, {"a.one": "no mask file", "c": 1})

    def test_changed_ids_are_reported_once(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        reader = masks_folder(tmp_path, {"12.rgb.png": "12.png", "b.png": "b.png"})
        assert [item.id for item in [*reader.items(), *reader.items()]] == ["12.rgb", "b"] * 2
        (text,) = [text for text in caplog.messages if "earlier versions" in text]
        assert "1 names hold a dot" in text
        assert "('12.rgb')" in text
        assert "('12')" in text

    def test_patterns_of_mask_folders_take_whole_names(self, tmp_path: Path) -> None:
        for number, name in enumerate(("shot_0.10", "shot_0.15")):
            save(picture(), tmp_path / "images" / f"{name}.png")
            for part in ("1", "2"):
                save(mask(number), tmp_path / "masks" / f"{name}.{part}.png")
        options = {"images": "images/{name}.*", "masks": "masks/{name}.*"}
        reader = open_reader("mask_folders", str(tmp_path), options=options)
        belongs(reader, {"shot_0.10": 0, "shot_0.15": 1})
        assert reader.items()[0].object_ids == ("shot_0.10/shot_0.10.1", "shot_0.10/shot_0.10.2")

    @given(st.lists(st.text("ab.1_", min_size=1, max_size=6).filter(lambda t: t.strip(".")), min_size=1, unique=True))
    @settings(max_examples=100, deadline=None)
    def test_equal_names_are_always_pairs(self, names: list[str]) -> None:
        pairs = pair(names, names, words=True)
        assert pairs.of == {name: name for name in names}
        assert not pairs.found.counts


def yolo(root: Path, image: str, label: str) -> Reader:
    save(picture(), root / "images" / "deep" / f"{image}.png")
    save(picture(), root / "images" / "deep" / "other.png")
    (root / "labels" / "deep").mkdir(parents=True)
    (root / "labels" / "deep" / f"{label}.txt").write_text("0 0.1 0.1 0.5 0.1 0.5 0.55 0.1 0.55\n")
    return open_reader("yolo", str(root))


def masks(root: Path, image: str, label: str) -> Reader:
    return masks_folder(root, {f"{image}.png": f"{label}.png"})


def nuclei(root: Path, image: str, label: str) -> Reader:
    save(picture(), root / "images" / f"{image}.png")
    save(mask(), root / "masks" / label / "one.png")
    return open_reader("mask_folders", str(root), options={"images": "images/{name}.*", "masks": "masks/{name}/*"})


def him2k(root: Path, image: str, label: str) -> Reader:
    save(picture(), root / "images" / "natural" / f"{image}.png")
    save(mask(), root / "alphas" / "natural" / label / "0.png")
    return open_reader("him2k", str(root))


def coco(root: Path, image: str, label: str) -> Reader:
    """Here the annotation file holds the requested name, and the image has the existing one."""
    save(picture(), root / "images" / "deep" / f"{label}.png")
    write_coco_json(root, [image_record(1, f"deep/{image}.png")], [annotation(1, 1, mask() > 0)])
    return open_reader("coco", str(root))


def voc(root: Path, image: str, label: str) -> Reader:
    return voc_list(root, [image], label)


def voc_list(root: Path, names: list[str], there: str) -> Reader:
    """A list of names, and the only existing image."""
    save(picture(), root / "JPEGImages" / f"{there}.jpg")
    labels = Image.fromarray(mask() // 255).convert("P")
    (root / "SegmentationObject").mkdir(exist_ok=True)
    labels.save(root / "SegmentationObject" / f"{there}.png")
    (root / "ImageSets" / "Segmentation").mkdir(parents=True, exist_ok=True)
    (root / "ImageSets" / "Segmentation" / "val.txt").write_text("\n".join(names), encoding="utf-8")
    return open_reader("pascal_voc", str(root))


def sbd_list(root: Path, names: list[str], there: str) -> Reader:
    save(picture(), root / "img" / f"{there}.jpg")
    save_mat(root / "inst" / f"{there}.mat", GTinst=sbd_instances(mask() // 255))
    (root / "val.txt").write_text("\n".join(names))
    return open_reader("sbd", str(root))


def panoptic_list(root: Path, names: list[str], there: str) -> Reader:
    save(picture(), root / "images" / f"{there}.png")
    save(panoptic_png({1: mask() > 0}), root / "annotations" / "panoptic_val" / f"{there}.png")
    segments = [{"id": 1, "category_id": 1, "iscrowd": 0, "area": 25}]
    data = {
        "images": [image_record(n, f"{name}.png") for n, name in enumerate(names)],
        "annotations": [
            {"image_id": n, "file_name": f"{name}.png", "segments_info": segments} for n, name in enumerate(names)
        ],
        "categories": [{"id": 1, "name": "cat", "isthing": 1}],
    }
    (root / "annotations" / "panoptic_val.json").write_text(json.dumps(data))
    return open_reader("coco_panoptic", str(root))


class TestForms:
    @pytest.mark.parametrize(("asked", "there", "way"), FORMS)
    @pytest.mark.parametrize("build", [yolo, masks, nuclei, him2k, coco, voc])
    def test_a_name_of_another_form_is_found_and_reported_once(
        self,
        build: Callable[[Path, str, str], Reader],
        asked: str,
        there: str,
        way: str,
        tmp_path: Path,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        reader = build(tmp_path, asked, there)
        item = next(item for item in reader.items() if item.object_ids)
        assert len(reader.load(item).objects) == 1
        texts = [text for text in caplog.messages if "match no file exactly" in text]
        assert len(texts) == (2 if build is voc else 1)  # of its images, and of its masks
        assert f"{way}: 1, such as " in texts[0]

    def test_a_query_is_cut_off(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        query = "?X-Amz-Credential=AKIA/2024/s3/aws4_request&X-Amz-Signature=0%2F1.png"
        for name in ("x y.png", "z y.png", "deep y.png"):
            save(picture(), tmp_path / "images" / name)
        names = ["x y.png" + query, "z%20y.png" + query, "https://b.s3.amazonaws.com/deep/deep%20y.png" + query]
        records = [image_record(n, name) for n, name in enumerate(names)]
        write_coco_json(tmp_path, records, [annotation(n, n, mask() > 0) for n in range(3)])
        reader = open_reader("coco", str(tmp_path))
        for item in reader.items():
            assert len(reader.load(item).objects) == 1
        (text,) = caplog.messages
        assert "a query behind the name: 3" in text

    def test_a_download_may_have_kept_its_query(self, tmp_path: Path) -> None:
        """A suffix with a query behind it still marks an image, and the id does not contain the query."""
        names = {"x.png?X-Amz-Signature=0.1": "x.png", "y.png": "y.png?sig=ab", "z.PNG?a": "Z.png"}
        for number, (image, label) in enumerate(names.items()):
            for folder, name, array in (("images", image, picture()), ("masks", label, mask(number))):
                save(array, tmp_path / folder / "a.png").rename(tmp_path / folder / name)
        belongs(open_reader("masks", str(tmp_path)), {"x": 0, "y": 1, "z": 2})
        save(picture(), tmp_path / "coco" / "a.png").rename(tmp_path / "coco" / "a.png?sig=1")
        write_coco_json(tmp_path / "coco", [image_record(1, "a.png")], [annotation(1, 1, mask() > 0)])
        reader = open_reader("coco", str(tmp_path / "coco"))
        assert len(reader.load(reader.items()[0]).objects) == 1

    @pytest.mark.parametrize(
        ("kind", "image", "label"),
        [
            *((kind, *names) for kind in ("masks", "yolo") for names in (("?s=1", ""), ("", "?s=1"), ("?s=1", "?s=2"))),
            ("him2k", "?s=1", ""),
        ],
    )
    def test_a_query_that_is_cut_off_is_reported_by_each_reader(
        self, kind: str, image: str, label: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        build = {"masks": masks, "yolo": yolo, "him2k": him2k}[kind]
        build(tmp_path, "x", "x")
        for folder, query in (("images", image), ("masks", label), ("labels", label)):
            for there in (tmp_path / folder).rglob("x.*"):
                there.rename(there.with_name(there.name + query))
        reader = open_reader(kind, str(tmp_path))
        (item,) = [item for item in reader.items() if item.id.endswith("x")]
        assert len(reader.load(item).objects) == 1
        (text,) = [text for text in caplog.messages if "match no file exactly" in text]
        assert "a query behind the name: 1, such as 'x" in text
        assert "s=" not in text

    def test_exact_names_come_first(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        names = {
            f"{name}.png": f"{name}.png" for name in ("A", "a", "a%20b", "a b", "é", unicodedata.normalize("NFD", "é"))
        }
        belongs(masks_folder(tmp_path, names), {stem(name): number for number, name in enumerate(names)})
        assert not caplog.messages

    def test_ambiguous_names_are_refused(self, tmp_path: Path) -> None:
        for name in ("IMG_1.png", "Img_1.png"):
            save(picture(), tmp_path / "images" / name)
        save(mask(), tmp_path / "masks" / "img_1.png")
        save(picture(), tmp_path / "images" / "b.png")
        save(mask(1), tmp_path / "masks" / "b.png")
        belongs(
            open_reader("masks", str(tmp_path)),
            {"IMG_1": "'IMG_1', 'Img_1' may refer to 'img_1'", "Img_1": "rename them", "b": 1},
        )
        write_coco_json(tmp_path, [image_record(1, "img_1.png")], [annotation(1, 1, mask() > 0)])
        reader = open_reader("coco", str(tmp_path))
        with pytest.raises(BadItem, match=r"'img_1.png' may refer to 'IMG_1.png', 'Img_1.png'"):
            reader.load(reader.items()[0])

    def test_a_data_set_of_ambiguous_names_is_refused(self, tmp_path: Path) -> None:
        for name in ("IMG_1.png", "Img_1.png"):
            save(picture(), tmp_path / "images" / name)
        save(mask(), tmp_path / "masks" / "img_1.png")
        with pytest.raises(InputError, match=r"none of the 2 images.*may refer to 'img_1'"):
            open_reader("masks", str(tmp_path)).items()

    def test_each_file_is_paired_once(self) -> None:
        pairs = pair(["IMG_1", "img_1"], ["IMG_1"])
        assert (pairs.of, pairs.faults) == ({"IMG_1": "IMG_1"}, {})

    @pytest.mark.parametrize("streamed", [False, True])
    @pytest.mark.parametrize(
        ("names", "there", "refused"),
        [
            (["img_1.png", "IMG_1.png"], "IMG_1.png", {0: "'IMG_1.png' refers"}),
            (["x.png?v=1", "x.png?v=2"], "x.png", {0: "'x.png?...' refers", 1: "'x.png?...' refers"}),
            (["/a/x.png", "/b/x.png", "x.png"], "x.png", {0: "'x.png' refers", 1: "'x.png' refers"}),
            (["x%20y.png", "x%20y.png"], "x y.png", {}),
            (["x.png", "./x.png"], "x.png", {}),
        ],
    )
    def test_a_file_belongs_to_one_name_of_a_coco_file(
        self,
        names: list[str],
        there: str,
        refused: dict[int, str],
        streamed: bool,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """The exact name gets the file; of several other names, none does. A repeated name counts as one."""
        monkeypatch.setattr(coco_tables, "STREAM_ABOVE", 0 if streamed else 1 << 30)
        save(picture(), tmp_path / "images" / there)
        records = [image_record(n, name) for n, name in enumerate(names)]
        write_coco_json(tmp_path, records, [annotation(n, n, mask() > 0) for n in range(len(names))])
        reader = open_reader("coco", str(tmp_path))
        for number, item in enumerate(reader.items()):
            if number in refused:
                with pytest.raises(BadItem, match=re.escape(refused[number]) + r".*rename them to match exactly"):
                    reader.load(item)
            else:
                assert len(reader.load(item).objects) == 1
        assert not [text for text in caplog.messages if refused and "differ only in form are used" in text]

    @pytest.mark.parametrize("build", [voc_list, sbd_list, panoptic_list])
    def test_a_file_belongs_to_one_name_of_a_list(
        self, build: Callable[[Path, list[str], str], Reader], tmp_path: Path
    ) -> None:
        assert len(build(tmp_path, ["IMG_1", "other"], "img_1").items()) == 2
        with pytest.raises(InputError, match=r"'IMG_1\.\w+': .*'img_1\.\w+'.*rename them to match exactly"):
            build(tmp_path, ["IMG_1", "img_1"], "img_1").items()

    def test_nothing_outside_the_folder_is_found(self, tmp_path: Path) -> None:
        save(picture(), tmp_path / "secret.png")
        save(picture(), tmp_path / "images" / "a.png")
        for name in ("..%2Fsecret.png", "%2e%2e/secret.png", "..\\secret.png", "../SECRET.png"):
            write_coco_json(tmp_path, [image_record(1, name)], [annotation(1, 1, mask() > 0)])
            reader = open_reader("coco", str(tmp_path), options={"images": "images"})
            with pytest.raises(BadItem):
                reader.load(reader.items()[0])

    def test_a_folder_is_listed_once(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for number in range(20):
            save(picture(), tmp_path / f"IMG_{number}.png")
        listed: list[Path] = []
        plain = Path.iterdir
        monkeypatch.setattr(Path, "iterdir", lambda self: (listed.append(self), plain(self))[1])
        for number in range(20):
            assert seek(tmp_path, f"img_{number}.png") == (tmp_path / f"IMG_{number}.png", "letter case")
        assert len(listed) == 1

    @given(names=st.lists(st.text(min_size=1, max_size=8), max_size=8), asked=st.text(max_size=8))
    @settings(max_examples=200, deadline=None)
    def test_only_existing_names_are_found(self, names: list[str], asked: str) -> None:
        try:
            found = Names(names).find(asked)
        except ValueError:
            return
        assert found is None or found[0] in names
        assert found == (asked, "") or asked not in names

    def test_images_are_known_by_their_suffix(self) -> None:
        assert [is_image(name) for name in ("a.JPG", "a.png?x=1.txt", ".a.png", "a.txt", "a.txt?x.png", "png")] == [
            *(True, True, False, False, False, False)
        ]
        assert [stem(name) for name in ("a.b.png", "a", "a.png?b=c.d", "what?.png")] == ["a.b", "a", "a", "what?"]


class TestPrintable:
    def test_only_text_that_is_not_utf8_is_escaped(self) -> None:
        assert printable("été 图 a/1") == "été 图 a/1"
        assert (printable(BYTES), printable("\ud800x")) == ("caf\\udce9", "\\ud800x")
        item = Item(id=BYTES, object_ids=(f"{BYTES}/1",), payload={"name": BYTES})
        assert (item.id, item.object_ids, item.payload) == ("caf\\udce9", ("caf\\udce9/1",), {"name": BYTES})
        assert str(BadItem(BYTES, f"no {BYTES}")) == "caf\\udce9: no caf\\udce9"

    @pytest.mark.networks
    @pytest.mark.parametrize("build", [yolo, masks, nuclei, him2k, coco])
    def test_names_that_are_not_utf8_work_end_to_end(
        self, build: Callable[[Path, str, str], Reader], tmp_path: Path
    ) -> None:
        reader = build(tmp_path / BYTES, BYTES, BYTES)
        item = next(item for item in reader.items() if item.object_ids)
        assert len(reader.load(item).objects) == 1
        storage = Storage(str(tmp_path / "out"))
        assert prepare(reader, storage, {"root": str(tmp_path / BYTES)}, run=run_here())["num_rows"] == 1
        write_prepared_report(storage, str(tmp_path / BYTES))
        found = open_reader("prepared", str(tmp_path / "out"))
        assert [entry.id for entry in found.items()] == [item.id]
        evaluated(tmp_path, reader, item)

    def test_half_surrogate_pairs_of_json_are_escaped_or_refused(self, tmp_path: Path) -> None:
        """Ids and categories are escaped; a file name is refused by name, because no file can have it."""
        save(picture(), tmp_path / "images" / "a.png")
        data = {
            "images": [image_record("\ud800i", "a.png"), image_record("b", "\ud800.png")],
            "annotations": [
                annotation(1, "\ud800i", mask() > 0, id="\udfff", category_id="c"),
                annotation(2, "b", mask() > 0, category_id="c"),
            ],
            "categories": [{"id": "c", "name": "\ud83d cat"}],
            "licenses": [{"id": 1, "name": "\ud800"}],
        }
        data["images"][0]["license"] = 1
        (tmp_path / "annotations.json").write_text(json.dumps(data))
        reader = open_reader("coco", str(tmp_path))
        items = reader.items()
        assert [item.object_ids for item in items] == [("b/2",), ("\\ud800i/\\udfff",)]
        with pytest.raises(BadItem, match="no file can have it"):
            reader.load(items[0])
        sample = reader.load(items[1])
        assert [(ref.id, ref.category) for ref in sample.objects] == [("\\ud800i/\\udfff", "\\ud83d cat")]
        storage = Storage(str(tmp_path / "out"))
        assert prepare(reader, storage, {}, run=run_here())["num_rows"] == 1
        write_prepared_report(storage, "title")
        assert "b: image '\\ud800.png'" in (tmp_path / "out" / "refused.txt").read_text(encoding="utf-8")
        evaluated(tmp_path, reader, items[1])

    def test_a_terminal_that_cannot_show_a_name_gets_it_escaped(self) -> None:
        code = "from jobs.cli import run_job; run_job(lambda argv: print('caf\\udce9 \\u56fe'))"
        result = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONIOENCODING": "ascii"},
            capture_output=True,
            check=True,
        )
        assert result.stdout == b"caf\\udce9 \\u56fe\n"

    def test_a_command_line_that_ray_cannot_keep_is_refused_by_name(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from jobs.ray_env import connected

        monkeypatch.setattr(sys, "argv", ["evaluate", "--root", BYTES])
        with pytest.raises(InputError, match=r"caf\\udce9 is not UTF-8: rename the folder"), connected():
            pass

    def test_output_folders_must_be_utf8(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"caf\\udce9 is not valid UTF-8"):
            Storage(str(tmp_path / BYTES))


def evaluated(root: Path, reader: Reader, item: Item) -> None:
    """Write everything that an evaluation writes of an item."""
    played = row(item.object_ids[0], [0.5, 0.75], category=reader.load(item).objects[0].category)
    rows = [replace(played, item=item.id, height=HW[0], width=HW[1], mask=rle.encode(mask() > 0)["counts"])]
    summaries = [results.summarize(rows, EvaluationConfig(max_clicks=2), 1.0)]
    results.write(root / "eval", rows, summaries)
    assert results.read(root / "eval")[0] == rows
    page = root / "eval" / "report.html"
    shown = (summaries[0]["dataset"], summaries[0]["refinement"], summaries[0]["policy"])
    write_report(
        page, title=BYTES, subtitle=BYTES, rows=rows, summaries=summaries, readers={shown[0]: reader}, shown=shown
    )
    assert item.object_ids[0] in page.read_text(encoding="utf-8")
