import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.click_maps import collate_clicks, disk_maps
from models.interaction import Clicks

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


# Quarters are exact in float32, so that the rim of a disk is no matter of rounding.
coordinate = st.integers(-40, 120).map(lambda quarters: quarters / 4)
click_lists = st.lists(st.tuples(coordinate, coordinate, st.booleans()), max_size=6).map(Clicks.of)


@settings(deadline=None, max_examples=60)
@given(st.lists(click_lists, min_size=1, max_size=3), st.sampled_from([0.0, 3.0, 5.0]))
def test_disks_against_the_definition(batch: list[Clicks], radius: float) -> None:
    maps = disk_maps(collate_clicks(batch), HW, radius).numpy()
    assert maps.shape == (len(batch), 2, *HW)
    for drawn, clicks in zip(maps, batch, strict=True):
        np.testing.assert_array_equal(drawn, brute_force(clicks, radius))


def test_no_clicks_is_one_row_of_padding() -> None:
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
