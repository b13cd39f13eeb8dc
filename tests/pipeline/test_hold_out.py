from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import InputError
from pipeline.data.hold_out import HoldOut, is_held_out
from pipeline.data.sampling import Order
from tests.pipeline.fakes import FakeReader
from tests.pipeline.test_prepared import prepared

READER = FakeReader(num_items=60)


def ids(side: str, fraction: float = 0.2, reader: FakeReader = READER) -> list[str]:
    return [item.id for item in HoldOut(reader=reader, fraction=fraction, side=side).items()]  # pyright: ignore


def test_every_image_is_on_one_side_and_stays_there() -> None:
    assert sorted(ids("training") + ids("held_out")) == [item.id for item in READER.items()]
    assert 4 <= len(ids("held_out")) <= 20
    assert set(ids("held_out")) < set(ids("held_out", reader=replace(READER, num_items=90)))


@given(st.text(), st.floats(0.01, 0.9), st.floats(0.01, 0.9))
def test_a_larger_fraction_contains_every_smaller_one(name: str, a: float, b: float) -> None:
    assert is_held_out(name, min(a, b)) <= is_held_out(name, max(a, b))


def test_the_fraction_is_met() -> None:
    held = np.mean([is_held_out(f"image {n}", 0.1) for n in range(5000)])
    assert 0.085 < held < 0.115


def test_chunks_of_a_prepared_data_set_stay_chunks(tmp_path: Path) -> None:
    reader = prepared(READER, tmp_path, per_part=20, per_group=5)
    items = HoldOut(reader=reader, fraction=0.3, side="training").items()
    order = Order.of(items, 12, 0)
    assert order.chunk_sizes.sum() == len(items)
    assert order.chunk_sizes.max() <= 5
    window = [items[number] for number in order.window(0).item_numbers]
    assert len({item.payload["group"] for item in window}) <= order.chunks_per_window * 2
    assert all(reader.load(item).id == item.id for item in window)


def test_an_empty_side_is_refused() -> None:
    with pytest.raises(InputError, match="leaves none to validate on"):
        HoldOut(reader=FakeReader(num_items=1), fraction=0.001, side="held_out").items()
    with pytest.raises(InputError, match=r"hold_out is 1\.5"):
        HoldOut(reader=READER, fraction=1.5, side="training")
