"""FocusCut's networks, stage by stage: click maps, backbone, ASPP, decoder, and the logits of both views."""

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models.click_maps import ClickBatch, collate_clicks
from models.interaction import Clicks
from models.networks import NETWORKS, create
from models.networks.base import Network
from tests.parity.cases import Case, Deviations, Kind, whole_file
from tests.parity.samples import check_keys, compare, fill, image_tensor, load_keys

STAGES = {
    "layer0_pre_pool": "backbone.layers.0.2",
    "layer1": "backbone.layers.1",
    "layer4": "backbone.layers.4",
    "aspp": "my_aspp",
    "decoder": "my_decoder",
    "lowres_logits": "pred_decoder",
}
"""Stages of the fixtures: our modules whose output they are."""


def _name(content: dict[str, Any]) -> str:
    return f"focuscut_{content['config']}"


def _not_built(case: Case) -> str | None:
    return None if _name(case.content) in NETWORKS else _name(case.content)


@lru_cache(maxsize=1)
def _network(name: str, keys: tuple[tuple[str, tuple[int, ...]], ...]) -> Network:
    """Build and fill; the newest stays, as the cases of one network follow each other."""
    return fill(create(name), list(keys))


def _clicks(arrays: Any) -> ClickBatch:
    rows = [(y, x, sign) for name, sign in (("in_pos_xy", True), ("in_neg_xy", False)) for x, y in arrays[name]]
    return collate_clicks([Clicks.of(rows)])


def _watched(network: Network, seen: dict[str, Tensor]) -> list[Any]:
    """Hooks that keep the click maps and what each stage gives."""

    def keep(stage: str) -> Any:
        # A copy: the next module may write in place.
        return lambda module, given, output: seen.update({stage: output.clone()})

    def keep_maps(module: nn.Module, given: tuple[Tensor, ...]) -> None:
        seen["click_map"] = given[0][:, 3:5].clone()

    hooks: list[Any] = [network.get_submodule("backbone").register_forward_pre_hook(keep_maps)]
    return hooks + [network.get_submodule(path).register_forward_hook(keep(stage)) for stage, path in STAGES.items()]


def _replay(case: Case) -> Deviations:
    arrays = case.arrays
    network = _network(_name(case.content), tuple(load_keys(case)))
    image = image_tensor(arrays["in_image"])
    prev_mask = torch.from_numpy(arrays["in_prev_mask"].astype(np.float32))[None, None]
    clicks = _clicks(arrays)
    swapped = ClickBatch(clicks.yx, ~clicks.positive, clicks.valid, clicks.first)
    seen: dict[str, Tensor] = {}
    with torch.inference_mode():
        hooks = _watched(network, seen)
        seen["logits"] = network(image, prev_mask, clicks).mask_logits
        for hook in hooks:
            hook.remove()
        seen["focus_logits_swapped_inputs"] = network.focus_view(image, 1 - prev_mask, swapped).mask_logits
    assert seen.keys() == case.content["samples"].keys()
    worst: Deviations = {}
    for stage, tensor in seen.items():
        compare(case, stage, tensor, worst)
    return worst


def _replay_keys(case: Case) -> Deviations:
    with torch.device("meta"):
        network = create(_name(case.content))
    check_keys(network, load_keys(case), case.content)
    # Nothing in these files is dead.
    assert sum(parameter.numel() for parameter in network.parameters()) == case.content["n_params"]
    return {}


KIND = Kind(
    stem=r"focuscut_resnet\d+_(?!keys$).*",
    fields=frozenset({"model", "samples", "stats", "tolerance", "config", "keys"}),
    split=whole_file,
    replay=_replay,
    not_built=_not_built,
)
KEYS = Kind(
    stem=r"focuscut_.*_keys",
    fields=frozenset({"config", "n_params", "keys"}),
    split=whole_file,
    replay=_replay_keys,
    not_built=_not_built,
)
