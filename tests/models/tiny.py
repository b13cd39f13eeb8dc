"""Networks small enough for tests, and inputs for them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from models.click_maps import ClickBatch, collate_clicks
from models.exemplar import ExemplarBatch
from models.interaction import Clicks
from models.networks import create
from models.networks.base import Network

HW = (224, 224)
TINY = {"dim": 32, "depth": 4, "heads": 2, "neck_dims": (8, 8, 16, 16), "head_dim": 16, "input_hw": HW}


def tiny_network(seed: int = 0, name: str = "simpleclick_vit_base", **overrides: object) -> Network:
    """Return a plain ViT with all its parts; fresh weights by seed, with logits on both sides of the threshold."""
    torch.manual_seed(seed)
    network = create(name, **{**TINY, **overrides}).eval()
    with torch.no_grad():
        network.get_parameter("head.conv_seg.weight").mul_(20)
    return network


def tiny_swin(seed: int = 0) -> Network:
    """A Swin with all its parts, whose windows divide no level of a view of HW."""
    torch.manual_seed(seed)
    shape = {"dim": 8, "depths": (2, 2, 2, 2), "heads": (1, 2, 2, 4), "window": 6, "cross_depth": 2, "cross_heads": 2}
    network = create("icmformer_swin_base", **shape, head_dim=16).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            # A fresh Swin hardly changes its tokens (deviation 0.02), so a test would not notice its effect.
            if parameter.dim() == 2:
                parameter.normal_(std=0.7 / parameter.shape[1] ** 0.5)
        network.get_parameter("head.conv_seg.weight").mul_(20)
    return network


def seeded(name: str, **overrides: object) -> Network:
    """Return a network with fresh weights, the same at each call; batch norms have the statistics of random views.

    Without them, the output of a fresh deep network hardly depends on its input.
    """
    torch.manual_seed(0)
    network = create(name, **overrides)
    norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    if norms:
        for norm in norms:
            norm.momentum = 1.0
        rng = np.random.default_rng(0)
        with torch.no_grad():
            network.train()(*views(4, HW), collate_clicks([click_list(rng, 3, HW) for _ in range(4)]))
        for norm in norms:
            norm.momentum = 0.1
    return network.eval()


TINY_FOCUSCUT = {"layers": (1, 1, 1, 1), "width": 8, "head_dim": 16, "side_dim": 8}
TINY_HRNET = {"width": 4, "ocr_width": 8, "small": True}
TINY_SEGFORMER = {"dims": (8, 16, 20, 32), "depths": (1, 1, 1, 1), "head_dim": 16}
TINY_SAM = {"dim": 32, "depth": 2, "heads": 2, "global_blocks": (1,), "side": 224}
TINY_MOBILE_SAM = {"dims": (8, 16, 16, 32), "depths": (1, 1, 1, 1), "heads": (1, 2, 2, 4), "side": 224}
TINY_LITE = {"backbone": "test_efficientnet", "side": 224}
TINY_SAM2 = {"dim": 8, "stages": (1, 1, 2, 1), "global_blocks": (3,), "side": 224}
TINY_NETWORKS: dict[str, Callable[[], Network]] = {
    "simpleclick xtiny": lambda: seeded("simpleclick_vit_xtiny", input_hw=HW),
    "simpleclick": lambda: tiny_network(depth=12),
    "ritm": lambda: seeded("ritm_hrnet18s", **TINY_HRNET),
    "emc hrnet": lambda: seeded("emc_hrnet18s", **TINY_HRNET, correction_width=8),
    "emc segformer": lambda: seeded("emc_segformer_b0", **TINY_SEGFORMER, correction_width=8),
    "emc vit": lambda: seeded("emc_vit_base", **TINY, correction_width=8),
    "focuscut": lambda: seeded("focuscut_resnet50", **TINY_FOCUSCUT),
    "focuscut apart": lambda: seeded("focuscut_resnet50", **TINY_FOCUSCUT, shared_weights=False),
    "icmformer": lambda: tiny_network(name="icmformer_vit_base", depth=8),
    "icmformer swin": tiny_swin,
    "icmformerpp": lambda: tiny_network(name="icmformerpp_vit_base", depth=8),
    "sam": lambda: seeded("sam_vit_base", **TINY_SAM),
    "mobile_sam": lambda: seeded("mobile_sam", **TINY_MOBILE_SAM),
    "sam2": lambda: seeded("sam2_hiera_tiny", **TINY_SAM2),
    "lite": lambda: seeded("lite_s", **TINY_LITE),
}
"""Small networks that take views of HW, at least one of each kind of config: they run the contract tests."""


def photo(hw: tuple[int, int], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """An image with one bright disk on a noisy ground, and the disk's mask."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: hw[0], : hw[1]]
    centre = rng.uniform(0.35, 0.65, 2) * hw
    mask = (y - centre[0]) ** 2 + (x - centre[1]) ** 2 < (0.22 * min(hw)) ** 2
    image = rng.integers(20, 60, (*hw, 3)) + 120 * mask[..., None]
    return image.astype(np.uint8), mask


def click_list(rng: np.random.Generator, num: int, hw: tuple[int, int]) -> Clicks:
    """`num` clicks of random signs."""
    return Clicks(rng.uniform(0, 1, (num, 2)) * (np.array(hw) - 1), rng.random(num) < 0.5)


def example(batch: int, hw: tuple[int, int], seed: int = 0) -> ExemplarBatch:
    """Finished objects: squares of several sizes, with clicks of all three kinds."""
    rng = np.random.default_rng(seed)
    mask = torch.zeros(batch, 1, *hw)
    for row in range(batch):
        mask[row, :, 40 : 90 + 9 * row, 60 : 120 + 5 * row] = 1
    kinds = [collate_clicks([click_list(rng, 3, hw) for _ in range(batch)]) for _ in range(3)]
    return ExemplarBatch(mask, *kinds)


def more(network: Network, batch: int) -> dict[str, Any]:
    """Return the network's inputs beside image, previous mask and clicks."""
    return {"exemplar": example(batch, HW)} if network.traits.exemplar else {}


def views(batch: int, hw: tuple[int, int], seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Random images and previous masks."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(batch, 3, *hw, generator=generator), torch.rand(batch, 1, *hw, generator=generator)


def permuted(clicks: ClickBatch, order: torch.Tensor) -> ClickBatch:
    """Return the same clicks in other rows."""
    return ClickBatch(*(part[:, order] for part in (clicks.yx, clicks.positive, clicks.valid, clicks.first)))
