"""FocusCut's whole click loop with a toy network: square zoom, focus range, progressive focus, paste-back."""

import importlib
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from models import steps
from models.click_maps import collate_clicks, gaussian_maps
from models.geometry import ShortSide, whole
from models.interaction import Click
from models.networks.base import IMAGE_MEAN, IMAGE_STD
from models.predictor import open_state
from models.refinement import FAST_RATIO, Focus, SquareZoom, State
from models.refinement.focus import focus
from models.refinement.patches import Masking
from models.refinement.progressive_focus import next_ratio
from models.refinement.square_zoom import square_zoom
from models.refinement.state import Step, segment
from models.steps import Segment, Steps
from tests.parity.cases import Case, Deviations, Kind, unpacked, whole_file
from tests.parity.samples import FIELDS

FOCUS_MODULE = importlib.import_module("models.refinement.focus")
PIXELS = 1e-3
"""Part of a mask's pixels that may differ."""
PROBABILITY = 2e-3
"""Of the last probabilities, away from the mask's edges."""


def answer(requests: list[Segment]) -> list[Tensor]:
    """Answer by the toy network that the fixtures' README defines."""
    return [toy_logits(request) for request in requests]


def toy_logits(request: Segment) -> Tensor:
    hw = (request.image.shape[1], request.image.shape[2])
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (IMAGE_MEAN, IMAGE_STD))
    grey = ((request.image - mean) / std).mean(0, keepdim=True)
    prev = F.avg_pool2d(request.prev_mask[None], 9, 1, 4)[0]
    near = gaussian_maps(collate_clicks([request.clicks]), hw, 90.0)[0]
    return 2.5 * (prev - 0.5) + 6 * (near[:1] - near[1:]) + 5 * grey


def _config(settings: dict[str, Any]) -> Focus:
    """Translate the public settings."""
    known = {"zoom_in": 0, "eval_resize_mode": 0, "eval_size": 384, "point_map_mode": "dist_src", "no_norm": False}
    known |= {"eval_flip": False, "pred_tsh": 0.5, "hr_size": 384}
    values = dict(settings["hr_val_setting"])
    assert {**settings, "hr_val_setting": None} == {**known, "hr_val_setting": None}
    assert values.pop("fv") == -1
    if values == {"pfs": -3.8, "if_fast": True}:
        return Focus(fixed_ratio=FAST_RATIO, iterative=False)
    assert values.pop("if_fast") is False
    return Focus(turns=values.pop("pfs"))


@dataclass
class Watched:
    """What a click loop does on the way: the masks of the whole view, and each ratio."""

    global_masks: list[np.ndarray] = field(default_factory=list)
    ratios: list[float | None] = field(default_factory=list)

    def around(self, step: Step) -> Step:
        def watching(state: State) -> Steps[State]:
            answered = yield from step(state)
            self.global_masks.append(_mask(answered))
            return answered

        return watching

    def ratio(self, *given: Any, **settings: Any) -> float | None:
        self.ratios.append(next_ratio(*given, **settings))
        return self.ratios[-1]


def _mask(state: State) -> np.ndarray:
    assert state.mask_prob is not None
    return state.mask_prob[0].numpy() > 0.5


def _replay(case: Case) -> Deviations:
    arrays, content, watched = case.arrays, case.content, Watched()
    hw, size = tuple(content["shape"]), ShortSide(384, truncate=True)
    masking = Masking(threshold=0.5, binary=True)
    looking = watched.around(square_zoom(segment, SquareZoom(), masking, size=size, zoom_size=size))
    step = focus(looking, segment, _config(content["settings"]), masking, hw=(384, 384))
    state = open_state(arrays["in_image"])
    worst = {"global mask": 0.0, "final mask": 0.0, "ratio": 0.0}
    with torch.inference_mode(), mock.patch.object(FOCUS_MODULE, "next_ratio", watched.ratio):
        for number, ((x, y, positive), trace) in enumerate(
            zip(arrays["in_clicks"].tolist(), content["trace"], strict=True), 1
        ):
            before, watched.ratios = state, []
            state = steps.run(step(before.with_click(Click(y=y, x=x, positive=bool(positive)))), answer, max_batch=4)
            _check_trace(before, state, watched.ratios, trace, worst)
            for name, mask in (("global", watched.global_masks[-1]), ("final", _mask(state))):
                off = float((mask != unpacked(arrays[f"out_{name}_mask_click{number}"], hw)).mean())
                assert off <= PIXELS, f"click {number}: {off:.2%} of the {name} mask's pixels differ"
                worst[f"{name} mask"] = max(worst[f"{name} mask"], off)
    worst["probability"] = _probability(case, state)
    return worst


def _check_trace(
    before: State, state: State, ratios: list[float | None], trace: dict[str, Any], worst: Deviations
) -> None:
    top, bottom, left, right = state.zoom_box or whole(state.hw)
    assert [left, top, right - left + 1, bottom - top + 1] == trace["crop_bbox_xywh"]
    if trace["focus_r_and_judgement"] is None:
        assert state.counts.focus_distance == 0
    else:
        accepted = len(state.focus_clicks) > len(before.focus_clicks)
        assert [state.counts.focus_distance, accepted] == trace["focus_r_and_judgement"]
    expected = trace["pfs_ratios"]
    if state.counts.focus_views == before.counts.focus_views or expected:
        assert [ratio is None for ratio in ratios] == [ratio is None for ratio in expected]
    else:
        assert not ratios, "a fixed ratio, and one was computed"
    for ratio, wanted in zip(ratios, expected, strict=True):
        if ratio is not None:
            assert abs(ratio - wanted) <= 1e-6
            worst["ratio"] = max(worst["ratio"], abs(ratio - wanted))


def _probability(case: Case, state: State) -> float:
    """Worst deviation of the last probabilities outside a band of 2 pixels around the mask's edges."""
    assert state.mask_prob is not None
    stride_y, stride_x = case.content["samples"]["final_prob_last_click"]
    mask = torch.from_numpy(_mask(state))[None].float()
    near_edge = F.max_pool2d(mask, 5, 1, 2) != -F.max_pool2d(-mask, 5, 1, 2)
    off = np.abs(state.mask_prob[0].numpy()[::stride_y, ::stride_x] - case.arrays["out_final_prob_last_click"])
    worst = float(off[~near_edge[0].numpy()[::stride_y, ::stride_x]].max())
    assert worst <= PROBABILITY
    return worst


KIND = Kind(stem=r"focuscut_toy_.*", fields=FIELDS, split=whole_file, replay=_replay)
