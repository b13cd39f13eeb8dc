import json
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data.position import StreamPosition, rebatch
from pipeline.data.rows import Batch

INDICES = st.lists(st.integers(0, 40), max_size=30)


def blocks_of(indices: list[int], sizes: list[int]) -> Iterator[Batch]:
    """Blocks of the given sizes, repeated until they hold all indices; each row shows its index in an image."""
    start, number = 0, 0
    while start < len(indices):
        part = np.array(indices[start : start + sizes[number % len(sizes)]])
        yield {"index": part, "image": np.repeat(part, 6).reshape(-1, 2, 3)}
        start, number = start + len(part), number + 1


def position_of(indices: list[int]) -> StreamPosition:
    return StreamPosition().add(indices)


@given(INDICES, st.data())
def test_the_order_and_the_grouping_of_samples_do_not_matter(indices: list[int], data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(indices))
    cut = data.draw(st.integers(0, len(indices)))
    assert position_of(shuffled[:cut]).add(shuffled[cut:]) == position_of(indices)
    assert position_of(indices).add(shuffled) == position_of(indices)


@given(INDICES)
def test_a_position_is_exactly_what_was_used(indices: list[int]) -> None:
    position = position_of(indices)
    assert set(range(position.below)) | position.beyond == set(indices)
    assert position.below not in position.beyond
    assert all(index > position.below for index in position.beyond)
    assert position.unused(range(45)).tolist() == [index not in indices for index in range(45)]


@given(INDICES)
def test_a_position_survives_json(indices: list[int]) -> None:
    position = position_of(indices)
    assert StreamPosition.from_json(json.loads(json.dumps(position.to_json()))) == position


def test_numpy_indices_become_plain_numbers() -> None:
    position = StreamPosition().add(np.array([0, 1, 5]))
    assert position == StreamPosition(2, frozenset({5}))
    assert json.dumps(position.to_json()) == '{"below": 2, "beyond": [5]}'


@settings(deadline=None)
@given(
    st.integers(0, 40),
    st.lists(st.integers(1, 9), min_size=1, max_size=4),
    st.integers(1, 7),
    INDICES,
)
def test_batches_hold_the_unused_samples_in_order(num: int, sizes: list[int], batch_size: int, used: list[int]) -> None:
    start = position_of(used)
    batches = list(rebatch(blocks_of(list(range(num)), sizes), start, batch_size))
    wanted = [index for index in range(num) if index not in used]
    whole = len(wanted) // batch_size * batch_size
    assert [index for batch in batches for index in batch["index"].tolist()] == wanted[:whole]
    for batch in batches:
        assert len(batch["index"]) == batch_size
        assert batch["image"].shape == (batch_size, 2, 3)
        assert (batch["image"] == batch["index"][:, None, None]).all()


@pytest.mark.parametrize("sizes", [[1], [3], [64], [2, 5, 1]])
def test_batches_do_not_depend_on_the_blocks(sizes: list[int]) -> None:
    expected = [[1, 2, 4, 5], [6, 8, 9, 10], [11, 12, 13, 14]]
    start = StreamPosition(1, frozenset({3, 7}))
    found = rebatch(blocks_of(list(range(16)), sizes), start, 4)
    assert [batch["index"].tolist() for batch in found] == expected


def test_samples_taken_while_training_come_before_those_after_a_restart() -> None:
    # A stopped run has used the first two batches; the rest after the restart completes them.
    stream = list(rebatch(blocks_of(list(range(20)), [6]), StreamPosition(), 4))
    position = StreamPosition().add(index for batch in stream[:2] for index in batch["index"])
    rest = list(rebatch(blocks_of(list(range(6, 20)), [7]), position, 4))
    assert [b["index"].tolist() for b in rest] == [b["index"].tolist() for b in stream[2:]]
