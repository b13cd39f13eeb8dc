"""FocusCut's close-ups for training, and the coarse masks they start from."""

from dataclasses import replace
from itertools import islice

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import InputError
from pipeline.clicks.random_clicks import RandomClicksConfig
from pipeline.clicks.walk_clicks import WalkClicksConfig
from pipeline.data.coarse_masks import CoarseMaskConfig, coarse_mask
from pipeline.data.config import DataConfig
from pipeline.data.copy_paste import CopyPasteConfig
from pipeline.data.focus_patches import FocusPatchConfig, border_pixels, draw_box, focus_columns, focus_patch
from pipeline.data.local import stream
from pipeline.data.rows import Row
from tests.pipeline.fakes import FakeReader, fake_sample
from tests.pipeline.test_click_laws import blobs

HW = (120, 160)
NOTHING = np.zeros(HW, bool)
CONFIG = FocusPatchConfig(size=96, coarse_size=48)
IMAGE = np.random.default_rng(0).integers(1, 256, (*HW, 3), dtype=np.uint8)


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return np.count_nonzero(a & b) / max(1, np.count_nonzero(a | b))


def ring() -> np.ndarray:
    mask = NOTHING.copy()
    mask[20:90, 30:110], mask[40:60, 50:90] = True, False
    return mask


def test_the_border_runs_around_holes_and_along_the_images_edge() -> None:
    mask = ring()
    expected = NOTHING.copy()
    expected[[20, 89], 30:110] = expected[20:90, 30] = expected[20:90, 109] = True
    expected[[39, 60], 50:90] = expected[40:60, 49] = expected[40:60, 90] = True
    assert np.array_equal(border_pixels(mask), np.argwhere(expected))
    assert len(border_pixels(~NOTHING)) == 2 * (120 + 160) - 4


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([0.0001, 0.02, 0.3, 1.0]))
def test_a_patch_shows_a_piece_of_border(seed: int, amount: float) -> None:
    mask, rng = blobs(seed % 50, HW, amount), np.random.default_rng(seed)
    box = draw_box(mask, rng, CONFIG)
    height, width = box.hw
    assert height == width
    radius = height // 2
    most = int(CONFIG.scale[1] * np.sqrt(mask.sum()))
    assert radius == CONFIG.min_radius or int(CONFIG.scale[0] * np.sqrt(mask.sum())) <= radius <= most
    centre = np.array([box.top + radius, box.left + radius])
    assert (centre >= 0).all()
    assert (centre < HW).all()
    nearest = np.abs(border_pixels(mask) - centre).max(axis=1).min()
    assert nearest <= CONFIG.shift * radius + 1


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([0.001, 0.05, 0.4]), st.booleans())
def test_a_patch_is_a_view_of_the_image(seed: int, amount: float, with_ignored: bool) -> None:
    mask = blobs(seed % 50, HW, amount)
    ignore = blobs(seed % 50 + 100, HW, 0.2) if with_ignored else NOTHING
    patch = focus_patch(IMAGE, mask, ignore, np.random.default_rng(seed), CONFIG, 8)
    assert (patch.image.shape, patch.image.dtype) == ((96, 96, 3), np.uint8)
    for each in (patch.mask, patch.ignore_mask, patch.prev_mask):
        assert (each.shape, each.dtype) == ((96, 96), np.bool_)
    pad = 200
    rows, columns = patch.box.slices()
    moved = np.s_[rows.start + pad : rows.stop + pad, columns.start + pad : columns.stop + pad]
    padded = np.pad(IMAGE, ((pad, pad), (pad, pad), (0, 0)))[moved]
    assert np.array_equal(patch.image, cv2.resize(padded, (96, 96)))
    for ours, whole in ((patch.mask, mask), (patch.ignore_mask, ignore)):
        cut = np.pad(whole, pad)[moved].astype(np.uint8)
        assert np.array_equal(ours, cv2.resize(cut, (96, 96), interpolation=cv2.INTER_NEAREST) > 0)
    outside = (patch.image == 0).all(axis=2)
    assert not (patch.prev_mask & cv2.erode(outside.astype(np.uint8), np.ones((5, 5))).astype(bool)).any()


def test_the_centre_is_clicked_first_and_clicks_have_their_sign() -> None:
    mask, signs = ring(), set()
    ignore = NOTHING.copy()
    ignore[:, :60] = True
    for seed in range(60):
        clicks = (patch := focus_patch(IMAGE, mask, ignore, np.random.default_rng(seed), CONFIG, 8)).clicks
        y, x = clicks.yx[clicks.valid].astype(int).T
        positive = np.flatnonzero(clicks.valid) < 8
        assert np.array_equal(patch.mask[y, x], positive)
        order = clicks.order[clicks.valid].tolist()
        assert sorted(order) == list(range(len(order)))
        first = order.index(0)
        assert (y[first], x[first]) == (48, 48)
        assert np.flatnonzero(clicks.valid)[first] in (0, 8)
        rest = np.arange(len(order)) != first
        assert not patch.ignore_mask[y[rest], x[rest]].any()
        assert (patch.image[y[rest], x[rest]] > 0).any(axis=1).all()
        assert positive.sum() <= 4
        assert (~positive).sum() <= 4
        signs.add(bool(positive[first]))
    assert signs == {True, False}


def test_few_rows_hold_the_centre_and_the_clicks_that_fit() -> None:
    for seed in range(40):
        clicks = focus_patch(IMAGE, ring(), NOTHING, np.random.default_rng(seed), CONFIG, 1).clicks
        assert clicks.valid.shape == (2,)
        assert 0 in clicks.order[clicks.valid]
        assert (48.0, 48.0) in map(tuple, clicks.yx[clicks.valid].tolist())


def test_coarse_masks_just_reach_the_limit_and_differ() -> None:
    mask = cv2.resize(ring().astype(np.uint8), (96, 96)) > 0
    made = [coarse_mask(mask, np.random.default_rng(seed), CoarseMaskConfig()) for seed in range(20)]
    assert all(each.dtype == np.bool_ and each.shape == mask.shape for each in made)
    ious = [iou(each, mask) for each in made]
    assert 0.3 < min(ious) <= max(ious) < 0.6
    assert np.median(ious) > 0.5
    assert len({each.tobytes() for each in made}) == 20
    grown = sum(np.count_nonzero(each & ~mask) for each in made)
    shrunk = sum(np.count_nonzero(mask & ~each) for each in made)
    assert min(grown, shrunk) > 0.1 * max(grown, shrunk)


def test_coarse_masks_stay_within_and_stop_in_time() -> None:
    mask = cv2.resize(ring().astype(np.uint8), (96, 96)) > 0
    room = np.zeros_like(mask)
    room[:, :60] = True
    good = mask & room
    for seed in range(10):
        made = coarse_mask(good, np.random.default_rng(seed), CoarseMaskConfig(), room)
        assert not (made & ~room).any()
        assert iou(made, good) < 0.6
    assert np.array_equal(coarse_mask(mask, np.random.default_rng(0), CoarseMaskConfig(max_rounds=0)), mask)
    slightly = coarse_mask(mask, np.random.default_rng(0), CoarseMaskConfig(max_rounds=1, max_iou=0))
    assert 0.8 < iou(slightly, mask) < 1


STREAM = DataConfig(
    crop_hw=(48, 56), window_size=4, min_object_area=20, clicks=RandomClicksConfig(max_clicks=6), focus=CONFIG
)
WITH_FOCUS = replace(STREAM, focus=replace(CONFIG, enabled=True))


def take(config: DataConfig, num: int, start: int = 0) -> list[Row]:
    return list(islice(stream(FakeReader(num_items=8), config, start), num))


def equal(a: Row, b: Row) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def test_the_stream_adds_focus_columns_and_keeps_all_others() -> None:
    for plain, row in zip(take(STREAM, 16), take(WITH_FOCUS, 16), strict=True):
        added = {name: (row[name].shape, row[name].dtype) for name in row.keys() - plain.keys()}
        mask = ((96, 96), np.uint8)
        assert added == {
            "focus_image": ((96, 96, 3), np.uint8),
            "focus_mask": mask,
            "focus_ignore_mask": mask,
            "focus_prev_mask": mask,
            "focus_clicks_yx": ((12, 2), np.float32),
            "focus_clicks_valid": ((12,), np.bool_),
            "focus_clicks_order": ((12,), np.int16),
        }
        assert equal(plain, {name: row[name] for name in plain})
        assert set(np.unique(row["focus_mask"])) == {0, 1}


def test_starting_anywhere_gives_the_same_close_ups() -> None:
    whole, tail = take(WITH_FOCUS, 14), take(WITH_FOCUS, 5, 9)
    assert all(equal(a, b) for a, b in zip(whole[9:], tail, strict=True))
    assert len({row["focus_prev_mask"].tobytes() for row in whole}) == 14


def test_a_close_up_is_of_the_rows_target() -> None:
    sample = fake_sample("s", 0, (90, 120))
    for ref in sample.objects:
        rng, again = np.random.default_rng(5), np.random.default_rng(5)
        row = focus_columns(sample, (ref.id,), rng, WITH_FOCUS.focus, 6)
        patch = focus_patch(sample.image, sample.object_mask(ref), sample.ignore_mask, again, CONFIG, 6)
        assert np.array_equal(row["focus_mask"], patch.mask)
        assert np.array_equal(row["focus_image"], patch.image)
    assert focus_columns(sample, ("a",), np.random.default_rng(0), STREAM.focus, 6) == {}


def test_rows_without_a_target_get_a_close_up_of_some_object() -> None:
    for row in take(replace(WITH_FOCUS, min_object_area=10**6), 8):
        assert not row["object_mask"].any()
        assert row["focus_mask"].any()


def test_copy_paste_and_close_ups_exclude_each_other() -> None:
    with pytest.raises(InputError, match=r"focus.enabled with copy_paste.recipe 'exclusive': expected 'none'"):
        replace(WITH_FOCUS, copy_paste=CopyPasteConfig(recipe="exclusive"))


@pytest.mark.parametrize(
    ("config", "values", "message"),
    [
        (FocusPatchConfig(), {"size": 4}, "focus.size is 4"),
        (FocusPatchConfig(), {"min_radius": 0}, "min_radius is 0"),
        (FocusPatchConfig(), {"scale": (0.5, 0.2)}, r"focus.scale is \(0.5, 0.2\)"),
        (FocusPatchConfig(), {"shift": 1.0}, "focus.shift is 1.0"),
        (CoarseMaskConfig(), {"max_iou": 2.0}, "max_iou is 2.0"),
        (CoarseMaskConfig(), {"num_rectangles": 0}, "num_rectangles is 0"),
        (CoarseMaskConfig(), {"kernels": (1, 9)}, r"kernels is \(1, 9\)"),
    ],
)
def test_wrong_settings_say_what_is_wrong(
    config: FocusPatchConfig | CoarseMaskConfig, values: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        replace(config, **values)  # pyright: ignore[reportArgumentType]


def test_the_papers_numbers_are_the_defaults() -> None:
    assert FocusPatchConfig().clicks == WalkClicksConfig(max_positive=3, max_negative=3)
    assert (FocusPatchConfig().scale, FocusPatchConfig().shift, FocusPatchConfig().size) == ((0.2, 0.8), 0.3, 384)
