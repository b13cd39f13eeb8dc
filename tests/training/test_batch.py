import numpy as np
import torch

from pipeline.training.batch import to_device
from tests.training.tiny import HW, columns


def test_pixels_become_floats_with_channels_first() -> None:
    given = columns(3)
    batch = to_device(given, "cpu")
    assert batch.image.shape == (3, 3, *HW)
    assert batch.image.dtype == torch.float32
    assert np.allclose(batch.image[1, 2].numpy() * 255, given["image"][1, :, :, 2])


def test_ignored_pixels_are_minus_one_even_on_the_object() -> None:
    given = columns(1)
    given["object_mask"][:] = 1
    given["object_mask"][:, 20:] = 0
    target = to_device(given, "cpu").target
    assert target.shape == (1, 1, *HW)
    assert (target[0, 0, 0] == -1).all()
    assert (target[0, 0, 1:20] == 1).all()
    assert (target[0, 0, 20:] == 0).all()


def test_the_first_half_of_the_click_rows_is_positive() -> None:
    batch = to_device(columns(2, num_clicks=5), "cpu")
    assert batch.clicks.positive.tolist() == [[True] * 5 + [False] * 5] * 2
    assert batch.clicks.valid.sum().item() == 2
    assert batch.clicks.yx.dtype == torch.float32


def test_read_only_columns_are_copied() -> None:
    given = columns(1)
    for column in given.values():
        column.flags.writeable = False
    batch = to_device(given, "cpu")
    batch.clicks.yx.add_(1)
    assert given["clicks_yx"].min() == -1
