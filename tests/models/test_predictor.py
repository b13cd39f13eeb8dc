from pathlib import Path

import numpy as np
import pytest

from models import checkpoint
from models.errors import InputError
from models.inference import prepare
from models.interaction import Clicks
from models.predictor import Predictor
from models.refinement import Flip
from tests.models.tiny import photo, tiny_network

HW = (100, 130)


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor(tiny_network(), "zoom_in_flip")


@pytest.fixture
def image() -> np.ndarray:
    return photo(HW)[0]


CLICKS = [(50, 60, True), (10.5, 20, False), (70, 80, True)]


def test_a_click_answers_with_a_probability_map(predictor: Predictor, image: np.ndarray) -> None:
    session = predictor.open(image)
    assert session.mask_prob is None
    assert not session.mask.any()
    assert session.mask.shape == HW
    prob = session.click(50, 60)
    assert prob.shape == HW
    assert prob.dtype == np.float32
    assert np.array_equal(session.mask, prob > 0.49)
    assert session.clicks == Clicks.of([(50, 60, True)])


def test_replays_are_bit_equal(predictor: Predictor, image: np.ndarray) -> None:
    one, other = predictor.open(image), predictor.open(image.copy())
    for click in CLICKS:
        assert np.array_equal(one.click(*click), other.click(*click))


def test_undo_and_redo(predictor: Predictor, image: np.ndarray) -> None:
    session = predictor.open(image)
    probs = [session.click(*click) for click in CLICKS]
    for expected in (probs[1], probs[0]):
        undone = session.undo()
        assert undone is not None
        assert np.array_equal(undone, expected)
    for click, expected in zip(CLICKS[1:], probs[1:], strict=True):
        assert np.array_equal(session.click(*click), expected)
    assert [session.undo() for _ in range(5)][-1] is None
    assert len(session.clicks) == 0


def test_sessions_do_not_touch_each_other(predictor: Predictor, image: np.ndarray) -> None:
    alone = predictor.open(image).click(*CLICKS[0])
    one, other = predictor.open(image), predictor.open(photo(HW, seed=5)[0])
    other.click(*CLICKS[1])
    assert np.array_equal(one.click(*CLICKS[0]), alone)


def test_given_mask_is_the_first_previous_mask(image: np.ndarray) -> None:
    predictor = Predictor(tiny_network(), "standard")
    mask = photo(HW)[1]
    session = predictor.open(image, mask)
    assert session.mask_prob is not None
    assert np.array_equal(session.mask, mask)
    assert set(np.unique(session.mask_prob)) == {0.0, 1.0}
    corrected = session.click(*CLICKS[0])
    assert not np.array_equal(corrected, predictor.open(image).click(*CLICKS[0]))
    session.undo()
    assert np.array_equal(session.mask, mask)


@pytest.mark.parametrize(
    "click",
    [(-1, 5), (5, -0.5), (100, 5), (99.5, 5), (5, 130), (float("nan"), 5), (5, float("inf")), ("5", 5), (True, 5)],
)
def test_a_click_outside_the_image_is_refused_and_changes_nothing(
    predictor: Predictor, image: np.ndarray, click: tuple
) -> None:
    session = predictor.open(image)
    with pytest.raises(InputError, match="outside the image") as caught:
        session.click(*click)
    assert isinstance(caught.value, ValueError)
    assert len(session.clicks) == 0


def test_clicks_at_the_corners_are_accepted(predictor: Predictor, image: np.ndarray) -> None:
    session = predictor.open(image)
    session.click(0, 0)
    session.click(99, 129, False)
    assert len(session.clicks) == 2


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros((4, 5), np.uint8), "uint8"),
        (np.zeros((4, 5, 1), np.uint8), "height, width, 3"),
        (np.zeros((4, 5, 4), np.uint8), "height, width, 3"),
        (np.zeros((4, 5, 3), np.float32), "float32"),
        (np.zeros((4, 5, 3), np.int64), "int64"),
        (np.zeros((0, 5, 3), np.uint8), "empty"),
        ("picture.jpg", "str"),
    ],
)
def test_invalid_image_is_refused(predictor: Predictor, given: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        predictor.open(given)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("mask", [np.zeros((5, 5), bool), np.zeros(HW, np.uint8), np.zeros(HW), [[True]]])
def test_invalid_mask_is_refused(predictor: Predictor, image: np.ndarray, mask) -> None:
    with pytest.raises(InputError, match="expected a bool array"):
        predictor.open(image, mask)


def test_a_checkpoint_brings_its_network_and_its_refinement(tmp_path: Path, image: np.ndarray) -> None:
    folder = checkpoint.save(tiny_network(), tmp_path / "c", refinement="flip")
    from_folder, from_network = Predictor(folder), Predictor(prepare(tiny_network()), "flip")
    assert from_folder.refinement == from_network.refinement
    assert from_folder.model_version != from_network.model_version
    assert np.array_equal(from_folder.open(image).click(50, 60), from_network.open(image).click(50, 60))
    assert Predictor(folder, "standard").refinement.part(Flip) is None


def test_a_predictor_without_a_checkpoint_or_refinement_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no checkpoint"):
        Predictor(tmp_path)
    with pytest.raises(InputError, match="did you mean 'flip'"):
        Predictor(tiny_network(), "flop")


def test_one_row_of_pixels_is_an_image(predictor: Predictor) -> None:
    session = predictor.open(np.zeros((1, 1, 3), np.uint8))
    assert session.click(0, 0).shape == (1, 1)
    session = predictor.open(photo((1, 300))[0])
    assert session.click(0, 299).shape == (1, 300)
