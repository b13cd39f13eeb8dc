"""Written epochs: the rows of the stream come back, independent of the worker and of interruptions."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.errors import InputError
from models.storage import Storage
from pipeline.clicks.random_clicks import RandomClicksConfig
from pipeline.data.config import DataConfig
from pipeline.data.copy_paste import CopyPasteConfig
from pipeline.data.local import stream
from pipeline.data.prepared import epoch_plan
from pipeline.data.prepared.epoch import is_epoch, read_rows, to_row
from pipeline.data.prepared.epoch_plan import EpochRows, list_items, plan_epoch
from pipeline.data.prepared.manifest import MANIFEST
from pipeline.data.prepared.parts import PartMaker
from pipeline.data.prepared.prepare import make_parts, prepare, run_here
from pipeline.data.readers import open_reader
from pipeline.data.rows import Row
from pipeline.data.sample import Item, Origin, Reader, Sample
from pipeline.data.sampling import Order
from tests.pipeline.fakes import FakeReader
from tests.pipeline.small_data import SMALL
from tests.pipeline.test_stream import equal

CONFIG = DataConfig(
    crop_hw=(32, 40),
    window_size=4,
    min_object_area=20,
    copy_paste=CopyPasteConfig(recipe="three_gates"),
    clicks=RandomClicksConfig(max_clicks=6),
)
READER = FakeReader(num_items=21, bad=(1,), empty=(2,), broken=(3,), with_refused=(4,))


def write(
    reader: Reader,
    out: Path | str,
    config: DataConfig = CONFIG,
    epoch: int = 0,
    image_format: str = "png",
    windows_per_part: int = 2,
    run: Any = None,
) -> Storage:
    storage = Storage(str(out))
    num_parts = plan_epoch(reader, storage, config, epoch, windows_per_part)
    maker = EpochRows(reader=reader, storage=storage, config=config, epoch=epoch, image_format=image_format)
    make_parts(maker, storage, {"epoch": epoch}, num_parts, run or run_here(3))
    return storage


def expected(reader: Reader, epoch: int, config: DataConfig = CONFIG) -> list[Row]:
    num_items = len(reader.items())
    return list(islice(stream(reader, config, epoch * num_items), num_items))


@pytest.mark.parametrize("epoch", [0, 3])
def test_rows_of_an_epoch_equal_those_of_the_stream(tmp_path: Path, epoch: int) -> None:
    storage = write(READER, tmp_path, epoch=epoch)
    found, wanted = list(read_rows(storage)), expected(READER, epoch)
    assert len(found) == len(wanted) == 21
    assert [int(row["index"]) for row in found] == list(range(epoch * 21, epoch * 21 + 21))
    for a, b in zip(found, wanted, strict=True):
        assert equal(a, b)
        for name, value in b.items():
            assert np.asarray(a[name]).dtype == np.asarray(value).dtype, name
    assert any(row["refused"] for row in found)
    assert len(list((tmp_path / "data").iterdir())) == 3


@pytest.mark.parametrize("name", ["coco", "coco_panoptic", "sbd", "scenes", "masks"])
def test_a_plan_carries_the_items_of_every_kind_of_reader(name: str, tmp_path: Path) -> None:
    reader = SMALL[name](tmp_path / "source")
    config = replace(CONFIG, window_size=1, min_object_area=0)
    storage = write(reader, tmp_path / "out", config, windows_per_part=1)
    assert all(equal(a, b) for a, b in zip(read_rows(storage), expected(reader, 0, config), strict=True))


def test_an_epoch_of_a_prepared_data_set_reads_it_by_row_groups(tmp_path: Path) -> None:
    prepare(READER, Storage(str(tmp_path / "set")), {}, run=run_here(2), items_per_part=5)
    reader = open_reader("prepared", str(tmp_path / "set"))
    storage = write(reader, tmp_path / "out", epoch=1)
    assert all(equal(a, b) for a, b in zip(read_rows(storage), expected(reader, 1), strict=True))


def test_counts_are_those_of_the_rows_and_each_refusal_is_named_once(tmp_path: Path) -> None:
    two = ("object y of item0005: torn, as is; the scan", "object z of item0005: no pixels")

    @dataclass(frozen=True, kw_only=True)
    class WithTwo(FakeReader):
        def load(self, item: Item) -> Sample:
            sample = FakeReader.load(self, item)
            return replace(sample, refused=two) if item.id == "item0005" else sample

    reader = WithTwo(num_items=21, bad=(1,), empty=(2,), broken=(3,), with_refused=(2, 4))
    config = replace(CONFIG, min_object_area=700, keep_background_prob=1.0)
    write(reader, tmp_path, config)
    manifest = json.loads((tmp_path / MANIFEST).read_text())
    rows = expected(reader, 0, config)
    modes = Counter(f"mode {row['mode'] or 'none'}" for row in rows)
    without = sum(not row["object_mask"].any() for row in rows)
    assert without > 0
    assert manifest["counts"] == {**modes, "without object": without, "with refusals": 5}
    assert (manifest["num_rows"], manifest["num_objects"]) == (21, 21 - without)
    assert sorted((tmp_path / "refused.txt").read_text().splitlines()) == sorted(
        [
            "item0001: the file is cut short",
            "object z of item0002: no pixels",
            "item0002: no object in it can be used",
            "item0003: OSError: disk on fire",
            "object z of item0004: no pixels",
            *two,
        ]
    )
    assert manifest["num_refused"] == 7


def test_an_interrupted_epoch_resumes_without_listing_again(tmp_path: Path) -> None:
    made: list[int] = []

    def stopping(after: int) -> Any:
        def run(maker: PartMaker, storage: Storage, parts: Sequence[int]) -> Iterator[dict[str, int]]:
            for number, result in zip(parts, run_here(3)(maker, storage, parts), strict=True):
                made.append(number)
                yield result
                if len(made) == after:
                    raise KeyboardInterrupt

        return run

    with pytest.raises(KeyboardInterrupt):
        write(READER, tmp_path / "out", run=stopping(2))
    with pytest.raises(InputError, match="has not finished"):
        list(read_rows(Storage(str(tmp_path / "out"))))
    write(replace(READER, num_items=0), tmp_path / "out", run=stopping(99))
    assert made == [0, 1, 2]
    write(READER, tmp_path / "whole")
    assert (tmp_path / "out" / MANIFEST).read_text() == (tmp_path / "whole" / MANIFEST).read_text()
    assert not (tmp_path / "out" / "plan").exists()


def test_a_written_epoch_is_a_data_set_of_crops(tmp_path: Path) -> None:
    write(READER, tmp_path)
    reader = open_reader("prepared", str(tmp_path))
    items = list(reader.items())
    ids = [item.id for item in items]
    assert ids == sorted(set(ids))
    for item, row in zip(items, expected(READER, 0), strict=True):
        sample = reader.load(item)
        np.testing.assert_array_equal(sample.image, row["image"])
        np.testing.assert_array_equal(sample.ignore_mask, row["ignore_mask"] > 0)
        np.testing.assert_array_equal(sample.instance_masks[0] > 0, row["object_mask"] > 0)
        assert [ref.id for ref in sample.objects] == ([f"{item.id}/target"] if row["object_mask"].any() else [])
        assert item.id == f"{int(row['index']):010d}/{row['item']}"
    again = write(reader, tmp_path / "again")
    assert is_epoch(again)


def test_rows_name_the_origin_of_item_and_partners(tmp_path: Path) -> None:
    @dataclass(frozen=True, kw_only=True)
    class Licensed(FakeReader):
        def load(self, item: Item) -> Sample:
            origin = Origin(licence=f"licence {item.payload['number'] % 2}", source=f"at {item.id}")
            return replace(FakeReader.load(self, item), origin=origin)

    write(Licensed(num_items=12), tmp_path)
    rows = [row for path in sorted((tmp_path / "data").iterdir()) for row in pq.read_table(path).to_pylist()]
    assert {row["licence"] for row in rows} >= {"licence 0", "licence 1"}
    for row in rows:
        ids = [row["item"], *filter(None, row["partner"].split("; "))]
        assert row["source"] == "; ".join(f"at {name}" for name in dict.fromkeys(ids))
        assert set(row["licence"].split("; ")) == {f"licence {int(name[-4:]) % 2}" for name in ids}


def test_jpeg_keeps_all_but_the_exact_pixels(tmp_path: Path) -> None:
    config = replace(CONFIG, crop_hw=(64, 64))
    reader = SMALL["scenes"](tmp_path)
    rows = list(read_rows(write(reader, tmp_path / "jpg", config, image_format="jpg")))
    for found, row in zip(rows, expected(reader, 0, config), strict=True):
        assert equal(found | {"image": 0}, row | {"image": 0})
        assert 0 < np.abs(found["image"].astype(int) - row["image"]).mean() < 4


def test_columns_that_a_recipe_adds_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = epoch_plan.make_window

    def make_window(*given: Any) -> list[Row]:
        rng = np.random.default_rng(0)
        more = {"focus_image": rng.integers(0, 9, (3, 4, 3), np.uint8), "focus_yx": rng.random((2, 2), np.float32)}
        return [row | more | {"weight": np.float32(0.25), "note": "é"} for row in plain(*given)]

    monkeypatch.setattr(epoch_plan, "make_window", make_window)
    found = list(read_rows(write(READER, tmp_path)))
    wanted = make_window(READER.items(), READER, CONFIG, Order.of(READER.items(), 4, 0).window(0))
    for row, other in zip(found, wanted, strict=False):
        assert equal(row, other)
        for name in ("focus_image", "focus_yx", "weight", "note"):
            assert np.asarray(row[name]).dtype == np.asarray(other[name]).dtype


def test_faults_are_clear_errors(tmp_path: Path) -> None:
    prepare(READER, Storage(str(tmp_path / "images")), {}, run=run_here(2))
    with pytest.raises(InputError, match=r"images holds no training rows: expected the output of jobs.augment"):
        list(read_rows(Storage(str(tmp_path / "images"))))
    with pytest.raises(InputError, match="lists 0 items"):
        plan_epoch(FakeReader(num_items=0), Storage(str(tmp_path / "none")), CONFIG, 0, 1)
    with pytest.raises(InputError, match=r"none of the 3 items of window 0 can be used.*cut short"):
        write(FakeReader(num_items=3, bad=(0, 1, 2)), tmp_path / "bad")
    storage = write(READER, tmp_path / "out")
    shard = tmp_path / "out" / "data" / "part-000001.parquet"
    table = pq.read_table(shard).to_pylist()
    table[1]["image"] = table[1]["image"][:99]
    pq.write_table(pa.Table.from_pylist(table, schema=pq.read_schema(shard)), shard)
    with pytest.raises(InputError, match=r"row group 0 of .*part-000001.parquet cannot be read: 00000000\d\d/item"):
        list(read_rows(storage))


def test_a_listing_reports_its_progress() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Streaming(FakeReader):
        def stream(self) -> Iterator[Item]:
            return iter(self.items())

    reported: list[int] = []
    assert list_items(Streaming(num_items=3), reported.append) == FakeReader(num_items=3).items()
    assert reported == [1, 2, 3]
    assert list_items(FakeReader(num_items=3), reported.append) == FakeReader(num_items=3).items()
    assert reported == [1, 2, 3]


def test_ids_are_in_the_order_of_indices() -> None:
    row = next(stream(READER, CONFIG))
    ids = [to_row(row | {"index": np.int64(index)})["id"] for index in (9, 10, 99_999_999, 100_000_000)]
    assert ids == sorted(ids)
