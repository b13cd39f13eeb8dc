from itertools import islice
from typing import Any

import numpy as np
import pytest
import ray

from models.errors import InputError
from pipeline.clicks.random_clicks import RandomClicksConfig
from pipeline.data import local, ray_data
from pipeline.data.config import DataConfig
from pipeline.data.copy_paste import CopyPasteConfig
from pipeline.data.rows import Row, split
from tests.pipeline.fakes import FakeReader

pytestmark = pytest.mark.ray

CONFIG = DataConfig(
    crop_hw=(32, 40),
    window_size=4,
    min_object_area=20,
    copy_paste=CopyPasteConfig(recipe="three_gates"),
    clicks=RandomClicksConfig(max_clicks=6),
)
READER = FakeReader(num_items=10, bad=(1,), empty=(2,), broken=(3,), with_refused=(4,))
WINDOWS = range(6)  # three epochs of two windows, 4 and 6 samples


@pytest.fixture(scope="module")
def expected() -> list[Row]:
    return list(islice(local.stream(READER, CONFIG), 30))


def assert_equal_rows(found: list[Row], expected: list[Row]) -> None:
    found = sorted(found, key=lambda row: int(row["index"]))
    assert [int(row["index"]) for row in found] == [int(row["index"]) for row in expected]
    for a, b in zip(found, expected, strict=True):
        assert a.keys() == b.keys()
        for name in a:
            left, right = np.asarray(a[name]), np.asarray(b[name])
            if right.dtype.kind != "U":
                assert left.dtype == right.dtype, name
            assert np.array_equal(left, right), (int(b["index"]), name)


def test_rows_equal_those_of_the_local_stream_whenever_it_runs(ray_cluster: None, expected: list[Row]) -> None:
    stream = ray_data.dataset(READER, CONFIG, WINDOWS, actors=3)
    found = list(stream.iter_rows())
    assert [int(row["index"]) for row in found] == list(range(30))
    assert_equal_rows(found, expected)
    assert sum(bool(row["refused"]) for row in found) == 12
    batches = list(stream.iter_batches(batch_size=8, batch_format="numpy"))
    assert [len(batch["index"]) for batch in batches] == [8, 8, 8, 6]
    assert batches[0]["image"].shape == (8, 32, 40, 3)
    assert_equal_rows([row for batch in batches for row in split(batch)], expected)


@ray.remote(num_cpus=0.1)
def read_shard(shard: Any) -> list[Row]:
    return [row for batch in shard.iter_batches(batch_size=4, batch_format="numpy") for row in split(batch)]


def test_a_later_start_split_among_workers_is_the_tail_of_the_stream(ray_cluster: None, expected: list[Row]) -> None:
    before = ray.data.DataContext.get_current().execution_options.preserve_order
    stream = ray_data.dataset(READER, CONFIG, range(3, 6), actors=(1, 2))
    assert ray.data.DataContext.get_current().execution_options.preserve_order == before
    parts = ray.get([read_shard.remote(shard) for shard in stream.streaming_split(2)], timeout=50)
    assert all(parts)
    assert_equal_rows([row for part in parts for row in part], expected[14:])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"windows": range(0)}, "given no windows"),
        ({"num_cpus": 0.0}, "num_cpus is 0.0"),
        ({"actors": 0}, "actors is 0"),
        ({"actors": (3, 2)}, r"actors is \(3, 2\)"),
    ],
)
def test_wrong_settings_say_what_is_wrong(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ray_data.dataset(READER, CONFIG, **({"windows": WINDOWS} | values))


def test_a_long_stream_has_several_windows_a_task(
    ray_cluster: None, expected: list[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_data, "MAX_TASKS", 2)
    grouped = ray_data.dataset(READER, CONFIG, WINDOWS)
    assert_equal_rows([row for batch in grouped.iter_batches(batch_size=None) for row in split(batch)], expected)
