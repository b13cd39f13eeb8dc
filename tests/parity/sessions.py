"""Sessions of the toy network: settings of the public predictor in our words, and a robot user against them."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from models import steps
from models.click_maps import ClickBatch
from models.interaction import Click
from models.networks.base import Traits
from models.predictor import open_state
from models.refinement import Cascade, Flip, Refinement, State, ZoomIn, build
from pipeline.clicks.oracle import squared_distances
from tests.parity.toy_network import ToyAnswer

ANY_SIZE = Traits(size=None, zoom_size=None)
ZOOM_NAMES = {
    "target_size": "size",
    "skip_clicks": "skip_clicks",
    "expansion_ratio": "expansion",
    "min_crop_size": "min_crop_size",
    "recompute_thresh_iou": "recompute_iou",
    "prob_thresh": "threshold",
}


def zoom_config(settings: dict[str, Any]) -> ZoomIn:
    """Translate the public zoom-in's settings; one we do not know is a KeyError."""
    values = {ZOOM_NAMES[name]: tuple(v) if isinstance(v, list) else v for name, v in settings.items()}
    return ZoomIn(**{"size": 400, **values})


def cascade_config(settings: dict[str, Any]) -> Cascade | None:
    """Translate the public cascade's settings: its step count includes the first pass."""
    if not settings.get("cascade_step"):
        return None
    return Cascade(
        steps=settings["cascade_step"] - 1,
        adaptive=settings["cascade_adaptive"],
        on_first_clicks=settings["cascade_clicks"],
    )


def refinement(zoom: dict[str, Any] | None, flip: bool, predictor: dict[str, Any]) -> Refinement:
    """Translate a whole public configuration."""
    known = {"cascade_step", "cascade_adaptive", "cascade_clicks", "max_size", "net_clicks_limit"}
    assert predictor.keys() <= known, f"settings of the predictor that are not translated: {predictor.keys() - known}"
    given = (Flip() if flip else None, None if zoom is None else zoom_config(zoom), cascade_config(predictor))
    return Refinement(
        tuple(part for part in given if part is not None),
        limit_longest_side=predictor.get("max_size"),
        max_network_clicks=predictor.get("net_clicks_limit"),
    )


@dataclass(frozen=True)
class Answered:
    """A state after a click and the forwards that all clicks up to it took."""

    state: State
    num_forwards: int

    @property
    def prob(self) -> np.ndarray:
        assert self.state.mask_prob is not None
        return self.state.mask_prob[0].numpy()

    def mask(self, threshold: float) -> np.ndarray:
        return self.prob > threshold


@dataclass
class ToySession:
    """The toy network on one image; states are remembered by their clicks, so that paths may share a beginning."""

    image: np.ndarray
    settings: Refinement
    known: dict[tuple[tuple[float, float, bool], ...], Answered] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.step = build(self.settings, ANY_SIZE)
        self.known[()] = Answered(open_state(self.image), 0)

    def after(self, clicks: list[tuple[float, float, bool]]) -> Answered:
        """State after these clicks."""
        key = tuple((float(y), float(x), bool(positive)) for y, x, positive in clicks)
        if key not in self.known:
            before = self.after(list(key[:-1]))
            y, x, positive = key[-1]
            answer = ToyAnswer()
            with torch.inference_mode():
                task = self.step(before.state.with_click(Click(y=y, x=x, positive=positive)))
                state = steps.run(task, answer, max_batch=2)
            self.known[key] = Answered(state, before.num_forwards + answer.num_forwards)
        return self.known[key]


def labels(gt: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(object mask, ignore mask) of a label map 1 / 0 / -1."""
    return gt == 1, gt == -1


def best_clicks(
    gt: np.ndarray, mask: np.ndarray, clicks: list[tuple[float, float, bool]]
) -> tuple[set[tuple[int, int, bool]], bool]:
    """All (y, x, positive) that are exact maxima of the robot user's rule, and whether both signs tie."""
    object_mask, ignore = labels(gt)
    errors = (object_mask & ~mask & ~ignore, ~object_mask & mask & ~ignore)
    missed, false_alarm = (squared_distances(error) for error in errors)
    for y, x, _ in clicks:
        missed[int(y), int(x)] = false_alarm[int(y), int(x)] = 0
    top, other = int(missed.max()), int(false_alarm.max())
    best: set[tuple[int, int, bool]] = set()
    if top >= other and top > 0:
        best |= {(int(y), int(x), True) for y, x in zip(*np.nonzero(missed == top), strict=True)}
    if other >= top and other > 0:
        best |= {(int(y), int(x), False) for y, x in zip(*np.nonzero(false_alarm == other), strict=True)}
    return best or {(0, 0, False)}, top == other > 0


def unpack(points: np.ndarray) -> ClickBatch:
    """Read the published packed layout (b, 2n, 3); rows of -1 are padding."""
    packed = torch.from_numpy(points)
    half = packed.shape[1] // 2
    positive = (torch.arange(2 * half) < half).expand(packed.shape[0], -1)
    return ClickBatch(packed[..., :2].float(), positive, ~(packed == -1).all(-1), packed[..., 2] == 0)
