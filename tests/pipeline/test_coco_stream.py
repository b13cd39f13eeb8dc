"""A COCO file of any size: items listed through the temporary database equal those of a file read as a whole."""

import io
import json
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.errors import InputError
from pipeline.data.readers import coco_tables, json_lists, open_reader
from pipeline.data.sample import Item, stream_items
from tests.pipeline.small_data import SMALL, annotation, box, image_record

text = st.text(st.characters(), max_size=3)  # half surrogate pairs too
ids = st.one_of(st.integers(-3, 40), st.integers(0, 9).map(str), st.floats(0, 9), text, st.none(), st.lists(st.none()))
numbers = st.one_of(st.integers(-(2**70), 2**70), st.floats())
values = st.one_of(ids, numbers, st.booleans(), text)
segmentations = st.one_of(
    values,
    st.lists(st.lists(numbers, max_size=8), max_size=2),
    st.fixed_dictionaries({"size": st.lists(st.integers(0, 9), max_size=3), "counts": st.lists(st.integers(0, 9))}),
)
images = st.one_of(
    values,
    st.fixed_dictionaries(
        {"id": ids}, optional={"file_name": values, "height": values, "license": ids, "coco_url": st.just("a/b/c.jpg")}
    ),
)
annotations = st.one_of(
    values,
    st.fixed_dictionaries(
        {"image_id": ids},
        optional={
            "id": ids,
            "category_id": ids,
            "iscrowd": values,
            "segmentation": segmentations,
            "attributes": st.sampled_from([{"occluded": False}, {}, 3]),
        },
    ),
)
records = st.one_of(values, st.fixed_dictionaries({"id": ids}, optional={"name": values, "url": text}))
members = {
    "images": st.lists(images, max_size=12),
    "annotations": st.lists(annotations, max_size=25),
    "categories": st.lists(records, max_size=4),
    "licenses": st.lists(records, max_size=4),
    "info": values,
}
files = st.fixed_dictionaries(
    {"images": members["images"]}, optional={key: members[key] for key in members if key != "images"}
)


def outcome(root: Path, limit: int, caplog: pytest.LogCaptureFixture) -> tuple[list[Item] | str, list[str]]:
    """Return the listed items, the text of an error and the warnings; `limit` decides which path is used."""
    caplog.clear()
    with pytest.MonkeyPatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr(coco_tables, "STREAM_ABOVE", limit)
        try:
            return list(stream_items(open_reader("coco", str(root)))), list(caplog.messages)
        except InputError as error:
            return str(error), []


@pytest.mark.networks
@given(data=files, order=st.permutations(list(members)), piece=st.integers(1, 300), indent=st.sampled_from([None, 1]))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_both_paths_give_equal_items(
    data: dict[str, Any], order: list[str], piece: int, indent: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_lists, "_PIECE", piece)
        ordered = {key: data[key] for key in order if key in data}
        (Path(folder) / "annotations.json").write_text(json.dumps(ordered, indent=indent))
        whole, streamed = (outcome(Path(folder), limit, caplog) for limit in (1 << 30, 0))
        # By repr: NaN is not equal to itself, and 1, 1.0 and True are equal, but a payload is stored.
        assert repr(whole) == repr(streamed)


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, text), lambda inner: st.lists(inner) | st.dictionaries(text, inner)
)


@pytest.mark.networks
@given(value=json_values, piece=st.integers(1, 40), data=st.data())
@settings(max_examples=300, deadline=None)
def test_json_is_read_like_the_standard_library(value: Any, piece: int, data: st.DataObject) -> None:
    """Any text, intact or damaged, in pieces of any size: the same members as json, or an error where it raises one."""
    written = bytearray(json.dumps(value, indent=data.draw(st.sampled_from([None, 2]))).encode())
    for _ in range(data.draw(st.integers(0, 2))):
        where = data.draw(st.integers(0, len(written)))
        written[where : where + data.draw(st.integers(0, 3))] = data.draw(
            st.sampled_from([b"", b"[", b"}", b",", b'"', b"1e", b"NaN", b'{"a": [1, 2.5', b"\xff", b"\n", b"\\"])
        )
    try:
        wanted: Any = json.loads(bytes(written))
    except ValueError:
        wanted = ValueError
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_lists, "_PIECE", piece)
        try:
            top = json_lists.JsonObject(io.BytesIO(bytes(written)))
            read = (
                {name: list(values) if a_list else next(values) for name, a_list, values in top.members()}
                if (top.kind == "dict")
                else top.kind
            )
        except ValueError:
            assert wanted is ValueError
            return
    if isinstance(read, str):
        # Only objects are read to their end: text after another value is not checked.
        assert wanted is ValueError or read == type(wanted).__name__
    else:
        assert repr(read) == repr(wanted)


@pytest.mark.check(13)
@pytest.mark.parametrize("name", ["coco", "lvis"])
def test_readers_list_the_same_both_ways(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = SMALL[name](tmp_path)
    whole = reader.items()
    monkeypatch.setattr(coco_tables, "STREAM_ABOVE", 0)
    monkeypatch.setattr(coco_tables, "read_json", lambda *_: pytest.fail("read whole"))
    assert list(reader.items()) == list(whole)


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of the databases, which must be empty again afterwards."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setattr(coco_tables, "STREAM_ABOVE", 0)
    yield folder
    assert not list(folder.iterdir())


def write(root: Path, text: str | bytes) -> Path:
    root.mkdir(exist_ok=True)
    (root / "annotations.json").write_bytes(text.encode() if isinstance(text, str) else text)
    return root


LARGE = json.dumps(
    {
        "images": [image_record(n, f"{n}.png") for n in range(50)],
        "annotations": [annotation(n, n % 50, box(1, 1, 4, 4)) for n in range(500)],
    }
)


@pytest.mark.usefixtures("temporary")
class TestErrors:
    @pytest.mark.parametrize("end", [0, 1, 40, len(LARGE) // 2, len(LARGE) - 1])
    def test_a_truncated_file_is_one_error_before_the_first_item(self, end: int, tmp_path: Path) -> None:
        reader = open_reader("coco", str(write(tmp_path / "set", LARGE[:end])))
        with pytest.raises(InputError, match="cannot be read as JSON"):
            next(iter(stream_items(reader)))

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ('{"shapes": [], "version": 1}', "it has keys shapes, version"),
            ("[1, 2]", "it is a list"),
            ("3", "it is a int"),
            ("{", "cannot be read as JSON"),
            (
                '{"images": {"a": [1]}, "annotations": []}',
                r"'images' and 'annotations' \(lists\)",
            ),
            ('{"images": [{"id": 1}]}', "it has keys images"),
            ('{"images": [{"id": 1}, {"id": 1}], "annotations": []}', "two images have the id 1"),
            ('{"images": [], "annotations": []} tail', "cannot be read as JSON"),
            (b'{"images": [{"id": "\xff"}], "annotations": []}', "cannot be read as JSON"),
            ('{"images": [], "annotations": [' + "[" * 100_000 + "]" * 100_000 + "]}", "cannot be read as JSON"),
        ],
    )
    def test_files_that_are_not_coco_are_refused(self, text: str | bytes, reason: str, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=reason):
            open_reader("coco", str(write(tmp_path / "set", text))).items()

    def test_a_full_disk_is_one_error(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(coco_tables, "_PRAGMAS", (*coco_tables._PRAGMAS, "max_page_count=3"))
        with pytest.raises(InputError, match=r"full.*set TMPDIR to use another folder"):
            open_reader("coco", str(write(tmp_path / "set", LARGE))).items()

    def test_an_abandoned_listing_leaves_no_files(self, tmp_path: Path) -> None:
        listing = iter(stream_items(open_reader("coco", str(write(tmp_path / "set", LARGE)))))
        assert next(listing).id == "0"
        del listing


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32-le"])
@pytest.mark.usefixtures("temporary")
def test_encodings_are_those_of_json(encoding: str, tmp_path: Path) -> None:
    text = json.dumps({"images": [image_record("bär", "ä.png")], "annotations": []}, ensure_ascii=False)
    (item,) = open_reader("coco", str(write(tmp_path / "set", text.encode(encoding)))).items()
    assert (item.id, item.payload["names"]) == ("bär", ["ä.png"])


@pytest.mark.parametrize("limit", [0, 1 << 30])
def test_of_repeated_members_the_last_one_counts(limit: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coco_tables, "STREAM_ABOVE", limit)
    text = '{"images": [{"id": 1}], "annotations": [{"image_id": 2}], "images": [{"id": 2}], "annotations": []}'
    assert [(item.id, item.object_ids) for item in open_reader("coco", str(write(tmp_path, text))).items()] == [
        ("2", ())
    ]


def test_generated_ids_differ_from_given_ones(tmp_path: Path) -> None:
    records = [{"id": name, "image_id": 1, "segmentation": []} for name in ("3~2", "3", "3", None, "n3")]
    write(tmp_path, json.dumps({"images": [image_record(1, "a.png")], "annotations": records}))
    (item,) = open_reader("coco", str(tmp_path)).items()
    assert item.object_ids == ("1/3~2", "1/3", "1/3~2~2", "1/n3", "1/n3~4")


@pytest.mark.check(13)
def test_many_equal_ids_are_listed_quickly(tmp_path: Path) -> None:
    """Twenty thousand annotations of one image, all with the same id: naming them is not quadratic."""
    same = [{"id": 1, "image_id": 1, "segmentation": []} for _ in range(20_000)]
    write(tmp_path, json.dumps({"images": [image_record(1, "a.png")], "annotations": same}))
    (item,) = open_reader("coco", str(tmp_path)).items()
    assert len(set(item.object_ids)) == 20_000
