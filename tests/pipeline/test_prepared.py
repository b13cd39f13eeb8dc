"""Prepared data sets: the result equals the source, interrupted preparations resume, and faults are named."""

import io
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from models.errors import InputError
from models.interaction import Clicks
from models.storage import Storage
from pipeline.data.config import DataConfig
from pipeline.data.local import stream
from pipeline.data.prepared import parts, schema
from pipeline.data.prepared.manifest import MANIFEST, read_manifest
from pipeline.data.prepared.parts import PartMaker, missing_parts
from pipeline.data.prepared.prepare import prepare, run_here
from pipeline.data.prepared.unpack import RowGroup
from pipeline.data.readers import open_reader
from pipeline.data.readers.prepared import PreparedItems
from pipeline.data.sample import BadItem, Exemplar, Item, Reader, Sample
from tests.pipeline.fakes import FakeReader, fake_sample
from tests.pipeline.small_data import SMALL

READER = FakeReader(num_items=10, bad=(1,), empty=(2,), broken=(3,), with_refused=(4,))


def prepared(reader: Any, out: Path, per_part: int = 4, per_group: int = 2) -> Reader:
    prepare(reader, Storage(str(out)), {"reader": "fake"}, run=run_here(per_group), items_per_part=per_part)
    return open_reader("prepared", str(out))


def assert_same(found: Sample, expected: Sample) -> None:
    np.testing.assert_array_equal(found.image, expected.image)
    np.testing.assert_array_equal(found.instance_masks, expected.instance_masks)
    np.testing.assert_array_equal(found.ignore_mask, expected.ignore_mask)
    assert found.objects == expected.objects


@pytest.mark.parametrize("name", sorted(set(SMALL) - {"prepared"}))
def test_every_reader_comes_back_pixel_for_pixel(name: str, tmp_path: Path) -> None:
    reader = SMALL[name](tmp_path / "source")
    expected = {item.id: reader.load(item) for item in reader.items()}
    found = prepared(reader, tmp_path / "out")
    assert [item.id for item in found.items()] == [key for key, sample in expected.items() if sample.objects]
    for item in found.items():
        sample = found.load(item)
        assert_same(sample, expected[item.id])
        origin = expected[item.id].origin
        assert (sample.origin.licence, sample.origin.source) == (origin.licence, origin.source)
    refused = (tmp_path / "out" / "refused.txt").read_text().splitlines()
    assert all(reason in refused for sample in expected.values() for reason in sample.refused)


@pytest.mark.check(13)
def test_refusals_are_counted_and_named(tmp_path: Path) -> None:
    reader = prepared(READER, tmp_path)
    manifest = json.loads((tmp_path / MANIFEST).read_text())
    assert (manifest["num_rows"], manifest["num_objects"], manifest["num_refused"]) == (7, 21, 4)
    assert [item.id for item in reader.items()] == [f"item{n:04d}" for n in (0, 4, 5, 6, 7, 8, 9)]
    refused = (tmp_path / "refused.txt").read_text()
    for reason in ("cut short", "no object in it can be used", "disk on fire", "no pixels"):
        assert reason in refused
    assert not (tmp_path / "plan").exists()
    assert [shard["group_rows"] for shard in manifest["shards"]] == [[1], [2, 2], [2]]


def test_shards_are_plain_parquet_with_cocos_run_lengths(tmp_path: Path) -> None:
    prepared(READER, tmp_path)
    table = pq.read_table(tmp_path / "data" / "part-000001.parquet")
    assert table.schema.metadata[b"maskwright.prepared"] == b"1"
    row = table.slice(1, 1).to_pylist()[0]
    expected = fake_sample("item0005", 5)
    np.testing.assert_array_equal(np.array(Image.open(io.BytesIO(row["image"]))), expected.image)
    for entry, ref in zip(row["objects"], expected.objects, strict=True):
        mask = expected.object_mask(ref)
        assert entry["area"] == mask.sum()
        values = np.arange(len(entry["runs"])) % 2 == 1
        np.testing.assert_array_equal(np.repeat(values, entry["runs"]).reshape(mask.shape[::-1]).T, mask)


def test_files_keep_their_bytes_unless_the_reader_changed_pixels(tmp_path: Path) -> None:
    reader = SMALL["coco"](tmp_path / "source")
    sample = reader.load(reader.items()[0])
    assert schema.encode_image(sample) == Path(sample.origin.file).read_bytes()
    other = replace(sample, image=255 - sample.image)
    np.testing.assert_array_equal(np.array(Image.open(io.BytesIO(schema.encode_image(other)))), other.image)
    bmp = tmp_path / "a.bmp"
    Image.fromarray(sample.image).save(bmp)
    kept = schema.encode_image(replace(sample, origin=replace(sample.origin, file=str(bmp))))
    assert Image.open(io.BytesIO(kept)).format == "PNG"


def test_exemplars_round_trip(tmp_path: Path) -> None:
    sample = fake_sample("s", 1)
    clicks = Clicks.of([(3, 4.5, True), (1, 0, False)])
    row = schema.to_row(replace(sample, exemplar=Exemplar(object_id="b", clicks=clicks)))
    found = RowGroup(schema.to_table([schema.to_row(sample), row])).sample(1)
    assert found.exemplar is not None
    assert (found.exemplar.object_id, found.exemplar.clicks) == ("b", clicks)
    assert_same(found, sample)


def test_a_broken_row_is_a_bad_item_and_its_neighbours_stay(tmp_path: Path) -> None:
    rows = [schema.to_row(fake_sample(f"s{n}", n)) for n in range(3)]
    rows[1]["image"] = rows[1]["image"][:500]
    rows[2]["objects"][0]["runs"] = [5, 5]
    group = RowGroup(schema.to_table(rows))
    assert_same(group.sample(0), fake_sample("s0", 0))
    with pytest.raises(BadItem, match="s1: the image file is broken"):
        group.sample(1)
    with pytest.raises(BadItem, match="s2: the runs of a mask"):
        group.sample(2)


def stopping(after: int, made: list[int]) -> Any:
    def run(maker: PartMaker, storage: Storage, numbers: Sequence[int]) -> Iterator[dict[str, int]]:
        for count, result in enumerate(run_here(2)(maker, storage, numbers)):
            made.append(numbers[count])
            yield result
            if count + 1 == after:
                raise KeyboardInterrupt

    return run


def test_an_interrupted_preparation_resumes_and_ends_the_same(tmp_path: Path) -> None:
    storage, made = Storage(str(tmp_path / "out")), list[int]()
    with pytest.raises(KeyboardInterrupt):
        prepare(READER, storage, {"a": 1}, run=stopping(2, made), items_per_part=2)
    with pytest.raises(InputError, match="has not finished"):
        open_reader("prepared", str(tmp_path / "out"))
    assert missing_parts(storage, 5) == [2, 3, 4]
    with pytest.raises(InputError, match="other settings"):
        prepare(READER, storage, {"a": 2}, run=run_here(), items_per_part=2)
    # The listing is not repeated: only the reader's images are still needed.
    prepare(replace(READER, num_items=0), storage, {"a": 1}, run=stopping(9, made), items_per_part=2)
    assert made == [0, 1, 2, 3, 4]
    whole = Storage(str(tmp_path / "whole"))
    prepare(READER, whole, {"a": 1}, run=run_here(2), items_per_part=2)
    assert (tmp_path / "out" / MANIFEST).read_text() == (tmp_path / "whole" / MANIFEST).read_text()
    assert prepare(READER, storage, {"a": 1}, run=stopping(0, made)) == read_manifest(whole)
    assert len(made) == 5


def test_a_part_that_stopped_halfway_leaves_no_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.RawIOBase):
        """A disk with room for 3000 bytes."""

        left = 3000

    written = parts._Hashing.write

    def write(self: Any, data: Any) -> int:
        Full.left -= len(data)
        if Full.left < 0:
            raise OSError(28, "No space left on device")
        return written(self, data)

    monkeypatch.setattr(parts._Hashing, "write", write)
    storage = Storage(str(tmp_path))
    with pytest.raises(InputError, match=r"part-000000.parquet cannot be written.*No space left.*run the same command"):
        prepare(READER, storage, {}, run=run_here(), items_per_part=20)
    assert not list(tmp_path.rglob("*.part"))
    assert not list(tmp_path.rglob("*.parquet"))
    monkeypatch.undo()
    assert prepare(READER, storage, {}, run=run_here(), items_per_part=20)["num_rows"] == 7


def test_files_of_killed_writers_are_removed(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    (tmp_path / "data").mkdir()
    for name in ("data/.a1.part", "b.part"):
        (tmp_path / name).write_bytes(b"half")
    with pytest.raises(KeyError), storage.tidied():
        raise KeyError
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["b.part", "data"]
    (tmp_path / "data" / ".a2.part").write_bytes(b"half")
    prepare(FakeReader(), storage, {}, run=run_here())
    assert not list(tmp_path.rglob(".*.part"))


def test_items_are_a_lazy_sequence(tmp_path: Path) -> None:
    items = prepared(READER, tmp_path).items()
    assert isinstance(items, PreparedItems)
    listed = list(items)
    assert [items[n] for n in range(len(items))] == listed
    assert items[-1] == listed[-1]
    assert items[1:3] == listed[1:3]
    assert items.chunk_sizes.tolist() == [1, 2, 2, 2]
    assert items.num_objects == sum(len(item.object_ids) for item in listed) == 21
    with pytest.raises(IndexError):
        items[7]


def test_a_window_reads_each_row_group_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = prepared(replace(READER, num_items=40), tmp_path, per_part=12, per_group=3)
    read: list[tuple[str, int]] = []
    plain = pq.ParquetFile.read_row_group

    def read_row_group(self: Any, number: int, columns: Any = None, **more: Any) -> pa.Table:
        read.append((self.metadata.__hash__(), number))
        return plain(self, number, columns=columns, **more)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", read_row_group)
    config = DataConfig(crop_hw=(32, 40), window_size=6, min_object_area=20)
    items = reader.items()
    rows = list(islice(stream(reader, config, items=items), len(items)))
    assert sorted(row["item"] for row in rows) == sorted(item.id for item in items)
    # Two or three row groups to a window, each read once an epoch.
    assert len(read) - len(list(items)) // 3 <= len(items.chunk_sizes) + 2


def test_faults_of_the_folder_are_clear_errors(tmp_path: Path) -> None:
    reader = prepared(READER, tmp_path / "a")
    item = Item(id="item0008", object_ids=(), payload={"shard": "data/part-000002.parquet", "group": 0, "row": 0})
    damaged = tmp_path / "a" / "data" / "part-000002.parquet"
    damaged.write_bytes(damaged.read_bytes()[:200])
    with pytest.raises(InputError, match=r"part-000002.parquet cannot be read"):
        reader.load(item)
    shutil.rmtree(tmp_path / "a" / "data")
    manifest = tmp_path / "a" / MANIFEST
    newer = manifest.read_text().replace('schema_version": 1', 'schema_version": 9')
    for text, reason in (("[]", "not the manifest"), ("{", "not valid JSON"), (newer, "version 9")):
        manifest.write_text(text)
        with pytest.raises(InputError, match=reason):
            open_reader("prepared", str(tmp_path / "a"))


def test_invalid_addresses_are_refused() -> None:
    for uri in ("s4://bucket/folder", "s3://"):
        with pytest.raises(InputError, match=r"cannot be opened|no folder"):
            Storage(uri)


def test_nothing_usable_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nothing could be used.*cut short"):
        prepared(FakeReader(num_items=2, bad=(0, 1)), tmp_path)
