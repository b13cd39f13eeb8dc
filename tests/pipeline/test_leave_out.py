"""Evaluation photos stay out of training, by content; rows name the photos that they show."""

from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np

from models.fingerprints import fingerprint
from pipeline.data.copy_paste import CopyPasteConfig
from pipeline.data.leave_out import LeaveOut, fingerprints_of
from pipeline.data.local import stream
from pipeline.data.rows import collate
from pipeline.data.sample import Item
from pipeline.training.record import Record, Used
from tests.pipeline.fakes import FakeReader
from tests.pipeline.test_prepared import prepared
from tests.pipeline.test_stream import CONFIG


@dataclass(frozen=True, kw_only=True)
class Renamed(FakeReader):
    """Photos `first`, first + 1, ... of another reader, under other names."""

    first: int = 0

    def items(self) -> list[Item]:
        numbers = range(self.first, self.first + self.num_items)
        return [Item(id=f"x{n}", object_ids=("a", "b", "c"), payload={"number": n}) for n in numbers]


def prints(reader: FakeReader) -> dict[str, int]:
    return {item.id: fingerprint(reader.load(item).image) for item in reader.items()}


def test_left_out_photos_are_refused_and_replaced() -> None:
    reader = FakeReader(num_items=10)
    held = Renamed(num_items=4, first=7)
    left = LeaveOut(reader=reader, fingerprints=fingerprints_of([held, FakeReader(num_items=1)]))
    assert [item.id for item in left.items()] == [item.id for item in reader.items()]
    rows = list(islice(stream(left, CONFIG), 20))
    assert len(rows) == 20
    gone = {f"item{n:04d}" for n in (0, 7, 8, 9)}
    assert gone.isdisjoint(row["item"] for row in rows)
    assert gone.isdisjoint(name for row in rows for name in row["partner"].split("; "))
    assert {row["refused"].split(": ")[0] for row in rows if row["refused"]} == gone


def test_a_prepared_photo_is_the_same_photo(tmp_path: Path) -> None:
    reader = FakeReader(num_items=4)
    assert fingerprints_of([prepared(reader, tmp_path)]) == fingerprints_of([reader])


def test_broken_images_leave_nothing_out() -> None:
    assert fingerprints_of([FakeReader(num_items=3, bad=(0,), broken=(1,))]) == {
        prints(FakeReader(num_items=3))["item0002"]
    }


def test_a_row_names_the_photos_that_gave_its_pixels() -> None:
    reader = FakeReader(num_items=10)
    known = prints(reader)
    config = replace(CONFIG, copy_paste=CopyPasteConfig(recipe="three_gates", prob=1, mix_prob=1))
    rows = list(islice(stream(reader, config), 20))
    assert any(row["partner"] for row in rows)
    for row in rows:
        names = [row["item"], *(row["partner"].split("; ") if row["partner"] else [])]
        assert [int(word, 16) for word in row["photos"].split()] == [known[name] for name in names]


def test_the_record_counts_what_all_workers_used(tmp_path: Path) -> None:
    reader = FakeReader(num_items=10)
    rows = list(islice(stream(reader, CONFIG), 8))
    rows[1]["object_mask"] = np.zeros_like(rows[1]["object_mask"])
    rows[6]["object_mask"] = np.zeros_like(rows[6]["object_mask"])
    record = Record(step=4, fingerprints={1})
    for part in (rows[:3], rows[3:6], rows[6:]):
        used = Used()
        used.note(collate(part))
        record.add(used)
    assert (record.samples, record.without_object, record.position.below) == (8, 2, 8)
    known = prints(reader)
    assert record.photos == {row["item"]: known[row["item"]] for row in rows}
    assert record.fingerprints >= {1, *record.photos.values()}
    record.write(tmp_path)
    assert Record.read(tmp_path, record.fingerprints) == record
    # A checkpoint of an earlier version counted nothing and named no photo.
    (tmp_path / "photos.json").unlink()
    (tmp_path / "progress.json").write_text('{"step": 4, "position": {"below": 8, "beyond": []}, "refused": {"a": 2}}')
    old = Record.read(tmp_path, set())
    assert (old.step, old.samples, old.without_object, old.photos, old.refused["a"]) == (4, 0, 0, {}, 2)
