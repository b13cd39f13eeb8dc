from collections import Counter
from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np
import pytest

from models.errors import InputError
from pipeline.clicks.random_clicks import RandomClicksConfig
from pipeline.data.augment import AugmentConfig
from pipeline.data.config import DataConfig
from pipeline.data.copy_paste import CopyPasteConfig
from pipeline.data.local import stream
from pipeline.data.rows import Row, collate, split
from pipeline.data.sample import Item, Sample
from tests.pipeline.fakes import FakeReader

CONFIG = DataConfig(
    crop_hw=(32, 40),
    window_size=4,
    min_object_area=20,
    copy_paste=CopyPasteConfig(recipe="three_gates"),
    clicks=RandomClicksConfig(max_clicks=6),
)
READER = FakeReader(num_items=10)


def equal(a: Row, b: Row) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def take(reader: FakeReader, config: DataConfig, num: int, start_index: int = 0) -> list[Row]:
    return list(islice(stream(reader, config, start_index), num))


def test_rows_have_the_promised_shapes_and_types() -> None:
    for row in take(READER, CONFIG, 10):
        shapes = {name: (value.dtype, value.shape) for name, value in row.items() if isinstance(value, np.ndarray)}
        assert shapes == {
            "image": (np.uint8, (32, 40, 3)),
            "object_mask": (np.uint8, (32, 40)),
            "ignore_mask": (np.uint8, (32, 40)),
            "clicks_yx": (np.float32, (12, 2)),
            "clicks_valid": (np.bool_, (12,)),
            "clicks_order": (np.int16, (12,)),
        }
        assert isinstance(row["index"], np.int64)
        assert isinstance(row["window"], np.int64)
        assert set(np.unique(row["object_mask"])) <= {0, 1}
        assert set(np.unique(row["ignore_mask"])) <= {0, 1}
        y, x = row["clicks_yx"][row["clicks_valid"]].astype(int).T
        positive = np.flatnonzero(row["clicks_valid"]) < 6
        assert np.array_equal(row["object_mask"][y, x] == 1, positive)


def test_every_epoch_shows_each_item_once_with_new_augmentation() -> None:
    rows = take(READER, CONFIG, 30)
    assert [int(row["index"]) for row in rows] == list(range(30))
    assert [int(row["window"]) for row in rows] == [w for e in range(3) for w in [2 * e] * 4 + [2 * e + 1] * 6]
    for epoch in range(3):
        ids = sorted(row["item"] for row in rows[10 * epoch : 10 * epoch + 10])
        assert ids == [item.id for item in READER.items()]
    assert len({row["image"].tobytes() for row in rows}) == 30


@pytest.mark.parametrize("start", [0, 3, 4, 9, 10, 17])
def test_starting_anywhere_gives_the_same_rows(start: int) -> None:
    whole, tail = take(READER, CONFIG, 24), take(READER, CONFIG, 6, start)
    assert all(equal(a, b) for a, b in zip(whole[start : start + 6], tail, strict=True))


def test_the_seed_decides() -> None:
    first, again = take(READER, CONFIG, 10), take(READER, CONFIG, 10)
    assert all(equal(a, b) for a, b in zip(first, again, strict=True))
    other = take(READER, replace(CONFIG, seed=1), 10)
    assert not any(np.array_equal(a["image"], b["image"]) for a, b in zip(first, other, strict=True))


def test_partners_come_from_the_same_window_and_are_named() -> None:
    rows = take(READER, CONFIG, 40)
    members: dict[int, set[str]] = {}
    for row in rows:
        members.setdefault(int(row["window"]), set()).add(row["item"])
    pasted = [row for row in rows if row["mode"]]
    assert len(pasted) > 20
    for row in pasted:
        partners = row["partner"].split("; ")
        assert len(partners) == len(row["mode"].split("+"))
        assert set(partners) <= members[int(row["window"])] - {row["item"]}
    assert all(not row["partner"] for row in rows if not row["mode"])


@dataclass(frozen=True, kw_only=True)
class CountingReader(FakeReader):
    loads: Counter[str] = field(default_factory=Counter)

    def load(self, item: Item) -> Sample:
        self.loads[item.id] += 1
        return FakeReader.load(self, item)


def test_each_item_is_decoded_once_an_epoch() -> None:
    reader = CountingReader(num_items=10)
    take(reader, CONFIG, 10)
    assert reader.loads == Counter(item.id for item in READER.items())


@pytest.mark.parametrize("bad", [(), (1, 3)])
def test_samples_of_one_view_have_separate_targets_and_clicks(bad: tuple[int, ...]) -> None:
    reader = CountingReader(num_items=10, bad=bad)
    rows = take(reader, replace(CONFIG, window_size=5, targets_per_view=2, copy_paste=CopyPasteConfig()), 40)
    assert [int(row["index"]) for row in rows] == list(range(40))
    windows = [[row for row in rows if row["window"] == number] for number in range(8)]
    views = [window[start : start + 2] for window in windows for start in range(0, 5, 2)]
    targets = clicks = 0
    for view in views:
        assert len({row["image"].tobytes() for row in view}) == len({row["item"] for row in view}) == 1
        targets += len({row["object_mask"].tobytes() for row in view}) > 1
        clicks += len({row["clicks_yx"].tobytes() for row in view}) > 1
    assert len({view[0]["image"].tobytes() for view in views}) == len(views) == 24
    assert targets > 5
    assert clicks > 12
    assert sum(reader.loads.values()) == len(views), "images that no sample shows are not decoded"


def test_a_bad_item_is_named_and_replaced_from_its_window() -> None:
    reader = FakeReader(num_items=10, bad=(1,), empty=(2,), broken=(3,), with_refused=(4,))
    rows = take(reader, CONFIG, 20)
    usual = take(READER, CONFIG, 20)
    expected = {
        "item0001": "item0001: the file is cut short",
        "item0002": "item0002: no object in it can be used",
        "item0003": "item0003: OSError: disk on fire",
        "item0004": "object z of item0004: no pixels",
    }
    assert [row["refused"] for row in rows] == [expected.get(row["item"], "") for row in usual]
    for row, before in zip(rows, usual, strict=True):
        assert int(row["index"]) == int(before["index"])
        if before["item"] in ("item0001", "item0002", "item0003"):
            window = {r["item"] for r in usual if r["window"] == row["window"]}
            assert row["item"] in window - {"item0001", "item0002", "item0003"}
        else:
            assert row["item"] == before["item"]


def test_masks_of_another_size_are_refused_by_name() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Crooked(FakeReader):
        def load(self, item: Item) -> Sample:
            sample = FakeReader.load(self, item)
            return replace(sample, image=sample.image[1:]) if item.id == "item0000" else sample

    refused = [row["refused"] for row in take(Crooked(num_items=4), CONFIG, 4) if row["refused"]]
    assert refused == ["item0000: the masks have (60, 80) and (60, 80) pixels: expected the image's (59, 80)"]


def test_a_window_without_usable_items_is_an_error_with_reasons() -> None:
    with pytest.raises(InputError, match=r"none of the 3 items of window 0 .* item000\d: the file is cut short"):
        take(FakeReader(num_items=3, bad=(0, 1, 2)), CONFIG, 1)


def test_a_lone_item_is_its_own_partner() -> None:
    rows = take(FakeReader(num_items=1), CONFIG, 20)
    assert {row["partner"] for row in rows if row["mode"]} >= {"item0000"}


def test_crops_without_objects_get_no_positive_click() -> None:
    config = replace(CONFIG, min_object_area=10**6, copy_paste=CopyPasteConfig())
    for row in take(READER, config, 10):
        assert not row["object_mask"].any()
        assert not row["clicks_valid"][:6].any()


def test_collate_stacks_and_split_undoes_it() -> None:
    rows = take(READER, CONFIG, 5)
    batch = collate(rows)
    assert batch["image"].shape == (5, 32, 40, 3)
    assert batch["index"].dtype == np.int64
    assert batch["item"].tolist() == [row["item"] for row in rows]
    assert all(equal(a, b) for a, b in zip(rows, split(batch), strict=True))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"crop_hw": (0, 4)}, r"crop_hw is \(0, 4\)"),
        ({"window_size": 0}, "window_size is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"targets_per_view": 0}, "targets_per_view is 0"),
        (
            {"targets_per_view": 2, "copy_paste": CopyPasteConfig(recipe="exclusive")},
            "expected 'none', because copy-paste",
        ),
        ({"keep_background_prob": 2.0}, "keep_background_prob is 2.0"),
    ],
)
def test_wrong_settings_say_what_is_wrong(values: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        DataConfig(**values)  # pyright: ignore[reportArgumentType]


def test_validation_crops_keep_their_colours() -> None:
    config = replace(CONFIG, augment=AugmentConfig(recipe="coco_lvis_val"), copy_paste=CopyPasteConfig())
    for row in take(READER, config, 6):
        image = READER.load(next(item for item in READER.items() if item.id == row["item"])).image
        places = np.lib.stride_tricks.sliding_window_view(image, (32, 40, 3))[..., 0, :, :, :]
        assert (places == row["image"]).all(axis=(2, 3, 4)).sum() == 1
