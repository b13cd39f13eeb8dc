"""Zoom-in: boxes and coordinates case by case, and sequences of clicks with a synthetic answer."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch

from models.geometry import Box, apply_size_rule, box_iou, contains, to_view
from models.interaction import Click, Clicks
from models.refinement import State, ZoomIn
from models.refinement.state import segment
from models.refinement.zoom_in import needs_second_look, object_box, zoom_in
from models.steps import advance
from tests.parity.cases import Case, Deviations, Kind
from tests.parity.sessions import zoom_config

TOLERANCE = 1e-5


def split(content: dict[str, Any]) -> Iterable[tuple[Any, Any]]:
    yield from enumerate(content["cases"])
    yield from ((f"sequence{i}", record) for i, record in enumerate(content.get("sequences", [])))


def replay(case: Case) -> Deviations:
    return _sequence(case) if isinstance(case.key, str) else _static(case)


def _static(case: Case) -> Deviations:
    record = case.record
    hw = (record["H"], record["W"])
    mask = case.unpacked("mask", hw)
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    assert [rows[0], rows[-1], columns[0], columns[-1]] == record["mask_bbox"], "the fixture's mask was misread"

    clicks = Clicks.of(record["clicks"])
    target = record["target_size"]
    size = tuple(target) if isinstance(target, list) else target
    config = ZoomIn(expansion=record["expansion_ratio"], min_crop_size=record["min_crop"])
    box = object_box(
        config, State(image=torch.zeros(3, *hw), clicks=clicks, mask_prob=torch.from_numpy(mask)[None].float())
    )
    assert box is not None
    assert list(box) == record["roi"]
    crop_hw = apply_size_rule(size, box.hw)
    assert list(crop_hw) == record["crop_hw"]
    mapped = to_view(clicks.yx, box, crop_hw)
    expected = np.array(record["clicks_in_crop"], float).reshape(-1, 2)
    off = float(np.abs(mapped - expected).max(initial=0) / max(1.0, np.abs(expected).max(initial=0)))
    assert off <= TOLERANCE
    other = Box(*record["other_roi"])
    iou_off = abs(box_iou(box, other) - record["bbox_iou"])
    assert iou_off <= TOLERANCE
    assert contains(other, clicks.yx[clicks.positive]) == record["roi_contains_clicks"]
    return {"click": off, "box IoU": iou_off}


def _synthetic_logits(step: int, hw: tuple[int, int]) -> tuple[torch.Tensor, np.ndarray]:
    """Logits (1, h, w), float64 so that the sigmoid gives the probabilities back, and those probabilities."""
    y, x = np.mgrid[: hw[0], : hw[1]]
    prob = (0.42 - 0.05 * step - np.sqrt((y / hw[0] - 0.5) ** 2 + (x / hw[1] - 0.5) ** 2)) * 8 + 0.5
    prob = prob.clip(0, 1).astype(np.float32)
    return torch.logit(torch.from_numpy(prob.astype(np.float64)))[None], prob


def _sequence(case: Case) -> Deviations:
    record = case.record
    hw = (record["H"], record["W"])
    small = case.arrays[f"s{case.key.removeprefix('sequence')}_image"][0, 0]
    image = torch.from_numpy(small.repeat(20, 0).repeat(20, 1)[: hw[0], : hw[1]]).float()
    config = zoom_config(record["params"])
    one_step = zoom_in(segment, config, size=None, zoom_size=None)
    state = State(image=image.expand(3, *hw).contiguous())
    worst = {"click": 0.0, "crop mean": 0.0, "mask sum": 0.0}
    for number, expected in enumerate(record["steps"]):
        y, x, positive = expected["click"]
        before = state
        running = one_step(before.with_click(Click(y=y, x=x, positive=positive)))
        done, requests = advance(running, None)
        assert not done
        (request,) = requests
        assert list(request.image.shape[1:]) == expected["crop_hw"]
        done, answered = advance(running, (_synthetic_logits(number, tuple(expected["crop_hw"]))[0],))
        # Where the public code says that a second look is due, ours has already asked for it.
        assert done != expected["possible_recalc"]
        assert done, "a sequence with a second look: the fixture does not say what followed"
        assert not needs_second_look(config, answered)
        state = answered
        box = None if state.zoom_box is None else list(state.zoom_box)
        assert box == expected["roi"]
        if state.zoom_box != before.zoom_box:
            assert expected["image_changed"]
        mapped, wanted = request.clicks.yx, np.array(expected["clicks_in_crop"]).reshape(-1, 2)
        prob = state.mask_prob
        assert prob is not None
        assert list(prob.shape[1:]) == expected["full_shape"]
        assert int((prob > 0.5).sum()) == expected["full_over_half"]
        found = {
            "click": float(np.abs(mapped[-len(wanted) :] - wanted).max() / max(1.0, np.abs(wanted).max())),
            "crop mean": abs(float(request.image[0].double().mean()) - expected["crop_mean"]),
            "mask sum": abs(float(prob.double().sum()) - expected["full_sum"]) / max(1.0, expected["full_sum"]),
        }
        for quantity, value in found.items():
            assert value <= TOLERANCE, f"step {number}: {quantity} is off by {value:.2e}"
            worst[quantity] = max(worst[quantity], value)
    return worst


KIND = Kind(stem="zoomin.*", fields=frozenset({"sequences"}), split=split, replay=replay)
