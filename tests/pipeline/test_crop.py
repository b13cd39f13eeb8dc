import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data.crop import resized, resized_crop

sizes = st.integers(1, 90)


def gradient(hw: tuple[int, int]) -> np.ndarray:
    """A smooth image whose colours show where a pixel was: red its row, green its column."""
    rows, columns = np.meshgrid(np.linspace(1, 255, hw[0]), np.linspace(1, 255, hw[1]), indexing="ij")
    return np.stack([rows, columns, np.full(hw, 255)], axis=2).astype(np.uint8)


@given(height=sizes, width=sizes, crop=st.tuples(sizes, sizes), scale=st.floats(0.3, 2), seed=st.integers(0, 99))
@settings(max_examples=150, deadline=None)
def test_images_of_any_size_fit_and_masks_stay_aligned(
    height: int, width: int, crop: tuple[int, int], scale: float, seed: int
) -> None:
    image = np.full((height, width, 3), 255, np.uint8)
    numbers = np.arange(1, height * width + 1, dtype=np.uint16).reshape(height, width)
    out, labels, ignore = resized_crop(
        [image, numbers, np.zeros((height, width), np.uint8)], scale, crop, np.random.default_rng(seed), mirror=True
    )
    assert out.shape == (*crop, 3)
    assert labels.shape == ignore.shape == crop
    assert labels.dtype == np.uint16
    np.testing.assert_array_equal(labels > 0, out[..., 0] > 0)
    shown = (min(c, max(1, round(n * scale))) for n, c in zip((height, width), crop, strict=True))
    assert (labels > 0).sum() == np.prod(list(shown))


def test_a_crop_is_what_resizing_the_whole_image_would_show() -> None:
    image = gradient((240, 320))
    mask = np.zeros((240, 320), np.uint16)
    mask[60:180, 80:240] = 3
    worst, ious = 0.0, []
    for seed in range(20):
        scale = 0.8 + 0.03 * seed
        out, cut = resized_crop([image, mask], scale, (150, 170), np.random.default_rng(seed), mirror=False)
        rng = np.random.default_rng(seed)
        whole, whole_mask = resized([image, mask], scale)
        top = int(rng.integers(whole.shape[0] - 150 + 1))
        left = int(rng.integers(whole.shape[1] - 170 + 1))
        shown = np.s_[top : top + 150, left : left + 170]
        worst = max(worst, float(np.abs(whole[shown].astype(float) - out).max()))
        ious.append((cut & whole_mask[shown]).astype(bool).sum() / max(1, (cut | whole_mask[shown]).astype(bool).sum()))
    assert worst <= 3  # colours change by about one a pixel: less than two pixels off
    assert min(ious) > 0.95


def test_half_are_mirrored_and_crops_fall_everywhere() -> None:
    image, rng = gradient((50, 60)), np.random.default_rng(0)
    outs = [resized_crop([image], 1.0, (30, 30), rng, mirror=True)[0].astype(int) for _ in range(400)]
    mirrored = [bool(out[0, 0, 1] > out[0, -1, 1]) for out in outs]
    assert 150 < sum(mirrored) < 250
    assert {int(out[0, 0, 0]) for out in outs} == {int(v) for v in image[: 50 - 30 + 1, 0, 0]}


def test_nothing_is_resized_at_scale_one() -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    out = resized_crop([image], 1.0, (40, 40), np.random.default_rng(0), mirror=False)[0]
    np.testing.assert_array_equal(out, image)


@pytest.mark.parametrize("scale", [0.5, 1.3])
def test_masks_keep_their_values(scale: float) -> None:
    mask = np.random.default_rng(0).integers(0, 5, (40, 40)).astype(np.uint16)
    out = resized([cv2.merge([mask.astype(np.uint8)] * 3), mask], scale)[1]
    assert set(np.unique(out)) <= set(range(5))
