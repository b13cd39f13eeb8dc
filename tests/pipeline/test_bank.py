"""Statistics of a data set, against counts by hand."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import InputError
from models.storage import Storage
from pipeline.data import bank as banks
from pipeline.data.bank import AREA_EDGES, MIN_OBJECT_AREA, Bank, Described, bank_of_prepared, count, kind_of
from pipeline.data.loading import load_or_refuse
from pipeline.data.prepared.prepare import prepare, run_here
from pipeline.data.sample import Item, Origin, Reader, Sample, stream_items
from tests.pipeline.fakes import FakeReader
from tests.pipeline.small_data import HW, SMALL


def described(areas: list[int], categories: list[str], hw: tuple[int, int] = (10, 100), licence: str = "") -> Described:
    return Described(
        heights=np.array([hw[0]]),
        widths=np.array([hw[1]]),
        num_objects=np.array([len(areas)]),
        areas=np.array(areas, np.int64),
        categories=categories,
        licences=[licence],
    )


def test_counts_by_hand() -> None:
    images = [
        described([1000, 999, 1], ["cat", "cat", "dog"], licence="CC BY"),
        described([], [], hw=(5, 5)),
        described([10], [""], licence="CC BY; CC0"),
    ]
    bank = count(images, ["a: file a.png is 3 x 4", "b: file b.jpeg is 30 x 4", "odd"], min_object_area=1000)
    assert (bank.num_images, bank.num_objects, bank.num_small, bank.num_refused) == (3, 4, 3, 3)
    assert bank.objects_per_image == {3: 1, 0: 1, 1: 1}
    assert bank.categories == {"cat": 2, "dog": 1, "": 1}
    assert bank.licences == {"CC BY": 2, "": 1, "CC0": 1}
    assert bank.sizes == {(10, 100): 2, (5, 5): 1}
    # 1, 0.999, 0.001 and 0.01 of the image: the last bin, the last bin, and two that begin at powers of ten.
    assert {int(n): int(bank.areas[n]) for n in np.flatnonzero(bank.areas)} == {23: 2, 12: 1, 16: 1}
    assert {kind: (reason.count, reason.examples) for kind, reason in bank.refused.items()} == {
        "file ... is N x N": (2, ["a: file a.png is 3 x 4", "b: file b.jpeg is 30 x 4"]),
        "odd": (1, ["odd"]),
    }
    assert bank.top_categories(1) == ([("cat", 2)], 2, 2)
    assert bank.top_categories(3) == ([("cat", 2), ("", 1), ("dog", 1)], 0, 0)


@given(st.lists(st.integers(1, 10_000), max_size=30))
def test_every_object_falls_into_the_bin_of_its_area(areas: list[int]) -> None:
    bank = count([described(areas, [""] * len(areas), hw=(100, 100))])
    expected, _ = np.histogram(np.array(areas) / 10_000, AREA_EDGES)
    assert bank.areas.tolist() == expected.tolist()
    assert bank.areas.sum() == bank.num_objects == len(areas)


def bank_of_reader(
    reader: Reader,
    min_object_area: int = MIN_OBJECT_AREA,
    progress: Callable[[int], None] = lambda num_images: None,
) -> Bank:
    bank = Bank(min_object_area=min_object_area)
    for number, item in enumerate(stream_items(reader), start=1):
        sample, refused = load_or_refuse(reader, item)
        if sample is not None:
            bank.add(Described.of(sample))
        for text in refused:
            bank.add_refused(text)
        progress(number)
    return bank


def test_areas_below_the_first_border_are_counted_in_the_first_bin() -> None:
    assert count([described([1], [""], hw=(20_000, 20_000))]).areas.tolist() == [1] + [0] * 23


def test_a_prepared_data_set_has_the_numbers_of_its_reader(tmp_path: Path) -> None:
    reader = SMALL["coco_panoptic"](tmp_path / "source")
    storage = Storage(str(tmp_path / "out"))
    prepare(reader, storage, {}, run=run_here(1), items_per_part=1)
    progress: list[tuple[int, int]] = []
    found = bank_of_prepared(storage, 50, lambda done, total: progress.append((done, total)))
    assert found.__dict__ | {"areas": 0} == bank_of_reader(reader, 50).__dict__ | {"areas": 0}
    np.testing.assert_array_equal(found.areas, bank_of_reader(reader, 50).areas)
    assert progress == [(1, 2), (2, 2)]
    assert (found.num_images, found.num_objects, found.num_small) == (2, 4, 2)
    assert found.categories == {"cat": 4}
    assert found.sizes == {HW: 2}
    assert [reason.count for reason in found.refused.values()] == [2]


def test_only_small_columns_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = Storage(str(tmp_path))
    prepare(FakeReader(num_items=4), storage, {}, run=run_here(2))
    seen: set[str] = set()
    plain = banks._describe
    monkeypatch.setattr(banks, "_describe", lambda table: (seen.update(table.column_names), plain(table))[1])
    assert bank_of_prepared(storage).num_objects == 12
    assert seen == {"height", "width", "licence", "objects"}


def test_refusals_are_grouped_by_reason_with_the_first_examples() -> None:
    reader = FakeReader(num_items=12, bad=(1, 5, 6, 7), empty=(2,), broken=(3,), with_refused=(4,))
    counts: list[int] = []
    bank = bank_of_reader(reader, progress=counts.append)
    assert {kind: reason.count for kind, reason in bank.refused.items()} == {
        "the file is cut short": 4,
        "no object in it can be used": 1,
        "OSError: disk on fire": 1,
        "no pixels": 1,
    }
    names = [f"item{number:04d}: the file is cut short" for number in (1, 5, 6)]
    assert bank.refused["the file is cut short"].examples == names
    assert (bank.num_images, bank.num_objects, bank.num_refused) == (6, 18, 7)
    assert counts == list(range(1, 13))


@pytest.mark.parametrize(
    ("refusal", "kind"),
    [
        ("train/7: mask 000.png: the file is not a JPEG", "mask ...: the file is not a JPEG"),
        ("a: the image is 20 x 30 (height x width)", "the image is N x N (height x width)"),
        ("a: value 'x: y' is -1.5", "value ... is N"),
        ("no colon here", "no colon here"),
    ],
)
def test_kinds_of_refusals_leave_out_names_and_numbers(refusal: str, kind: str) -> None:
    assert kind_of(refusal) == kind


def test_licences_come_from_the_images(tmp_path: Path) -> None:
    @dataclass(frozen=True, kw_only=True)
    class Licensed(FakeReader):
        def load(self, item: Item) -> Sample:
            return replace(FakeReader.load(self, item), origin=Origin(licence="CC0" if item.id > "item0001" else ""))

    storage = Storage(str(tmp_path))
    prepare(Licensed(num_items=5), storage, {}, run=run_here())
    assert bank_of_prepared(storage).licences == {"": 2, "CC0": 3}


def test_a_damaged_shard_is_named(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    prepare(FakeReader(num_items=5), storage, {}, run=run_here())
    shard = tmp_path / "data" / "part-000000.parquet"
    shard.write_bytes(shard.read_bytes()[:300])
    with pytest.raises(InputError, match=r"part-000000.parquet cannot be read"):
        bank_of_prepared(storage)
