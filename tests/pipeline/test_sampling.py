import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import InputError
from pipeline.data.sampling import Order, rng_for

CHUNKS = st.one_of(st.integers(1, 60).map(lambda num: [1] * num), st.lists(st.integers(1, 7), min_size=1, max_size=20))
ORDERS = st.builds(Order, CHUNKS, st.integers(1, 25), st.integers(0, 2**40))


@settings(max_examples=80, deadline=None)
@given(ORDERS)
def test_every_epoch_visits_each_item_once(order: Order) -> None:
    per_epoch = order.windows_per_epoch
    found = list(itertools.islice(order.windows(), 3 * per_epoch))
    for epoch in range(3):
        pieces = found[epoch * per_epoch : (epoch + 1) * per_epoch]
        assert {piece.epoch for piece in pieces} == {epoch}
        assert sorted(n for piece in pieces for n in piece.item_numbers) == list(range(order.num_items))
    indices = [piece.first_index + i for piece in found for i in range(len(piece.item_numbers))]
    assert indices == list(range(3 * order.num_items))


@settings(max_examples=80, deadline=None)
@given(ORDERS)
def test_windows_take_equal_numbers_of_whole_chunks(order: Order) -> None:
    chunk_of = np.repeat(np.arange(len(order.chunk_sizes)), order.chunk_sizes)
    counts = []
    for number in range(2 * order.windows_per_epoch):
        items = np.array(order.window(number).item_numbers)
        chunks = np.unique(chunk_of[items])
        assert len(items) == order.chunk_sizes[chunks].sum()
        counts.append(len(chunks))
    last = counts[order.windows_per_epoch - 1 :: order.windows_per_epoch]
    rest = set(counts) - set(last)
    assert rest <= {order.chunks_per_window}
    assert order.chunks_per_window <= min(last) <= max(last) < 2 * order.chunks_per_window


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 60), st.integers(1, 25))
def test_windows_of_files_are_full_and_the_short_rest_joins_its_neighbour(num_items: int, window_size: int) -> None:
    order = Order([1] * num_items, window_size, 0)
    lengths = [len(order.window(number).item_numbers) for number in range(order.windows_per_epoch)]
    if num_items < window_size:
        assert lengths == [num_items]
    else:
        assert lengths[:-1] == [window_size] * (len(lengths) - 1)
        assert window_size <= lengths[-1] < 2 * window_size


@settings(max_examples=80, deadline=None)
@given(ORDERS, st.integers(0, 200))
def test_starting_anywhere_equals_the_tail(order: Order, start_index: int) -> None:
    first = order.window_number(start_index)
    whole = list(itertools.islice(order.windows(), first + 4))
    assert list(itertools.islice(order.windows(start_index), 4)) == whole[first:]
    begin = whole[first].first_index
    assert begin <= start_index < begin + len(whole[first].item_numbers)
    assert whole[first] == order.window(first)


def test_orders_differ_between_epochs_and_seeds() -> None:
    for sizes in ([1] * 50, [5] * 10):
        orders = {Order(sizes, 50, seed).window(number).item_numbers for number in range(3) for seed in range(3)}
        assert len(orders) == 9


def test_items_of_different_chunks_meet_and_chunks_are_shuffled() -> None:
    order = Order([4] * 6, 8, 0)
    met = np.zeros((24, 24), bool)
    for number in range(60 * order.windows_per_epoch):
        items = list(order.window(number).item_numbers)
        met[np.ix_(items, items)] = True
    assert met.all()
    assert not any(np.all(np.diff(order.window(number).item_numbers[:4]) == 1) for number in range(30))


def test_the_window_size_is_met_as_nearly_as_chunks_allow() -> None:
    assert Order([16] * 40, 64, 0).chunks_per_window == 4
    assert Order([16] * 40, 5, 0).chunks_per_window == 1
    assert Order([16, 16, 3], 64, 0).windows_per_epoch == 1


def test_generators_differ_by_every_part_of_the_key_and_repeat() -> None:
    keys = [(0,), (0, 0), (0, 0, 0), (1,), (0, 1), (1, 0), (0, 0, 1), (2**33, 0), (0, 2**33)]
    draws = [rng_for(*key).integers(2**60) for key in keys]
    assert len(set(draws)) == len(keys)
    assert draws == [rng_for(*key).integers(2**60) for key in keys]
    assert np.array_equal(rng_for(5, 6).permutation(30), rng_for(5, 6).permutation(30))


def test_an_empty_data_set_is_refused() -> None:
    with pytest.raises(InputError, match="0 items"):
        Order.of([], 8, 0)
