"""The preview: every mode is found and shown, and drawings are in their place."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from models.storage import Storage
from pipeline.data.config import DataConfig
from pipeline.data.copy_paste import CopyPasteConfig, modes_of
from pipeline.data.local import stream
from pipeline.data.preview import Examples, find_examples
from pipeline.drawing.overlays import IGNORED, NEGATIVE, POSITIVE, TARGET, objects_overlay, training_overlay
from pipeline.drawing.sheet import CARD, Group, Shot, draw_sheet
from pipeline.pages.preview_page import MODES, write_preview
from tests.pipeline.fakes import FakeReader, fake_sample

READER = FakeReader(num_items=20)


def config(**copy_paste: float | str) -> DataConfig:
    return DataConfig(
        crop_hw=(48, 56),
        window_size=10,
        min_object_area=20,
        copy_paste=CopyPasteConfig(**copy_paste),  # pyright: ignore[reportArgumentType]
    )


def find(data: DataConfig, wanted: int = 3, max_windows: int = 40) -> Examples:
    return find_examples(READER, READER.items(), data, wanted=wanted, max_windows=max_windows)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"recipe": "none"}, "none"),
        ({"recipe": "exclusive"}, "none simple union exclusion mixing"),
        ({"recipe": "exclusive", "prob": 1.0, "union_weight": 0.0}, "simple exclusion mixing"),
        ({"recipe": "exclusive", "prob": 0.0}, "none"),
        ({"recipe": "three_gates"}, "none simple exclusion union distract mixing several"),
        ({"recipe": "three_gates", "prob": 0.0}, "none mixing"),
        ({"recipe": "three_gates", "mix_prob": 0.0}, "none simple exclusion union distract several"),
        ({"recipe": "three_gates", "prob": 0.0, "mix_prob": 0.0}, "none"),
    ],
)
def test_exactly_the_possible_modes_are_found(given: dict[str, float | str], expected: str) -> None:
    data = config(**given)
    assert sorted(modes_of(data.copy_paste)) == sorted(expected.split())
    examples = find(data)
    assert set(expected.split()) <= set(examples.by_mode)
    # "none" also counts samples for which no partner had a fitting object.
    assert set(examples.by_mode) - {"none"} <= set(expected.split())
    for mode in expected.split():
        rows = examples.by_mode[mode]
        assert len(rows) == 3
        for row in rows:
            assert row["mode"].count("+") > 0 if mode == "several" else row["mode"] == ("" if mode == "none" else mode)


def test_examples_are_rows_of_the_stream_from_the_epoch_on() -> None:
    data = config(recipe="exclusive")
    examples = find_examples(READER, READER.items(), data, epoch=2, wanted=2)
    rows = {int(row["index"]): row for row, _ in zip(stream(READER, data, 40), range(examples.num_rows), strict=False)}
    found = [row for group in examples.by_mode.values() for row in group]
    assert len(found) == 10
    assert all(np.array_equal(row["image"], rows[int(row["index"])]["image"]) for row in found)
    simple = sum(row["mode"] == "simple" for row in rows.values())
    assert examples.caption("simple") == f"{simple} of {len(rows)} samples"


def test_rare_modes_are_searched_for_and_missing_ones_reported() -> None:
    rare = config(recipe="exclusive", union_weight=0.02)
    examples = find(rare, wanted=2, max_windows=60)
    assert examples.num_windows > 5
    assert len(examples.by_mode["union"]) == 2
    never = find(config(recipe="exclusive", union_weight=1e-9), wanted=2, max_windows=4)
    assert (never.num_windows, never.by_mode["union"]) == (4, [])
    assert never.caption("union") == "0 of 40 samples: none found in 4 windows, 2 wanted"


def test_a_mode_that_is_never_alone_is_shown_in_combinations() -> None:
    examples = find(config(recipe="three_gates", prob=1.0, mix_prob=1.0), wanted=2, max_windows=6)
    assert all(row["mode"] == "simple+distract+mixing" for row in examples.by_mode["distract"])
    assert len(examples.by_mode["distract"]) == 2
    assert examples.counts["several"] == examples.counts["simple"] == examples.num_rows


def near(picture: np.ndarray, colour: tuple[int, int, int], tolerance: int = 12) -> np.ndarray:
    return (np.abs(picture.astype(int) - colour) <= tolerance).all(axis=-1)


def test_a_training_picture_has_the_outline_the_hatch_and_the_clicks() -> None:
    mask, ignore = np.zeros((2, 80, 100), np.uint8)
    mask[20:60, 30:80] = 1
    ignore[:12] = 1
    row = {
        "image": np.full((80, 100, 3), 128, np.uint8),
        "object_mask": mask,
        "ignore_mask": ignore,
        "clicks_yx": np.array([[40, 50], [-1, -1], [70, 10], [30, 95]], np.float32),
        "clicks_valid": np.array([True, False, True, True]),
    }
    picture = training_overlay(row)
    assert picture.shape == (80, 100, 3)
    assert near(picture[40, 50], POSITIVE)
    assert near(picture[70, 10], NEGATIVE)
    assert near(picture[30, 95], NEGATIVE)
    outline = near(picture, TARGET)
    ys, xs = np.nonzero(outline)
    assert outline.sum() > 150
    assert (abs(ys.min() - 20) <= 1, abs(ys.max() - 59) <= 1) == (True, True)
    assert (abs(xs.min() - 30) <= 1, abs(xs.max() - 79) <= 1) == (True, True)
    assert not near(picture[25:35, 35:45], TARGET).any()
    striped = near(picture[:12], IGNORED, 30)
    assert 0.2 < striped.mean() < 0.5
    np.testing.assert_array_equal(picture[66:68, 40:60], row["image"][66:68, 40:60])
    assert (row["image"] == 128).all()


def test_all_objects_of_an_image_are_outlined() -> None:
    sample = fake_sample("a", 0, (200, 300))
    picture = objects_overlay(sample, longest_side=150)
    assert picture.shape == (100, 150, 3)
    from pipeline.drawing.overlays import OBJECT_COLOURS

    assert all(near(picture, colour, 40).sum() > 20 for colour in OBJECT_COLOURS[:3])
    assert objects_overlay(fake_sample("a", 0), longest_side=150).shape == (60, 80, 3)


def test_a_sheet_holds_every_picture_at_its_size() -> None:
    shots = [Shot(picture=np.full((200, 220, 3), 10 * n, np.uint8), lines=("mode", "x" * 300)) for n in range(8)]
    groups = [Group(heading="a", note="n" * 900, shots=shots[:7]), Group(heading="b", note="", shots=[])]
    groups.append(Group(heading="c", note="few", shots=shots[7:]))
    sheet = draw_sheet(groups, columns=3)
    assert sheet.shape[1] < 3 * 240 + 60
    for shot in shots:
        value = int(shot.picture[0, 0, 0])
        assert np.all(sheet == value, axis=-1).sum() >= 200 * 220
    assert near(sheet, CARD, 0).any()
    assert draw_sheet([Group(heading="a", note="", shots=[])]).ndim == 3


def test_sheet_and_page_show_each_mode(tmp_path: Path) -> None:
    data = config(recipe="three_gates", prob=0.6)
    examples = find(data)
    names = write_preview(Storage(str(tmp_path)), examples, data, "Fakes & more")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    page = (tmp_path / "preview.html").read_text()
    for mode, rows in examples.by_mode.items():
        assert f"<h2>{mode}</h2>" in page
        assert MODES[mode].replace("'", "&#39;") in page
        for row in rows:
            assert f"item {row['item']}" in page
            assert row["partner"] in page
    assert page.count("<img") == sum(len(rows) for rows in examples.by_mode.values()) == 21
    assert "Fakes &amp; more" in page
    sheet = cv2.imread(str(tmp_path / "preview.jpg"), cv2.IMREAD_COLOR_RGB)
    assert sheet is not None
    # 21 pictures, outlined except for those without an object.
    assert near(sheet, TARGET, 60).sum() > 20 * 21
