"""Boundary IoU and surface distance, against counting and in cases where definitions differ."""

import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipeline.boundaries import assd, biou

HW = (60, 80)  # the diagonal is 100: BIoU's band is 2 pixels wide
NOTHING = np.zeros(HW, bool)


def box(y0: int, x0: int, y1: int, x1: int) -> np.ndarray:
    mask = np.zeros(HW, bool)
    mask[y0:y1, x0:x1] = True
    return mask


def frame(y0: int, x0: int, y1: int, x1: int, width: int) -> np.ndarray:
    return box(y0, x0, y1, x1) & ~box(y0 + width, x0 + width, y1 - width, x1 - width)


def test_biou_compares_bands_inside_the_borders() -> None:
    ours, theirs = box(10, 10, 40, 50), box(10, 14, 40, 54)
    bands = frame(10, 10, 40, 50, 2), frame(10, 14, 40, 54, 2)
    assert biou(ours, theirs) == (bands[0] & bands[1]).sum() / (bands[0] | bands[1]).sum()


def test_the_images_edge_is_a_border() -> None:
    ours, theirs = box(0, 0, 30, 80), box(0, 0, 60, 80)
    bands = frame(0, 0, 30, 80, 2), frame(0, 0, 60, 80, 2)
    assert biou(ours, theirs) == (bands[0] & bands[1]).sum() / (bands[0] | bands[1]).sum()


def test_a_thin_object_is_all_band() -> None:
    ours, theirs = box(10, 10, 13, 40), box(10, 10, 13, 50)
    assert biou(ours, theirs) == pytest.approx(30 / 40)


@pytest.mark.parametrize("measure", [biou, assd])
def test_two_empty_masks_have_no_borders_to_compare(measure) -> None:
    assert math.isnan(measure(NOTHING, NOTHING))


def test_one_empty_mask_gets_the_worst_values() -> None:
    for pair in ((NOTHING, box(5, 5, 9, 9)), (box(5, 5, 9, 9), NOTHING)):
        assert biou(*pair) == 0
        assert assd(*pair) == 100  # the diagonal


def test_assd_of_shifted_rows() -> None:
    assert assd(box(10, 10, 11, 30), box(17, 10, 18, 30)) == 7
    assert assd(box(10, 10, 11, 12), box(10, 12, 11, 13)) == pytest.approx((2 + 1 + 1) / 3)  # by pixel, not by mask


def test_assd_ignores_holes() -> None:
    ring, filled = frame(10, 10, 40, 50, 5), box(10, 10, 40, 50)
    assert assd(ring, filled) == 0
    assert biou(ring, filled) < 1
    island = ring | box(20, 20, 25, 25)
    assert assd(island, filled) == 0


def brute_force_assd(mask: np.ndarray, object_mask: np.ndarray) -> float:
    borders = []
    for each in (mask, object_mask):
        padded = np.pad(each, 1).astype(np.uint8)
        _, outside = cv2.connectedComponents(1 - padded, connectivity=4)
        reached = outside == outside[0, 0]  # pixels that the outside reaches without crossing the mask, so no holes
        near = [reached[1 + dy : 1 + dy + each.shape[0], 1 + dx : 1 + dx + each.shape[1]] for dy, dx in AROUND]
        borders.append(np.argwhere(each & np.logical_or.reduce(near)))
    apart = np.hypot(*(borders[0][:, None] - borders[1][None]).transpose(2, 0, 1))
    return float(np.concatenate([apart.min(1), apart.min(0)]).mean())


AROUND = [(-1, 0), (1, 0), (0, -1), (0, 1)]
blobs = st.builds(
    lambda seed: cv2.GaussianBlur(np.random.default_rng(seed).standard_normal((24, 30)), (0, 0), 3) > 0,
    st.integers(0, 2**31),
)


@settings(deadline=None, max_examples=60)
@given(blobs, blobs)
def test_assd_against_every_pair_of_pixels(mask: np.ndarray, object_mask: np.ndarray) -> None:
    assert assd(mask, object_mask) == pytest.approx(brute_force_assd(mask, object_mask), rel=1e-9)


@settings(deadline=None)
@given(hnp.arrays(bool, (8, 9)), hnp.arrays(bool, (8, 9)))
def test_both_are_symmetric_and_perfect_for_equal_masks(ours: np.ndarray, theirs: np.ndarray) -> None:
    assert biou(ours, theirs) == pytest.approx(biou(theirs, ours), nan_ok=True)
    assert assd(ours, theirs) == pytest.approx(assd(theirs, ours), nan_ok=True)
    if ours.any():
        assert biou(ours, ours) == 1
        assert assd(ours, ours) == 0
