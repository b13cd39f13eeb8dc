"""The SAM family: key lists, and whole sessions of the public predictors (tests/parity/make_sam.py made them)."""

from typing import Any

import numpy as np
import torch

from models.click_maps import collate_clicks
from models.fit import check_fit, shapes_of
from models.geometry import apply_size_rule, to_view, whole
from models.interaction import Clicks
from models.networks import create
from models.networks.sam import Sam, best_candidate
from models.published import load, translate
from models.resampling import resize, resize_pixels
from tests.parity.cases import Case, Deviations, Kind, whole_file
from tests.parity.weights import state_dict

TOLERANCE = 1e-4
"""Of logits, in their deviations."""


def replay_keys(case: Case) -> Deviations:
    with torch.device("meta"):
        network = create(case.content["network"])
    state = {key: torch.empty(shape, device="meta") for key, shape in case.content["sam_keys"]}
    ours, report = translate(network, state)
    check_fit("", shapes_of(network.state_dict()), shapes_of(ours))
    assert not report.missing_dead
    return {}


def deviation(ours: torch.Tensor, theirs: np.ndarray) -> float:
    reference = torch.from_numpy(theirs)
    assert ours.shape == reference.shape
    return float((ours - reference).abs().max() / reference.std())


def replay(case: Case) -> Deviations:
    content, arrays = case.content, case.arrays
    network = create(content["network"], **content["options"])
    assert isinstance(network, Sam)
    load(network, state_dict(content["keys"]))
    network.eval()
    image = torch.from_numpy(arrays["image"]).permute(2, 0, 1).float() / 255
    image_hw = (image.shape[1], image.shape[2])
    hw = apply_size_rule(network.traits.size, image_hw)
    worst: Deviations = {}

    def met(name: str, value: float) -> None:
        worst[name] = max(value, worst.get(name, 0.0))

    def moved(yx: Any) -> np.ndarray:
        return to_view(np.array(yx, np.float64).reshape(-1, 2), whole(image_hw), hw)

    fed_back: list[torch.Tensor] = []
    with torch.inference_mode():
        started = network.start(resize_pixels(image, hw, network.traits.resampling)[None])
        met("embedding", deviation(started[0][0, ::4], arrays["embedding"]))
        for number, fine in enumerate(reversed(started[1:])):
            met("fine maps", deviation(fine[0, ::8, ::4, ::4], arrays[f"fine{number}"]))
        for number, call in enumerate(content["prompt_calls"]):
            rows = np.array(call["clicks"], np.float64)
            clicks = collate_clicks([Clicks(moved(rows[:, :2]), rows[:, 2] > 0)])
            box = call.get("box")
            corners = None if box is None else np.array(box).reshape(2, 2)[:, ::-1]
            boxes = None if corners is None else torch.from_numpy(moved(corners)[:, ::-1].reshape(1, 4).copy()).float()
            low = fed_back[call["feed"]] if "feed" in call else None
            masks = network.decode(started, network.prompts(hw, clicks, boxes), low)
            first = torch.tensor([call.get("multimask", False)])
            chosen = network.choose(masks, first)
            shown = masks.low_logits[:, chosen]
            returned = masks.low_logits[0, 1:] if first else shown[0]
            quality = masks.quality[0, 1:] if first else masks.quality[0, chosen]
            met("low-resolution logits", deviation(network.fed_back(returned), arrays[f"low{number}"]))
            assert np.abs(quality.numpy() - arrays[f"quality{number}"]).max() < 1e-5
            assert not first or chosen == best_candidate(masks)
            full = resize(network.over_view(shown, hw)[0], image_hw, network.traits.resampling)
            met("logits", deviation(full[0, ::5, ::5], arrays[f"full{number}"]))
            answered, kept = network.prompt(started, hw, clicks, low, boxes=boxes)
            if bool(first) == ("feed" not in call and len(rows) == 1):
                assert torch.equal(answered, network.over_view(shown, hw))
            fed_back.append(network.fed_back(shown))
            assert kept.shape == fed_back[-1].shape
    assert max(worst.values()) <= TOLERANCE, worst
    return worst


KIND = Kind(
    stem=r"sam.*(?<!_keys)", fields=frozenset({"network", "prompt_calls", "keys"}), split=whole_file, replay=replay
)
KEYS = Kind(stem=r"sam.*_keys", fields=frozenset({"network", "sam_keys"}), split=whole_file, replay=replay_keys)
