import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from models.rle import runs_of
from pipeline.data.runs import pack_runs, paint
from pipeline.data.sample import pack_objects

HW = (6, 7)


@settings(max_examples=100, deadline=None)
@given(arrays(np.uint16, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 4)))
def test_painting_undoes_run_lengths(labels: np.ndarray) -> None:
    objects = [(runs_of(labels == value), int(value)) for value in np.unique(labels) if value]
    np.testing.assert_array_equal(paint(objects, labels.shape), labels)


@pytest.mark.parametrize(
    ("runs", "value", "reason"),
    [([3, 2], 1, "add up to 6"), ([], 1, "add up"), ([7, -1], 1, "add up"), ([0, 6], 0, "value 0")],
)
def test_runs_that_do_not_fit_are_refused(runs: list[int], value: int, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        paint([(np.array(runs, np.int32), value)], (2, 3))


@settings(max_examples=150, deadline=None)
@given(st.lists(arrays(np.bool_, HW, elements=st.booleans()) | st.just(np.zeros(HW, bool)), max_size=6))
def test_packing_runs_equals_packing_masks(masks: list[np.ndarray]) -> None:
    image, ignore = np.zeros((*HW, 3), np.uint8), np.eye(*HW, dtype=bool)
    named = [(f"o{n}", f"c{n % 2}", mask) for n, mask in enumerate(masks)]
    expected = pack_objects("s", image, named, ignore, ["z: gone"])
    found = pack_runs("s", image, [(a, b, runs_of(mask)) for a, b, mask in named], ignore, ["z: gone"])
    np.testing.assert_array_equal(found.instance_masks, expected.instance_masks)
    assert (found.objects, found.refused) == (expected.objects, expected.refused)
