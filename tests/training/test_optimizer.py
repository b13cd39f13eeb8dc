from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from models.errors import InputError
from models.networks.base import Network
from pipeline.training.config import OptimizerConfig, ScalingConfig, TrainingConfig
from pipeline.training.optimizer import layerwise_groups, make_optimizer, rate_factor, set_rate
from tests.training.tiny import tiny_network
from tests.training.toys import TOYS, toy


def test_layers_nearer_the_input_learn_slower() -> None:
    network = tiny_network()
    groups = layerwise_groups(network, 1.0, 0.1, 0.5)
    of = {name: group for group in groups for name in group["names"]}
    assert set(of) == {name for name, _ in network.named_parameters()}
    assert sum(len(group["params"]) for group in groups) == len(of)
    # depth 4: embeddings 0.5^5, block i 0.5^(4-i), everything outside the backbone 1.
    assert of["backbone.pos_embed"]["lr"] == of["backbone.patch_embed.proj.weight"]["lr"] == 0.5**5
    for block in range(4):
        assert of[f"backbone.blocks.{block}.attn.qkv.weight"]["lr"] == 0.5 ** (4 - block)
    assert of["head.conv_seg.weight"]["lr"] == of["patch_embed_coords.proj.weight"]["lr"] == 1.0
    assert of["backbone.blocks.0.attn.qkv.weight"]["weight_decay"] == 0.1
    assert of["backbone.blocks.0.attn.qkv.bias"]["weight_decay"] == 0.0
    assert of["backbone.pos_embed"]["weight_decay"] == 0.0
    assert of["head.conv_seg.bias"]["weight_decay"] == 0.1


def test_the_public_codes_frozen_click_embedding_is_an_option() -> None:
    names = [n for g in layerwise_groups(tiny_network(), 1.0, 0.0, 0.75, freeze_coords=True) for n in g["names"]]
    assert not [name for name in names if name.startswith("patch_embed_coords.")]


def test_layer_decay_needs_a_sequence_of_layers() -> None:
    with pytest.raises(InputError, match=r"layer_decay .*: expected a network whose backbone is a sequence of layers"):
        layerwise_groups(toy("ritm_hrnet18s"), 1.0, 0.0, 0.75)


@pytest.mark.parametrize(("name", "blocks"), [("sam", "blocks"), ("mobile_sam", "stages"), ("sam2", "blocks")])
def test_layers_of_an_image_encoder_hold_each_parameter_once(name: str, blocks: str) -> None:
    network = TOYS[name]()
    layers = network.layers()
    rates = rates_of(network, OptimizerConfig(lr=1.0, layer_decay=0.5))
    encoder = [key for key in rates if key.startswith("image_encoder.")]
    fitting = {key: [number for number, starts in enumerate(layers) if key.startswith(starts)] for key in encoder}
    assert all(rates[key] == 0.5 ** (len(layers) - 1 - numbers[0]) for key, numbers in fitting.items())
    assert {numbers[0] for numbers in fitting.values()} == set(range(len(layers)))
    assert all(numbers[0] < len(layers) - 1 for key, numbers in fitting.items() if f".{blocks}." in key)
    assert {rates[key] for key in rates if not key.startswith("image_encoder.")} == {1.0}


def test_without_layer_decay_one_group_holds_all_but_frozen_parameters() -> None:
    network = tiny_network()
    network.get_parameter("head.conv_seg.bias").requires_grad_(False)
    optimizer = make_optimizer(network, OptimizerConfig(lr=0.01, weight_decay=0.2))
    (group,) = optimizer.param_groups
    assert len(group["params"]) == len(list(network.parameters())) - 1
    assert (group["lr"], group["weight_decay"], group["betas"]) == (0.01, 0.2, (0.9, 0.999))


def test_the_schedule_scales_the_rate_of_every_group() -> None:
    optimizer = make_optimizer(tiny_network(), OptimizerConfig(lr=0.01, layer_decay=0.5))
    before = [group["lr"] for group in optimizer.param_groups]
    set_rate(optimizer, 0.5)
    set_rate(optimizer, 0.1)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.1 * rate for rate in before])
    assert len(set(before)) > 4


@pytest.mark.parametrize(
    ("config", "factors"),
    [
        ({}, [1, 1, 1, 1, 1]),
        ({"warmup_steps": 4}, [0.25, 1, 1, 1, 1]),
        ({"schedule": "cosine"}, [1, 0.853553, 0.5, 0.146447, 0.01]),
        ({"schedule": "cosine", "warmup_steps": 50}, [0.02, 0.853553 * 0.52, 0.5, 0.146447, 0.01]),
        ({"schedule": "milestones", "milestones": (0.5, 0.75)}, [1, 1, 0.1, 0.01, 0.01]),
    ],
)
def test_the_rate_follows_warmup_and_schedule(config: dict[str, Any], factors: list[float]) -> None:
    steps = [0, 25, 50, 75, 99]
    found = [rate_factor(OptimizerConfig(**config), step, 100) for step in steps]
    assert found == pytest.approx(factors, abs=1e-5)


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (OptimizerConfig, {"lr": 0.0}, r"optimizer\.lr is 0\.0: expected a number > 0"),
        (OptimizerConfig, {"warmup_steps": -1}, "warmup_steps is -1"),
        (OptimizerConfig, {"milestones": (1.5,)}, "milestones is .*expected a list"),
        (TrainingConfig, {"steps": 0}, "training.steps is 0: expected a whole number >= 1"),
        (TrainingConfig, {"batch_size": 0}, "training.batch_size is 0"),
        (TrainingConfig, {"checkpoint_every": 0}, "training.checkpoint_every is 0"),
        (ScalingConfig, {"workers": 0}, "workers is 0"),
    ],
)
def test_invalid_values_are_refused(kind: Any, values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        kind(**values)


def test_the_optimizer_moves_parameters_by_the_set_rate() -> None:
    parameter = nn.Parameter(torch.ones(3))
    module = nn.ParameterList([parameter])
    optimizer = make_optimizer(module, OptimizerConfig(lr=0.1))
    set_rate(optimizer, 0.5)
    parameter.grad = torch.ones(3)
    optimizer.step()
    assert torch.allclose(parameter.detach(), torch.full((3,), 0.95))  # Adam's first step is one rate long


def rates_of(network: Network, config: OptimizerConfig) -> dict[str, float]:
    groups = make_optimizer(network, config).param_groups
    rates = {id(parameter): group["lr"] for group in groups for parameter in group["params"]}
    return {name: rates[id(parameter)] for name, parameter in network.named_parameters() if id(parameter) in rates}


def test_the_pretrained_part_of_hrnet_learns_at_a_reduced_rate() -> None:
    rates = rates_of(toy("ritm_hrnet18s"), OptimizerConfig(lr=1.0, backbone_factor=0.1))
    assert rates["feature_extractor.conv1.weight"] == 0.1
    # The published list leaves the fresh aux head at the backbone's rate.
    assert {rate for name, rate in rates.items() if ".aux_head." in name} == {0.1}
    heads = {rate for name, rate in rates.items() if ".conv3x3_ocr." in name or ".ocr_distri_head." in name}
    assert heads == {1.0}
    assert {rate for name, rate in rates.items() if name.startswith("maps_transform")} == {1.0}


def test_the_encoder_of_segformer_learns_at_a_reduced_rate() -> None:
    rates = rates_of(toy("emc_segformer_b0"), OptimizerConfig(lr=1.0, backbone_factor=0.1))
    for name, rate in rates.items():
        assert rate == (0.1 if name.startswith("feature_extractor.backbone.") else 1.0)
    assert set(rates.values()) == {0.1, 1.0}


def test_a_reduced_rate_needs_a_known_backbone() -> None:
    with pytest.raises(InputError, match="backbone_factor"):
        make_optimizer(toy("simpleclick_vit_base"), OptimizerConfig(backbone_factor=0.1))


def test_fresh_layers_learn_faster() -> None:
    network = toy("lite_s")
    optimizer = make_optimizer(network, OptimizerConfig(lr=1e-3, fresh_factor=10))
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    rates = {names[id(p)]: group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert rates.keys() == dict(network.named_parameters()).keys()
    for name, rate in rates.items():
        assert rate == pytest.approx(1e-2 if name.startswith(tuple(network.fresh())) else 1e-3)
    with pytest.raises(InputError, match=r"fresh_factor 10.*lite"):
        make_optimizer(toy("mobile_sam"), OptimizerConfig(fresh_factor=10))
    with pytest.raises(InputError, match="fresh_factor is 0"):
        OptimizerConfig(fresh_factor=0)


def test_frozen_parameters_have_no_rate() -> None:
    network = toy("emc_hrnet18s")
    network.get_submodule("feature_extractor").requires_grad_(False)
    rates = rates_of(network, OptimizerConfig())
    assert rates
    assert not any(name.startswith("feature_extractor.") for name in rates)


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_every_optimiser_can_be_chosen_by_name(name: str) -> None:
    optimizer = make_optimizer(toy("focuscut_resnet50"), OptimizerConfig(name=name, weight_decay=5e-4))  # pyright: ignore
    assert type(optimizer).__name__.lower() == name
    assert optimizer.param_groups[0]["weight_decay"] == 5e-4
    assert optimizer.param_groups[0].get("momentum", 0.9) == 0.9


def test_the_exponential_schedule_ends_at_the_final_factor() -> None:
    config = OptimizerConfig(schedule="exponential", final_factor=0.9**40)
    factors = [rate_factor(config, step, 4000) for step in range(0, 4001, 100)]
    assert factors[0] == 1
    assert np.allclose(np.divide(factors[1:], factors[:-1]), 0.9)


def test_the_clicks_embedding_is_frozen_only_on_request() -> None:
    for name, prefix in (("simpleclick_vit_base", ""), ("emc_vit_base", "base."), ("icmformer_vit_base", "")):
        own = rates_of(toy(name), OptimizerConfig(layer_decay=0.75))
        assert any(key.startswith(f"{prefix}patch_embed_coords.") for key in own)
        assert own[f"{prefix}backbone.blocks.0.norm1.weight"] < own[f"{prefix}backbone.blocks.7.norm1.weight"]
        published = rates_of(toy(name), OptimizerConfig(layer_decay=0.75, layer_decay_public_bug=True))
        assert not any(key.startswith(f"{prefix}patch_embed_coords.") for key in published)
