"""Label Studio's brushes: what is written is read back, also by hand, and nonsense is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from models.errors import InputError
from serve.faces.brush_rle import decode, encode


@settings(deadline=None)
@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=40)))
def test_round_trip(mask: np.ndarray) -> None:
    np.testing.assert_array_equal(decode(encode(mask), (mask.shape[0], mask.shape[1])), mask)


@settings(deadline=None)
@given(st.lists(st.integers(1, 40_000), min_size=1, max_size=6), st.booleans())
def test_round_trip_of_long_runs(runs: list[int], first: bool) -> None:
    values = [first ^ bool(i % 2) for i in range(len(runs))]
    mask = np.repeat(values, runs)[None]
    np.testing.assert_array_equal(decode(encode(mask), (1, mask.size)), mask)


@pytest.mark.parametrize("value", [False, True])
@pytest.mark.parametrize("hw", [(1, 1), (128, 128), (128, 129), (300, 500)])
def test_round_trip_of_one_value(hw: tuple[int, int], value: bool) -> None:
    mask = np.full(hw, value)
    np.testing.assert_array_equal(decode(encode(mask), hw), mask)


def test_by_hand() -> None:
    bits = f"{4:032b}" + f"{7:05b}" + "0010" + "0011" + "0111" + "1111"  # 4 values, 8 bits each, counts of 3, 4, 8, 16
    bits += "1" + "00" + f"{3:03b}" + f"{255:08b}"  # a repetition, the shortest kind, 4 times, 255
    bits += "0" * (-len(bits) % 8)
    assert encode(np.ones((1, 1), bool)) == [int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)]


def test_values_one_by_one() -> None:
    bits = f"{8:032b}" + f"{7:05b}" + "0010" + "0011" + "0111" + "1111"
    bits += "0" + "00" + f"{7:03b}" + "".join(f"{value:08b}" for value in (0, 0, 0, 0, 9, 9, 9, 9))
    bits += "0" * (-len(bits) % 8)
    data = [int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)]
    np.testing.assert_array_equal(decode(data, (1, 2)), [[False, True]])


@pytest.mark.check(9)
@settings(deadline=None)
@given(st.lists(st.integers(0, 255), max_size=60))
def test_nonsense_is_refused(data: list[int]) -> None:
    head = encode(np.ones((5, 7), bool))[:6]
    for given_data in (data, head + data):
        try:
            mask = decode(given_data, (5, 7))
        except InputError:
            continue
        assert mask.shape == (5, 7)


@pytest.mark.parametrize("data", [[], [256], [-1], ["a"], [None], encode(np.ones((5, 8), bool)), [255] * 20])
def test_refused(data: list[int]) -> None:
    with pytest.raises(InputError, match="the brush"):
        decode(data, (5, 7))


def test_only_masks_are_encoded() -> None:
    with pytest.raises(InputError, match="bool"):
        encode(np.ones((3, 3)))
