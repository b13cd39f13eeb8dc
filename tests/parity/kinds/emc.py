"""EMC-Click: both halves through their cache, template selection, losses."""

import re
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from models.click_maps import squared_distances
from models.losses import binary_cross_entropy, normalized_focal_loss
from models.networks import NETWORKS, create
from models.networks.base import SplitNetwork, upsample
from models.networks.correction import CorrectionConfig, MaskCorrection
from models.networks.templates import select_templates
from tests.parity.cases import Case, Deviations, Kind, whole_file
from tests.parity.kinds.losses import published_focal
from tests.parity.samples import check_keys, compare, fill, image_tensor, load_keys
from tests.parity.sessions import unpack
from tests.parity.weights import tensor_for

SWAP_GAP = 5e-6
"""Neighbouring templates whose scores are this close may change places."""


def network_name(content: dict[str, Any]) -> str:
    match = re.fullmatch(r"(hr|seg)(b?\d+s?)", content["config"])
    assert match is not None, f"no network {content['config']!r} is known"
    return f"emc_{'hrnet' if match[1] == 'hr' else 'segformer_'}{match[2]}"


def not_built(case: Case) -> str | None:
    name = network_name(case.content)
    return None if name in NETWORKS else name


def replay_keys(case: Case) -> Deviations:
    with torch.device("meta"):
        network: Any = create(network_name(case.content))
    keys = load_keys(case)
    check_keys(network, keys, case.content)
    assert sum(p.numel() for p in network.refiner.parameters()) == case.content["n_params_refiner"]
    return {}


def open_network(case: Case) -> SplitNetwork:
    content = case.content
    key_file = content.get("keys", f"emc_{content['config']}_keys.json")
    keys = load_keys(Case(path=case.path, content={"keys": key_file}, key=case.key, record=None))
    network = fill(create(network_name(content)), keys)
    assert isinstance(network, SplitNetwork)
    return network


class Watched:
    """Template cells that the correction chose, call by call."""

    def __init__(self, refiner: Any) -> None:
        self.chosen: list[tuple[Tensor, Tensor]] = []
        original = refiner.templates

        def templates(*args: Any) -> Any:
            found = original(*args)
            self.chosen.append((found.positive, found.negative))
            return found

        refiner.templates = templates


def check_cells(ours: Tensor, theirs: np.ndarray, gap: float) -> None:
    """Cells in the same order, or neighbours exchanged where the case says that scores are that close."""
    found = ours.numpy()
    if np.array_equal(found, theirs):
        return
    assert gap < SWAP_GAP, f"templates differ at {int((found != theirs).sum())} places"
    assert [sorted(row) for row in found.tolist()] == [sorted(row) for row in theirs.tolist()]


def replay_cached(case: Case) -> Deviations:
    network, arrays, content = open_network(case), case.arrays, case.content
    watched = Watched(network.refiner)
    image = image_tensor(arrays["in_image"])
    hw = (image.shape[2], image.shape[3])
    worst: Deviations = {}
    heavy: list[Tensor] = []
    network.get_submodule("refiner.refine_fusion").register_forward_pre_hook(
        lambda module, given: heavy.append(given[0])
    )
    with torch.inference_mode():
        encoded = network.encode(image, torch.zeros_like(image[:, :1]), unpack(arrays["in_points1"]))
        assert encoded.aux_logits is not None
        compare(case, "base_logits", upsample(encoded.low_logits, hw), worst)
        compare(case, "aux_logits", upsample(encoded.aux_logits, hw), worst)
        compare(case, "feature", heavy[0], worst)
        low_logits = encoded.low_logits
        for number in (1, 2, 3):
            clicks = unpack(arrays[f"in_points{number}"])
            logits, low_logits = network.correct(image, encoded.features, low_logits, clicks)
            for sign, cells in zip(("pos", "neg"), watched.chosen[-1], strict=True):
                check_cells(cells, arrays[f"out_template_idx_{sign}_click{number}"], content["topk_min_gap"])
            compare(case, f"refined_logits_click{number}", logits, worst)
            compare(case, f"refined_lr_click{number}", low_logits, worst)
    return {f"{content['config']} {name}": value for name, value in worst.items()}


def replay_restore(case: Case) -> Deviations:
    """Three clicks in one call, over a previous mask that must not matter."""
    network, arrays = open_network(case), case.arrays
    watched = Watched(network.refiner)
    image = image_tensor(arrays["in_image"])
    worst: Deviations = {}
    with torch.inference_mode():
        output = network(image, torch.full_like(image[:, :1], 0.7), unpack(arrays["in_points"]))
    compare(case, "base_logits", output.base_logits, worst)
    for sign, cells in zip(("pos", "neg"), watched.chosen[-1], strict=True):
        check_cells(cells, arrays[f"out_template_idx_{sign}"], case.content["topk_min_gap"])
    compare(case, "refined_logits", output.mask_logits, worst)
    return worst


def replay_templates(case: Case) -> Deviations:
    """Selection, and what the mask-correction network makes of it, on given feature maps."""
    arrays = case.arrays
    refiner = MaskCorrection(CorrectionConfig(), 96).eval()
    state = {
        key: torch.from_numpy(np.asarray(tensor_for(f"refiner.{key}", value.shape)))
        for key, value in refiner.state_dict().items()
    }
    refiner.load_state_dict(state)
    off = 0.0
    names = [key.removeprefix("in_").removesuffix("_points") for key in arrays if key.endswith("_points")]
    assert names
    for name in names:
        clicks = unpack(arrays[f"in_{name}_points"])
        seed = torch.from_numpy(arrays[f"in_{name}_feature_seedgrid"])
        feature = F.interpolate(seed, size=(24, 32), mode="bilinear", align_corners=True)
        distances = squared_distances(clicks, (4 * 24, 4 * 32))
        disks = np.unpackbits(arrays[f"out_{name}_clickmap_packed"]).reshape(1, 2, 96, 128)
        assert np.array_equal((distances <= 25).numpy(), disks.astype(bool))
        chosen = select_templates(feature, clicks, distances, 64)
        gap = case.content[f"gap_{name}"]
        check_cells(chosen.positive, arrays[f"out_{name}_idx_pos"], gap)
        check_cells(chosen.negative, arrays[f"out_{name}_idx_neg"], gap)
        expected = arrays[f"out_{name}_pred_lowres"]
        with torch.inference_mode():
            found = refiner.correct(feature, clicks, distances).numpy()
        bound = 1e-4 * np.abs(expected) + 1e-3 * expected.std()
        off = max(off, float((np.abs(found - expected) / bound).max()))
        assert off <= 1, f"{name}: {off:.3g} of the bound"
    return {"low-resolution logits (of the bound)": off}


def replay_losses(case: Case) -> Deviations:
    """Values and gradients; the weighted loss without weights is the plain one."""
    arrays = case.arrays
    worst: Deviations = {}
    for name, loss in (("nfl", normalized_focal_loss), ("wfnl", normalized_focal_loss), ("bce", binary_cross_entropy)):
        logits = torch.from_numpy(arrays["in_logits"]).requires_grad_()
        values = loss(logits, torch.from_numpy(arrays["in_label"]))
        values.mean().backward()
        assert logits.grad is not None
        rounding = 0.0
        if loss is normalized_focal_loss:
            # The file's float32 gradients contain the rounding of its formula, so ours are also compared in float64.
            exact = torch.from_numpy(arrays["in_logits"]).double().requires_grad_()
            published_focal(exact, torch.from_numpy(arrays["in_label"]).double(), {}).mean().backward()
            assert exact.grad is not None
            largest = exact.grad.abs().max()
            off = float((logits.grad - exact.grad).abs().max() / largest)
            assert off <= 1e-5, f"{name} gradient against float64: {off:.2e}"
            rounding = float((torch.from_numpy(arrays[f"out_{name}_grad"]) - exact.grad).abs().max() / largest)
        for quantity, ours, theirs in (
            ("value", values.detach().numpy(), arrays[f"out_{name}"]),
            ("gradient", logits.grad.numpy(), arrays[f"out_{name}_grad"]),
        ):
            off = float(np.abs(ours - theirs).max() / np.abs(theirs).max())
            room = rounding if quantity == "gradient" else 0.0  # the file's own distance from float64
            assert off <= 1e-5 + room, f"{name} {quantity}: {off:.2e}"
            worst[f"{name} {quantity}"] = off
    return worst


SAMPLED = frozenset({"model", "samples", "stats", "tolerance"})
CACHED = Kind(
    stem=r"emc_(?!.*_(keys|restore)$)(hr|seg).*",
    fields=SAMPLED | {"config", "image_seed"},
    split=whole_file,
    replay=replay_cached,
    not_built=not_built,
)
RESTORE = Kind(
    stem="emc_.*_restore",
    fields=SAMPLED | {"config", "image_seed"},
    split=whole_file,
    replay=replay_restore,
    not_built=not_built,
)
KEYS = Kind(
    stem="emc_.*_keys",
    fields=frozenset({"config", "n_params", "n_params_refiner", "keys"}),
    split=whole_file,
    replay=replay_keys,
    not_built=not_built,
)
TEMPLATES = Kind(
    stem="emc_template_selection.*", fields=SAMPLED | {"feature_rule"}, split=whole_file, replay=replay_templates
)
LOSSES = Kind(stem="emc_losses.*", fields=SAMPLED, split=whole_file, replay=replay_losses)
