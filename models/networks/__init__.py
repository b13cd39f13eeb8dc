"""The networks by name; to add one, add a file with a config that builds it and a line in NETWORKS."""

import dataclasses
from typing import Any

import models.torchvision_ops  # noqa: F401  (before timm, which the networks import)
from models.errors import InputError, lookup, unknown
from models.networks.base import Network
from models.networks.emc import EmcHRNetConfig, EmcSegFormerConfig, EmcVitConfig
from models.networks.focuscut import FocusCutConfig
from models.networks.icmformer import ICMFormerConfig
from models.networks.icmformer_swin import ICMFormerSwinConfig
from models.networks.icmformerpp import ICMFormerPPConfig
from models.networks.lite import LiteConfig
from models.networks.ritm import RitmConfig
from models.networks.sam import MobileSamConfig, Sam2Config, SamConfig
from models.networks.simpleclick import SimpleClickConfig

NETWORKS: dict[str, Any] = {
    "ritm_hrnet18s": RitmConfig(width=18, ocr_width=48, small=True),
    "ritm_hrnet18": RitmConfig(width=18, ocr_width=64),
    "ritm_hrnet32": RitmConfig(width=32, ocr_width=128),
    "simpleclick_vit_xtiny": SimpleClickConfig(
        dim=160, depth=8, heads=4, neck_dims=(96, 192, 288, 384), head_dim=128, mimetic_start=True
    ),
    "simpleclick_vit_base": SimpleClickConfig(dim=768, depth=12, heads=12, neck_dims=(128, 256, 512, 1024)),
    "simpleclick_vit_large": SimpleClickConfig(dim=1024, depth=24, heads=16, neck_dims=(192, 384, 768, 1536)),
    "simpleclick_vit_huge": SimpleClickConfig(dim=1280, depth=32, heads=16, neck_dims=(240, 480, 960, 1920), patch=14),
    "emc_hrnet18s": EmcHRNetConfig(width=18, ocr_width=48, small=True),
    "emc_hrnet18": EmcHRNetConfig(width=18, ocr_width=64, correction_width=96),
    "emc_hrnet32": EmcHRNetConfig(width=32, ocr_width=128, correction_width=96),
    "emc_segformer_b0": EmcSegFormerConfig(dims=(32, 64, 160, 256), depths=(2, 2, 2, 2), head_dim=256),
    "emc_segformer_b3": EmcSegFormerConfig(
        dims=(64, 128, 320, 512), depths=(3, 4, 18, 3), head_dim=512, correction_width=96
    ),
    "emc_vit_base": EmcVitConfig(dim=768, depth=12, heads=12, neck_dims=(128, 256, 512, 1024)),
    "emc_vit_huge": EmcVitConfig(dim=1280, depth=32, heads=16, neck_dims=(240, 480, 960, 1920), patch=14),
    "focuscut_resnet50": FocusCutConfig(layers=(3, 4, 6, 3)),
    "focuscut_resnet101": FocusCutConfig(layers=(3, 4, 23, 3)),
    "icmformer_vit_base": ICMFormerConfig(dim=768, depth=12, heads=12, neck_dims=(128, 256, 512, 1024)),
    "icmformer_vit_large": ICMFormerConfig(dim=1024, depth=24, heads=16, neck_dims=(192, 384, 768, 1536)),
    "icmformer_vit_huge": ICMFormerConfig(dim=1280, depth=32, heads=16, neck_dims=(240, 480, 960, 1920), patch=14),
    "icmformer_swin_base": ICMFormerSwinConfig(),
    "icmformerpp_vit_base": ICMFormerPPConfig(dim=768, depth=12, heads=12, neck_dims=(128, 256, 512, 1024)),
    "sam_vit_base": SamConfig(dim=768, depth=12, heads=12, global_blocks=(2, 5, 8, 11)),
    "sam_vit_large": SamConfig(dim=1024, depth=24, heads=16, global_blocks=(5, 11, 17, 23)),
    "sam_vit_huge": SamConfig(dim=1280, depth=32, heads=16, global_blocks=(7, 15, 23, 31)),
    "mobile_sam": MobileSamConfig(),
    "sam2_hiera_tiny": Sam2Config(dim=96, heads=1, stages=(1, 2, 7, 2), global_blocks=(5, 7, 9)),
    "sam2_hiera_small": Sam2Config(dim=96, heads=1, stages=(1, 2, 11, 2), global_blocks=(7, 10, 13)),
    "sam2_hiera_base_plus": Sam2Config(
        dim=112, heads=2, stages=(2, 3, 16, 3), global_blocks=(12, 16, 20), position_hw=(14, 14)
    ),
    "sam2_hiera_large": Sam2Config(
        dim=144, heads=2, stages=(2, 6, 36, 4), global_blocks=(23, 33, 43), windows=(8, 4, 16, 8)
    ),
    "lite_s": LiteConfig(backbone="tiny_vit_5m_224"),
}


def create(name: str, **overrides: Any) -> Network:
    """Build a network with fresh weights; `overrides` replace fields of its config (for example `input_hw`)."""
    config = lookup("network", name, NETWORKS)
    fields = [field.name for field in dataclasses.fields(config)]
    for key in overrides:
        if key not in fields:
            raise unknown(f"option of network {name}", key, fields)
    # JSON has lists but no tuples.
    overrides = {key: tuple(value) if isinstance(value, list) else value for key, value in overrides.items()}
    try:
        network = dataclasses.replace(config, **overrides).build()
    except TypeError as error:
        raise InputError(f"network {name} cannot be built with {overrides}: {error}") from error
    network.name = name
    return network
