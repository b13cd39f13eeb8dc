import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.geometry import Box, apply_size_rule, box_iou, contains, expand, to_view, whole


@st.composite
def boxes(draw: st.DrawFn, hw: tuple[int, int] = (60, 80)) -> Box:
    rows = sorted(draw(st.tuples(*[st.integers(0, hw[0] - 1)] * 2)))
    columns = sorted(draw(st.tuples(*[st.integers(0, hw[1] - 1)] * 2)))
    return Box(*rows, *columns)


sizes = st.tuples(st.integers(1, 300), st.integers(1, 300))


@given(boxes())
def test_cutting_out_and_pasting_back_is_the_identity(box: Box) -> None:
    image = np.arange(60 * 80).reshape(60, 80)
    crop = image[box.slices()]
    assert crop.shape == box.hw
    pasted = np.where(np.isin(image, crop), -1, image)
    pasted[box.slices()] = crop
    assert np.array_equal(pasted, image)


@given(boxes(), st.floats(1, 5), st.integers(1, 200))
def test_an_expanded_box_stays_inside_the_image_and_covers_the_object(box: Box, expansion: float, least: int) -> None:
    grown = expand(box, expansion, least, (60, 80))
    assert 0 <= grown.top <= box.top <= box.bottom <= grown.bottom <= 59
    assert 0 <= grown.left <= box.left <= box.right <= grown.right <= 79


@given(boxes())
def test_an_expanded_box_has_the_least_side_where_the_image_allows(box: Box) -> None:
    grown = expand(box, 1.0, 20, (10_000, 10_000))
    for side, old, start in zip(grown.hw, box.hw, (grown.top, grown.left), strict=True):
        assert side >= min(max(old, 20), start + max(old, 20) // 2)


@given(boxes(), boxes())
def test_box_iou_is_symmetric_and_between_0_and_1(a: Box, b: Box) -> None:
    assert box_iou(a, b) == box_iou(b, a)
    assert 0 <= box_iou(a, b) <= 1
    assert (box_iou(a, b) == 1) == (a == b)


def test_box_iou_is_the_product_of_the_sides() -> None:
    assert box_iou(Box(0, 9, 0, 9), Box(5, 14, 0, 4)) == pytest.approx((5 / 15) * (5 / 10))
    assert box_iou(Box(0, 4, 0, 4), Box(5, 9, 0, 4)) == 0


@given(sizes, st.integers(1, 500))
def test_an_int_size_rule_sets_the_longest_side(hw: tuple[int, int], longest: int) -> None:
    height, width = apply_size_rule(longest, hw)
    assert max(height, width) == longest
    assert min(height, width) >= 1
    assert abs(height * hw[1] - width * hw[0]) <= max(hw)


@given(sizes)
def test_other_size_rules(hw: tuple[int, int]) -> None:
    assert apply_size_rule(None, hw) == hw
    assert apply_size_rule((448, 448), hw) == (448, 448)


@given(boxes(), sizes)
def test_view_coordinates_run_from_the_boxs_corner_in_proportion(box: Box, view_hw: tuple[int, int]) -> None:
    ends = np.array([[box.top, box.left], [box.bottom + 1, box.right + 1]], float)
    np.testing.assert_allclose(to_view(ends, box, view_hw), [[0, 0], view_hw], atol=1e-9)


@given(boxes())
def test_the_whole_image_at_its_own_size_maps_clicks_to_themselves(box: Box) -> None:
    yx = np.array([[box.top, box.left], [box.bottom, box.right]], float)
    assert np.array_equal(to_view(yx, whole((60, 80)), (60, 80)), yx)


def test_the_far_edges_of_a_box_count_as_outside() -> None:
    box = Box(2, 8, 3, 9)
    assert contains(box, np.array([[2, 3], [7, 8]]))
    assert not contains(box, np.array([[8, 5]]))
    assert not contains(box, np.array([[5, 9]]))
    assert contains(box, np.zeros((0, 2)))
