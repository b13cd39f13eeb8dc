import numpy as np
import pytest
import torch

from models import steps
from models.baselines import BASELINES
from models.interaction import Click
from models.predictor import open_state
from models.refinement.state import State

HW = (90, 130)


def two_colours(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: HW[0], : HW[1]]
    mask = ((y - 45) / 28) ** 2 + ((x - 60) / 38) ** 2 < 1
    image = np.where(mask[..., None], (200, 60, 50), (40, 90, 160)) + rng.integers(-12, 13, (*HW, 3))
    return image.astype(np.uint8), mask


def no_network(requests: list[object]) -> list[object]:
    raise AssertionError(f"a baseline asked for a network: {requests}")


def clicked(state: State, y: float, x: float, positive: bool) -> State:
    return steps.run(BASELINES["grabcut"]()(state.with_click(Click(y=y, x=x, positive=positive))), no_network)


def mask_of(state: State) -> np.ndarray:
    assert state.mask_prob is not None
    return state.mask_prob[0].numpy() > 0.49


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


def test_grabcut_finds_an_object_of_another_colour_by_one_click() -> None:
    image, truth = two_colours()
    state = clicked(open_state(image), 45, 60, True)
    assert state.mask_prob is not None
    assert state.mask_prob.shape == (1, *HW)
    assert state.mask_prob.dtype == torch.float32
    assert set(state.mask_prob.unique().tolist()) == {0.0, 1.0}
    assert iou(mask_of(state), truth) > 0.9


def test_negative_click_removes_its_pixel_from_the_mask() -> None:
    image, _ = two_colours()
    state = clicked(open_state(image), 45, 60, True)
    assert mask_of(state)[45, 80]
    state = clicked(state, 45, 80, False)
    assert not mask_of(state)[45, 80]
    assert mask_of(state)[45, 60]


def test_grabcut_repeats_and_masks_large_images_at_full_size() -> None:
    image, truth = two_colours()
    large, large_truth = (np.repeat(np.repeat(a, 4, 0), 4, 1) for a in (image, truth))
    first, again = (clicked(open_state(large), 180, 240, True) for _ in range(2))
    assert np.array_equal(mask_of(first), mask_of(again))
    assert mask_of(first).shape == large.shape[:2]
    assert iou(mask_of(first), large_truth) > 0.9


@pytest.mark.parametrize("positive", [True, False])
def test_grabcut_answers_a_corner_click_on_an_image_of_one_colour(positive: bool) -> None:
    state = clicked(open_state(np.full((*HW, 3), 128, np.uint8)), HW[0] - 1, HW[1] - 1, positive)
    assert mask_of(state)[-1, -1] == positive
