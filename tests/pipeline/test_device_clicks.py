"""Clicks of the training step that never leave the device, against OpenCV's precise transform."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.click_maps import ClickBatch
from pipeline.clicks.device_distance import label_distances, squared_distances
from pipeline.clicks.training_clicks import TRAINING_CLICKS, error_labels, next_clicks


def precise(mask: np.ndarray) -> np.ndarray:
    """Return integer squared distances by OpenCV's precise transform."""
    padded = np.pad(mask, 1).astype(np.uint8)
    depth = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1].astype(np.float64)
    return np.rint(depth * depth).astype(np.int64)


def blobs(rng: np.random.Generator, hw: tuple[int, int], grain: int = 8, level: float = 0.5) -> np.ndarray:
    """Return smooth noise in 0..1, in pieces about `grain` pixels wide."""
    small = rng.random((max(2, hw[0] // grain), max(2, hw[1] // grain))).astype(np.float32)
    return np.clip(cv2.resize(small, hw[::-1], interpolation=cv2.INTER_CUBIC) + 0.5 - level, 0, 1)


def rows(batch: int, num: int = 6) -> ClickBatch:
    positive = (torch.arange(2 * num) < num).expand(batch, -1)
    valid = torch.zeros(batch, 2 * num, dtype=torch.bool)
    return ClickBatch(torch.full((batch, 2 * num, 2), -1.0), positive, valid, valid)


def tensors(prob: np.ndarray, target: np.ndarray, batch: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    return tuple(
        torch.from_numpy(part.astype(np.float32))[None, None].expand(batch, 1, -1, -1) for part in (prob, target)
    )  # pyright: ignore[reportReturnType]


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**31), st.integers(1, 40), st.integers(1, 40), st.integers(1, 12), st.floats(0.05, 0.95))
def test_distances_equal_the_precise_transform(seed: int, height: int, width: int, grain: int, level: float) -> None:
    rng = np.random.default_rng(seed)
    masks = [blobs(rng, (height, width), grain, level) > 0.5 for _ in range(2)]
    masks += [rng.random((height, width)) < level, np.ones((height, width), bool), np.zeros((height, width), bool)]
    found = squared_distances(torch.from_numpy(np.stack(masks))).numpy()
    assert np.array_equal(found, np.stack([precise(mask) for mask in masks]))


def test_distances_on_a_large_mask_are_exact() -> None:
    mask = blobs(np.random.default_rng(3), (448, 400), grain=60) > 0.5
    assert precise(mask).max() > 900
    assert np.array_equal(squared_distances(torch.from_numpy(mask)[None])[0].numpy(), precise(mask))


def test_two_labels_cost_one_transform() -> None:
    rng = np.random.default_rng(0)
    first = blobs(rng, (50, 60)) > 0.6
    second = (blobs(rng, (50, 60)) > 0.5) & ~first
    labels = first + 2 * second.astype(np.int8)
    found = label_distances(torch.from_numpy(labels.astype(np.int8))[None])[0].numpy()
    assert np.array_equal(found[first], precise(first)[first])
    assert np.array_equal(found[second], precise(second)[second])


@pytest.mark.parametrize("law", TRAINING_CLICKS)
def test_clicks_fall_where_the_precise_transform_allows(law: str) -> None:
    rng = np.random.default_rng(1)
    sizes, hits = [], 0
    for _ in range(12):
        prob, target = blobs(rng, (60, 50)), (blobs(rng, (60, 50)) > 0.5).astype(np.float32)
        missed, alarm = (target > 0.5) & (prob < 0.49), (target <= 0.5) & (prob > 0.49)
        depths = {True: precise(missed), False: precise(alarm)}
        deeper = bool(depths[True].max() > depths[False].max())
        after = next_clicks(rows(40), *tensors(prob, target, 40), rng, law=law, number=1, exact=True)
        for sample in range(40):
            if not after.valid[sample].any():
                assert law == "emc"  # the shallower sign may have no pixel
                continue
            row = int(after.valid[sample].nonzero())
            positive = bool(after.positive[sample, row])
            y, x = after.yx[sample, row].int().tolist()
            depth, top = depths[positive], max(depths[True].max(), depths[False].max())
            assert depth[y, x] > 0
            hits += 1
            if law != "emc":
                assert positive == deeper
            sizes.append(depth[y, x] / top)
            if law in ("ritm", "cfr", "emc"):
                assert 4 * depth[y, x] > top
            elif law == "centre":
                assert depth[y, x] == top
            else:
                assert depth[y, x] == top or depth[y, x] <= max(1, top / 16)
    assert hits > 300
    if law == "border_mix":
        assert 0.3 < np.mean(np.array(sizes) == 1) < 0.7


@pytest.mark.networks
def test_signs_are_drawn_by_depth() -> None:
    target = np.zeros((32, 54), np.float32)
    target[1:21, 1:21] = 1  # missed, depth 10
    prob = np.zeros((32, 54), np.float32)
    prob[1:31, 23:53] = 1  # false alarm, depth 15
    after = next_clicks(rows(4000), *tensors(prob, target, 4000), np.random.default_rng(0), law="emc", exact=True)
    positive = (after.valid & after.positive).any(1).float().mean().item()
    assert abs(positive - 0.4) < 0.03
    assert after.valid.any(1).all()


def test_every_allowed_pixel_is_equally_likely() -> None:
    target = np.zeros((12, 14), np.float32)
    target[2:9, 3:10] = 1
    allowed = 4 * precise(target > 0) > 16
    after = next_clicks(rows(9000), *tensors(target * 0, target, 9000), np.random.default_rng(0), exact=True)
    places = after.yx[:, 0].int()
    counts = np.zeros(target.shape, int)
    np.add.at(counts, (places[:, 0].numpy(), places[:, 1].numpy()), 1)
    assert np.array_equal(counts > 0, allowed)
    expected = 9000 / allowed.sum()
    chi2 = ((counts[allowed] - expected) ** 2 / expected).sum()
    assert chi2 < allowed.sum() + 4 * np.sqrt(2 * allowed.sum())


def test_samples_without_errors_keep_their_clicks() -> None:
    target = (blobs(np.random.default_rng(2), (30, 30)) > 0.5).astype(np.float32)
    before = rows(3)
    after = next_clicks(before, *tensors(target, target, 3), np.random.default_rng(0), exact=True)
    assert torch.equal(after.valid, before.valid)
    assert torch.equal(after.yx, before.yx)


def test_compiled_clicks_equal_eager_ones() -> None:
    rng = np.random.default_rng(5)
    labels = torch.from_numpy(np.stack([(blobs(rng, (24, 20)) * 3).astype(np.int8) for _ in range(3)]))
    compiled = torch.compile(label_distances, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(labels), label_distances(labels))


@pytest.mark.slow
def test_the_distances_compile_to_a_kernel() -> None:
    rng = np.random.default_rng(5)
    labels = torch.from_numpy(np.stack([(blobs(rng, (64, 60)) * 3).astype(np.int8) for _ in range(3)]))
    assert torch.equal(torch.compile(label_distances, fullgraph=True)(labels), label_distances(labels))


def test_the_two_transforms_differ_as_documented() -> None:
    """As the docstring of training_clicks says: mostly the same click, but not always."""
    rng = np.random.default_rng(7)
    signs = pixels = 0
    num = 150
    for _ in range(num):
        prob, target = tensors(blobs(rng, (96, 96), 12), (blobs(rng, (96, 96), 12) > 0.5).astype(np.float32))
        assert (error_labels(prob, target) > 0).any()
        clicks = [next_clicks(rows(1), prob, target, np.random.default_rng(0), exact=exact) for exact in (True, False)]
        where = [int(each.valid[0].nonzero()) for each in clicks]
        signs += where[0] != where[1]
        pixels += where[0] == where[1] and not torch.equal(clicks[0].yx, clicks[1].yx)
    assert signs <= 0.05 * num
    assert 0 < pixels < 0.8 * num
