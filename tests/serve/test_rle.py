import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco

from models import rle
from models.errors import InputError
from serve.core.masks import bbox_xywh


def masks() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    found = [np.zeros((5, 7), bool), np.ones((5, 7), bool), np.ones((1, 1), bool), np.eye(9, dtype=bool)]
    for _ in range(200):
        height, width = rng.integers(1, 50, 2)
        found.append(rng.random((height, width)) < rng.random())
    big = np.zeros((900, 1200), bool)
    big[200:800, 300:1100] = True
    return [*found, big]


def test_the_text_is_that_of_pycocotools() -> None:
    for mask in masks():
        theirs = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
        assert rle.encode(mask) == {"size": list(mask.shape), "counts": theirs["counts"].decode()}


def test_decoding_inverts_encoding() -> None:
    for mask in masks():
        np.testing.assert_array_equal(rle.decode(rle.encode(mask)), mask)
        runs = {"size": list(mask.shape), "counts": rle.runs_of(mask).tolist()}
        np.testing.assert_array_equal(rle.decode(runs), mask)


def test_area_and_box_need_no_mask() -> None:
    for mask in masks():
        theirs = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
        area, box = rle.area_and_box(rle.runs_of(mask), mask.shape[0])
        assert (area, box) == (int(coco.area(theirs)), coco.toBbox(theirs).astype(int).tolist() if area else [0] * 4)
        assert box == bbox_xywh(mask)


def test_area_and_box_of_runs_without_gaps() -> None:
    runs = np.array([3, 2, 0, 2, 5])
    mask = rle.mask_of(runs, (4, 3))
    assert rle.area_and_box(runs, 4) == (4, bbox_xywh(mask))


@pytest.mark.check(9)
@pytest.mark.parametrize(
    "document",
    [
        {"size": [4, 6], "counts": "92204O"},
        {"size": [4, 5], "counts": "92204O0"},
        {"size": [4, 6], "counts": "o" * 100},
        {"size": [4, 6], "counts": "\x00"},
        {"size": [4, 6], "counts": "é"},
        {"size": [4, 6], "counts": ""},
        {"size": [4, 6], "counts": None},
        {"size": [4, 6], "counts": [25, -1]},
        {"size": [4, 6], "counts": [10**30]},
        {"size": [4, 6], "counts": [True] * 24},
        {"size": [0, 6], "counts": ""},
        {"size": [4], "counts": "0"},
        {"size": "46", "counts": "0"},
        {"size": [10**6, 10**6], "counts": "0"},
        {"size": [4.0, 6], "counts": "0"},
        {},
    ],
)
def test_malformed_documents_are_refused(document: dict[str, object]) -> None:
    with pytest.raises(InputError):
        rle.decode(document)


def test_the_size_must_be_the_image() -> None:
    with pytest.raises(InputError, match="expected the image's"):
        rle.decode(rle.encode(np.ones((4, 6), bool)), (6, 4))


@pytest.mark.check(9)
@given(st.text(st.characters(min_codepoint=40, max_codepoint=120), max_size=40))
def test_any_text_is_a_mask_or_refused(text: str) -> None:
    try:
        mask = rle.decode({"size": [4, 6], "counts": text})
    except InputError:
        return
    assert mask.shape == (4, 6)
    assert rle.encode(mask)["size"] == [4, 6]
