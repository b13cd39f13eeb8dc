import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import InputError
from pipeline.data.sampling import rng_for, window_at, window_number, windows, windows_per_epoch

SIZES = st.tuples(st.integers(1, 60), st.integers(1, 25))


def take(num_items: int, window_size: int, seed: int, num: int, start_index: int = 0) -> list:
    return list(itertools.islice(windows(num_items, window_size, seed, start_index), num))


@settings(max_examples=40, deadline=None)
@given(SIZES, st.integers(0, 2**40))
def test_every_epoch_visits_each_item_once(sizes: tuple[int, int], seed: int) -> None:
    num_items, window_size = sizes
    per_epoch = windows_per_epoch(num_items, window_size)
    found = take(num_items, window_size, seed, 3 * per_epoch)
    for epoch in range(3):
        pieces = found[epoch * per_epoch : (epoch + 1) * per_epoch]
        assert {piece.epoch for piece in pieces} == {epoch}
        assert sorted(n for piece in pieces for n in piece.item_numbers) == list(range(num_items))
    indices = [piece.first_index + i for piece in found for i in range(len(piece.item_numbers))]
    assert indices == list(range(3 * num_items))


@settings(max_examples=40, deadline=None)
@given(SIZES)
def test_windows_are_full_and_the_short_rest_joins_its_neighbour(sizes: tuple[int, int]) -> None:
    num_items, window_size = sizes
    lengths = [len(w.item_numbers) for w in take(num_items, window_size, 0, windows_per_epoch(num_items, window_size))]
    if num_items < window_size:
        assert lengths == [num_items]
    else:
        assert lengths[:-1] == [window_size] * (len(lengths) - 1)
        assert window_size <= lengths[-1] < 2 * window_size


@settings(max_examples=40, deadline=None)
@given(SIZES, st.integers(0, 200))
def test_starting_anywhere_equals_the_tail(sizes: tuple[int, int], start_index: int) -> None:
    num_items, window_size = sizes
    first = window_number(start_index, num_items, window_size)
    whole = take(num_items, window_size, 3, first + 4)
    assert take(num_items, window_size, 3, 4, start_index) == whole[first:]
    begin = whole[first].first_index
    assert begin <= start_index < begin + len(whole[first].item_numbers)
    assert whole[first] == window_at(first, num_items, window_size, 3)


def test_epochs_and_seeds_have_their_own_order() -> None:
    orders = {window_at(number, 50, 50, seed).item_numbers for number in range(3) for seed in range(3)}
    assert len(orders) == 9


def test_generators_differ_by_every_part_of_the_key_and_repeat() -> None:
    keys = [(0,), (0, 0), (0, 0, 0), (1,), (0, 1), (1, 0), (0, 0, 1), (2**33, 0), (0, 2**33)]
    draws = [rng_for(*key).integers(2**60) for key in keys]
    assert len(set(draws)) == len(keys)
    assert draws == [rng_for(*key).integers(2**60) for key in keys]
    assert np.array_equal(rng_for(5, 6).permutation(30), rng_for(5, 6).permutation(30))


def test_an_empty_data_set_is_refused() -> None:
    with pytest.raises(InputError, match="0 items"):
        next(windows(0, 8, 0))
