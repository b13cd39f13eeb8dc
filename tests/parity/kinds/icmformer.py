"""iCMFormer: key lists, and whole networks with what their parts answer on the way."""

import re

import torch
from torch import Tensor, nn

from models.networks import create
from models.networks.base import Network
from models.networks.icmformer_swin import ICMFormerSwin
from tests.parity.cases import Case, Deviations, Kind, unpacked, whole_file
from tests.parity.samples import check_keys, compare, fill, image_tensor, load_keys
from tests.parity.sessions import unpack

NETWORK_OF = {
    "vitb": "icmformer_vit_base",
    "vitl": "icmformer_vit_large",
    "vith": "icmformer_vit_huge",
    "swinb": "icmformer_swin_base",
}
PREV_MASK_PROB = 0.9
"""Value of a packed previous mask where its bit is set."""


def replay_keys(case: Case) -> Deviations:
    with torch.device("meta"):
        network = create(NETWORK_OF[case.content["config"]])
    check_keys(network, load_keys(case), case.content)
    return {}


def tapped(network: Network, name: str) -> tuple[nn.Module, int] | None:
    """(module, which of its calls) whose output a fixture calls `name`; None for an inner tensor we do not know."""
    if match := re.fullmatch(r"cross(\d+|_last)_tokens.*", name):
        number = -1 if match[1] == "_last" else int(match[1])
        return list(network.get_submodule("backbone.blocks2").children())[number], 0
    if match := re.fullmatch(r"neck(\d)", name):
        level = int(match[1])
        swin = isinstance(network, ICMFormerSwin)  # whose levels are the normed outputs of its stages
        return network.get_submodule(f"backbone.norm{level}" if swin else f"neck.down_{4 * 2**level}"), 0
    if name == "lowres_logits":
        return network.get_submodule("head"), 0
    depth = getattr(network.config, "depth", 0)
    calls = {"s1_image_tokens": (depth // 2, 0), "s1_click_tokens": (depth // 2, 1), "s2_tokens": (depth, 0)}
    if not depth or name not in calls:
        return None
    number, call = calls[name]
    return network.get_submodule(f"backbone.blocks.{number - 1}"), call


def replay(case: Case) -> Deviations:
    content, arrays = case.content, case.arrays
    image = image_tensor(arrays["in_image"])
    hw = (image.shape[2], image.shape[3])
    if "in_prev_mask_packed" in arrays:
        bits = arrays["in_prev_mask_packed"]
        prev_mask = PREV_MASK_PROB * torch.from_numpy(unpacked(bits, (len(image) * hw[0], hw[1]))).float()
        prev_mask = prev_mask.view(len(image), 1, *hw)
    else:
        prev_mask = torch.from_numpy(arrays["in_prev_mask"]).float().view(len(image), 1, *hw)
    name = NETWORK_OF[content["config"]]
    network = fill(create(name, **({"input_hw": hw} if "_vit_" in name else {})), load_keys(case))

    answers: dict[nn.Module, list[Tensor]] = {}
    known = {name: tapped(network, name) for name in content["stats"] if name != "logits"}
    taps = {name: tap for name, tap in known.items() if tap is not None}
    for module, _ in taps.values():
        if module not in answers:
            answers[module] = []
            module.register_forward_hook(lambda module, _, output: answers[module].append(output))
    with torch.inference_mode():
        logits = network(image, prev_mask, unpack(arrays["in_points"])).mask_logits
    worst: Deviations = {}
    compare(case, "logits", logits, worst)
    for name, (module, call) in taps.items():
        answer = answers[module][call]
        compare(case, name, answer.permute(0, 3, 1, 2) if isinstance(module, nn.LayerNorm) else answer, worst)
    # The logits are held; an inner tensor under a name that we do not know is reported, not passed over.
    return worst | {f"{name}: no such place here": float("nan") for name, tap in known.items() if tap is None}


KIND = Kind(
    stem=r"icmformer(?!.*_keys$).*",
    fields=frozenset({"model", "samples", "stats", "tolerance"}),
    split=whole_file,
    replay=replay,
)
KEYS = Kind(
    stem=r"icmformer.*_keys", fields=frozenset({"config", "n_params", "keys"}), split=whole_file, replay=replay_keys
)
