from random import Random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.click_maps import ClickBatch, collate_clicks, disk_maps, gaussian_maps
from models.interaction import Clicks
from tests.models.tiny import permuted

HW = (17, 23)


def brute_force(clicks: Clicks, radius: float) -> np.ndarray:
    y, x = np.mgrid[: HW[0], : HW[1]]
    maps = np.zeros((2, *HW), np.float32)
    for (cy, cx), positive in zip(clicks.yx, clicks.positive, strict=True):
        if max(cy, cx) >= 0:
            maps[0 if positive else 1] = np.maximum(
                maps[0 if positive else 1], (y - cy) ** 2 + (x - cx) ** 2 <= radius**2
            )
    return maps


# Quarters are exact in float32, so the edge of a disk does not depend on rounding.
coordinate = st.integers(-40, 120).map(lambda quarters: quarters / 4)
click_lists = st.lists(st.tuples(coordinate, coordinate, st.booleans()), max_size=6).map(Clicks.of)


@settings(deadline=None, max_examples=60)
@given(st.lists(click_lists, min_size=1, max_size=3), st.sampled_from([0.0, 3.0, 5.0]))
def test_disks_against_the_definition(batch: list[Clicks], radius: float) -> None:
    maps = disk_maps(collate_clicks(batch), HW, radius).numpy()
    assert maps.shape == (len(batch), 2, *HW)
    for drawn, clicks in zip(maps, batch, strict=True):
        np.testing.assert_array_equal(drawn, brute_force(clicks, radius))


def test_empty_click_lists_become_one_row_of_padding() -> None:
    batch = collate_clicks([Clicks.none(), Clicks.none()])
    assert batch.yx.shape == (2, 1, 2)
    assert not batch.valid.any()
    assert disk_maps(batch, HW).sum() == 0


def test_padding_rows_hold_minus_one_and_clicks_keep_their_order() -> None:
    batch = collate_clicks([Clicks.of([(1, 2, True), (3, 4, False)]), Clicks.of([(5, 6, False)])])
    assert batch.yx.tolist() == [[[1, 2], [3, 4]], [[5, 6], [-1, -1]]]
    assert batch.valid.tolist() == [[True, True], [True, False]]
    assert batch.positive[0].tolist() == [True, False]
    assert torch.equal(batch.to("cpu").yx, batch.yx)


def brute_force_spots(clicks: Clicks, sigma: float) -> np.ndarray:
    y, x = np.mgrid[: HW[0], : HW[1]]
    distance = np.full((2, *HW), 255.0)
    for (cy, cx), positive in zip(clicks.yx, clicks.positive, strict=True):
        sign = 0 if positive else 1
        distance[sign] = np.minimum(distance[sign], np.hypot(y - cy, x - cx))
    return np.exp(-4 * np.log(2) * distance**2 / sigma**2)


far_coordinate = st.one_of(coordinate, st.integers(-400, 400).map(float))
far_lists = st.lists(st.tuples(far_coordinate, far_coordinate, st.booleans()), max_size=6).map(Clicks.of)


@settings(deadline=None, max_examples=60)
@given(st.lists(far_lists, min_size=1, max_size=3), st.sampled_from([3.0, 10.0, 300.0]), st.randoms())
def test_spots_against_the_definition(batch: list[Clicks], sigma: float, random: Random) -> None:
    clicks = collate_clicks(batch)
    maps = gaussian_maps(clicks, HW, sigma)
    assert maps.shape == (len(batch), 2, *HW)
    assert maps.dtype == torch.float32
    for drawn, one in zip(maps.numpy(), batch, strict=True):
        np.testing.assert_allclose(drawn, brute_force_spots(one, sigma), rtol=1e-4, atol=1e-7)
    order = list(range(clicks.yx.shape[1]))
    random.shuffle(order)
    assert torch.equal(gaussian_maps(permuted(clicks, torch.tensor(order)), HW, sigma), maps)


def test_a_spot_is_half_as_high_at_half_of_sigma() -> None:
    spot = gaussian_maps(collate_clicks([Clicks.of([(8, 11, True)])]), HW, 10.0)[0, 0]
    assert spot[8, 11] == 1
    assert spot[8, 16].item() == pytest.approx(0.5)
    assert spot[13, 11].item() == pytest.approx(0.5)


def test_values_of_padding_rows_are_not_drawn() -> None:
    batch = collate_clicks([Clicks.of([(5, 6, True)]), Clicks.of([(1, 2, True), (3, 4, False), (9, 9, True)])])
    yx, positive = batch.yx.clone(), batch.positive.clone()
    yx[0, 1:], positive[0, 1:] = 7.0, True
    maps = gaussian_maps(ClickBatch(yx, positive, batch.valid, batch.first), HW)
    assert torch.equal(maps, gaussian_maps(batch, HW))
