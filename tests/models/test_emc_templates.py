"""EMC-Click's templates: which cells are selected, against slow rewrites of the rules."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.click_maps import ClickBatch, collate_clicks, squared_distances
from models.interaction import Clicks
from models.networks.templates import click_cells, clicked_templates, select_templates

pytestmark = pytest.mark.networks

coordinate = st.floats(-30, 130, width=32) | st.integers(-3, 30).map(lambda n: 2.0 * n)
signed_clicks = st.lists(st.tuples(coordinate, coordinate, st.booleans()), max_size=7)


def cell(y: float, x: float, grid_hw: tuple[int, int]) -> int:
    """Return the cell of one click (docs/PAPERS.md, EMC-Click: mask-correction network, step 3).

    Python also rounds half to even.
    """
    row, column = min(round(0.25 * y), grid_hw[0] - 1), min(round(0.25 * x), grid_hw[1] - 1)
    return max(0, row * grid_hw[1] + column)


@settings(deadline=None)
@given(signed_clicks, st.integers(1, 24), st.integers(1, 24))
def test_cells_of_clicks(rows: list[tuple[float, float, bool]], height: int, width: int) -> None:
    found = click_cells(collate_clicks([Clicks.of(rows)]), (height, width))
    assert found[0, : len(rows)].tolist() == [cell(y, x, (height, width)) for y, x, _ in rows]
    assert found.min() >= 0
    assert found.max() < height * width


def resized(array: np.ndarray, hw: tuple[int, int]) -> np.ndarray:
    """Resize bilinearly with aligned corners, one pixel at a time."""
    result = np.zeros(hw)
    for i, j in np.ndindex(*hw):
        y, x = (n * (size - 1) / max(1, new - 1) for n, size, new in zip((i, j), array.shape, hw, strict=True))
        top, left = int(y), int(x)
        bottom, right = min(top + 1, array.shape[0] - 1), min(left + 1, array.shape[1] - 1)
        upper = array[top, left] * (1 - (x - left)) + array[top, right] * (x - left)
        lower = array[bottom, left] * (1 - (x - left)) + array[bottom, right] * (x - left)
        result[i, j] = upper * (1 - (y - top)) + lower * (y - top)
    return result


def slow_scores(feature: np.ndarray, rows: list[tuple[float, float, bool]]) -> list[np.ndarray]:
    """Return the scores of the positive and the negative sign (h * w) for one sample, by the formula.

    See docs/PAPERS.md, EMC-Click: mask-correction network, step 3.
    """
    _, h, w = feature.shape
    height, width = 4 * h, 4 * w
    cells = feature.reshape(len(feature), -1).T
    cells = cells / np.maximum(np.linalg.norm(cells, axis=1, keepdims=True), 1e-12)
    of_sign = [[row for row in rows if row[2] is sign] for sign in (True, False)]
    num = max(*map(len, of_sign), 1)
    similar, near = [], []
    for clicked in of_sign:
        likeness = [cells @ cells[cell(y, x, (h, w))] for y, x, _ in clicked]
        likeness += [np.zeros(h * w)] * (num - len(clicked))  # padding takes part with the value 0
        similar.append(np.max(likeness, axis=0))
        far = np.full((height, width), 1e6)
        for i, j in np.ndindex(height, width):
            drawn = [(i - y) ** 2 + (j - x) ** 2 for y, x, _ in clicked if max(y, x) >= 0]
            far[i, j] = min([1e6, *drawn])
        far[far == 1e6] = 1
        near.append(1 - resized(np.sqrt(far) / math.hypot(height, width), (h, w)).ravel())
    return [(similar[0] + 1 - similar[1]) * near[0], (similar[1] + 1 - similar[0]) * near[1]]


on_view = st.floats(0, 1, width=32)
one_sample = st.lists(st.tuples(on_view, on_view, st.booleans()), min_size=1, max_size=5)


@settings(deadline=None, max_examples=40)
@given(st.lists(one_sample, min_size=1, max_size=3), st.integers(2, 6), st.integers(2, 7), st.integers(0, 1000))
def test_selected_templates(samples: list[list[tuple[float, float, bool]]], h: int, w: int, seed: int) -> None:
    """The cells with the highest scores in descending order, ties in any order, in a batch of unequal click lists."""
    rng = np.random.default_rng(seed)
    feature = rng.normal(size=(len(samples), 3, h, w)).astype(np.float32)
    lists = [[(y * (4 * h - 1), x * (4 * w - 1), sign) for y, x, sign in rows] for rows in samples]
    clicks = collate_clicks([Clicks.of(rows) for rows in lists])
    num = min(4, h * w)
    found = select_templates(torch.from_numpy(feature), clicks, squared_distances(clicks, (4 * h, 4 * w)), num)
    assert bool(found.positive_valid.all())
    assert bool(found.negative_valid.all())
    for number, rows in enumerate(lists):
        exact = [(float(np.float32(y)), float(np.float32(x)), sign) for y, x, sign in rows]
        for cells, scores in zip((found.positive, found.negative), slow_scores(feature[number], exact), strict=True):
            chosen = cells[number].tolist()
            assert len(set(chosen)) == num
            np.testing.assert_allclose(scores[chosen], np.sort(scores)[::-1][:num], atol=2e-5)


def test_padding_of_a_batch_does_not_change_templates() -> None:
    """With equally many clicks of both signs there is no floor, regardless of the other samples in the batch."""
    feature = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 3, 6, 6)).astype(np.float32))
    even = Clicks.of([(3, 3, True), (20, 20, False)])
    many = Clicks.of([(3, 3, True), (20, 20, False), (8, 8, True), (1, 20, True), (20, 1, True)])

    def chosen(clicks: ClickBatch, num: int) -> list[list[int]]:
        found = select_templates(feature.expand(num, -1, -1, -1), clicks, squared_distances(clicks, (24, 24)), 36)
        return [found.positive[0].tolist(), found.negative[0].tolist()]

    assert chosen(collate_clicks([even]), 1) == chosen(collate_clicks([even, many]), 2)
    # With more positive clicks, far from the others, the negative sign has a floor, and the order changes.
    assert chosen(collate_clicks([even]), 1) != chosen(collate_clicks([many]), 1)


def test_clicked_cells_repeat_in_order() -> None:
    clicks = collate_clicks([Clicks.of([(20, 4, True), (0, 8, True), (4, 4, False)]), Clicks.of([(0, 0, False)])])
    found = clicked_templates(clicks, (6, 6), 5)
    assert found.positive[0].tolist() == [2, 31, 2, 31, 2]
    assert found.negative[0].tolist() == [7] * 5
    assert found.positive_valid[:, 0].tolist() == [True, False]
    assert found.negative_valid[:, 0].tolist() == [True, True]
    assert found.negative[1].tolist() == [0] * 5
