"""Whole networks, filled by the fixtures' weight rule through the published key names."""

import dataclasses
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models import published
from models.networks import NETWORKS, create
from models.networks.base import Network
from models.published.recognise import fitting
from tests.parity.cases import Case, Deviations, Kind
from tests.parity.sessions import unpack
from tests.parity.weights import state_dict

BUFFERS = ("running_mean", "running_var", "num_batches_tracked")


def vit_overrides(content: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """(network, overrides) of a plain ViT: a registered one where the shapes agree."""
    backbone, head = content["ctor_params"]["backbone_params"], content["ctor_params"]["head_params"]
    shape = {
        "dim": backbone["embed_dim"],
        "depth": backbone["depth"],
        "heads": backbone["num_heads"],
        "patch": backbone["patch_size"][0],
        "neck_dims": tuple(content["ctor_params"]["neck_params"]["out_dims"]),
        "head_dim": head["channels"],
        "click_radius": content["ctor_params"]["norm_radius"],
    }
    for name, config in NETWORKS.items():
        if name.startswith("simpleclick_vit_") and shape.items() <= dataclasses.asdict(config).items():
            return name, {}
    return "simpleclick_vit_base", shape


def hrnet_name(content: dict[str, Any]) -> str:
    params = content["ctor_params"]
    return f"ritm_hrnet{params['width']}{'s' if params.get('small') else ''}"


def is_vit(content: dict[str, Any]) -> bool:
    return content["model_class"] == "PlainVitModel"


def not_built(case: Case) -> str | None:
    if is_vit(case.content):
        return None
    assert case.content["model_class"] == "HRNetModel", f"unknown network {case.content['model_class']}"
    name = hrnet_name(case.content)
    return None if name in NETWORKS else name


def build(content: dict[str, Any], hw: tuple[int, int] | None) -> Network:
    """Build the network for views of `hw` (None: its own size)."""
    if not is_vit(content):
        return create(hrnet_name(content))
    name, overrides = vit_overrides(content)
    native = tuple(content["ctor_params"]["backbone_params"]["img_size"])
    return create(name, **overrides, input_hw=native if hw is None else hw)


@lru_cache(maxsize=1)
def weights(keys: Iterable[tuple[str, tuple[int, ...]]]) -> dict[str, Tensor]:
    """Fill the key list; the newest stays, as the cases of one network follow each other."""
    return state_dict(keys)


def replay(case: Case) -> Deviations:
    content, record = case.content, case.record
    state = weights(tuple((key, tuple(shape)) for key, shape, _ in content["keys"]))
    _check_weights(state, content["weight_checksum"])
    _check_inventory(state, content)
    network = build(content, (record["H"], record["W"])).eval()
    report = published.load(network, state)
    assert report.num_loaded + report.num_dead == len(content["keys"])

    arrays = case.arrays
    image = torch.from_numpy(arrays["image"]).permute(0, 3, 1, 2).float() / 255
    with torch.inference_mode():
        output = network(image, torch.from_numpy(arrays["prev_mask"]), unpack(arrays["points"]))
    answers = {"instances": output.mask_logits, "instances_aux": output.aux_logits}
    worst: Deviations = {}
    for name, expected in record["outputs"].items():
        logits = answers[name]
        if expected is None:
            assert logits is None
            continue
        assert logits is not None
        assert list(logits.shape) == expected["shape"]
        stride = expected["stride"]
        worst[f"{content['name']} {name}"] = _compare(logits[..., ::stride, ::stride].numpy(), arrays[f"out_{name}"])
    return worst


def _compare(ours: np.ndarray, theirs: np.ndarray) -> float:
    difference, size = np.abs(ours - theirs), np.abs(theirs)
    off = float(difference.max() / size.max())
    assert off <= 1e-4, f"largest difference is {off:.2e} of the largest logit"
    close = difference <= 1e-4 * size + 1e-4 * theirs.std()
    assert close.mean() >= 0.999
    return off


def _check_weights(state: dict[str, Tensor], checksum: dict[str, float]) -> None:
    assert len(state) == checksum["n_tensors"]
    assert sum(tensor.numel() for tensor in state.values()) == checksum["n_values"]
    total = sum(float(tensor.double().sum()) for tensor in state.values())
    absolute = sum(float(tensor.double().abs().sum()) for tensor in state.values())
    np.testing.assert_allclose([total, absolute], [checksum["sum"], checksum["abs_sum"]], rtol=1e-7)


def _check_inventory(state: dict[str, Tensor], content: dict[str, Any]) -> None:
    """What is built and what is dead make up the published parameters, and the dead ones are those we know of."""
    with torch.device("meta"):
        network = build(content, None)
    meta = {key: tensor.to("meta") for key, tensor in state.items()}
    ours, report = published.translate(network, meta)
    assert report.missing_dead == ()
    assert fitting(meta) == [network.name] or NETWORKS[network.name] != network.config
    assert {key: tensor.shape for key, tensor in ours.items()} == {
        key: tensor.shape for key, tensor in network.state_dict().items()
    }
    built = sum(tensor.numel() for tensor in ours.values())
    assert built + report.dead_parameters == content["weight_checksum"]["n_values"]
    # Buffers (batch statistics) are values, no parameters.
    buffers = sum(buffer.numel() for name, buffer in network.named_buffers() if name in ours)
    dead_buffers = sum(tensor.numel() for key, tensor in state.items() if key not in ours and key.endswith(BUFFERS))
    assert built + report.dead_parameters - buffers - dead_buffers == content["weight_checksum"]["n_params"]


KIND = Kind(
    stem="model_.*",
    fields=frozenset({"model_class", "ctor_params", "weight_checksum"}),
    replay=replay,
    not_built=not_built,
)
