"""EMC-Click's whole predictor: resize to a short side, cached features, flip, all through our sessions."""

import re

import numpy as np
import torch

from models.fast import swap
from models.networks import NETWORKS
from models.predictor import Predictor
from models.refinement import Flip, Refinement
from tests.parity.cases import Case, Deviations, Kind, whole_file
from tests.parity.kinds.emc import network_name, open_network


def replay(case: Case) -> Deviations:
    content, arrays = case.content, case.arrays
    # In the forms in which networks answer: later clicks rank templates by scores a millionth apart.
    network = swap(open_network(_named(case)))
    predictor = Predictor(network, Refinement((Flip(),) if "flip" in content["model"] else ()))
    encoded: list[torch.Size] = []
    network.get_submodule("refiner.refine_fusion").register_forward_pre_hook(
        lambda module, given: encoded.append(given[0].shape)
    )
    session = predictor.open(arrays["in_image"])
    worst: Deviations = {}
    for number, (y, x, label) in enumerate(arrays["in_clicks_yxl"].tolist(), 1):
        prob = session.click(y, x, bool(label))
        assert len(encoded) <= 2, "the heavy half ran again"  # the view and its mirror image, at the first click
        expected, name = arrays[f"out_prob_click{number}"], f"prob_click{number}"
        stats = content["stats"][name]
        assert list(prob.shape) == stats["shape"]
        strides = tuple(slice(None, None, stride) for stride in content["samples"][name])
        off = float((np.abs(prob[strides] - expected) / (1e-4 + 1e-3 * np.abs(expected))).max())
        assert off <= 1, f"{name}: {off:.3g} of the bound"
        mean, std = stats["mean_std_min_max_l2"][:2]
        assert abs(float(prob.mean()) - mean) <= 1e-4
        assert abs(float(prob.std()) - std) <= 1e-4
        worst[f"{name} (of the bound)"] = off
    memory = session.states[-1].memory
    assert memory is not None
    assert list(memory.hw) == content["network_input_hw"]
    return worst


def _named(case: Case) -> Case:
    """The same case, saying its network as the other files of EMC-Click do."""
    match = re.search(r"\b(hr\d+s?|segb\d)\b", case.content["model"])
    assert match is not None, case.content["model"]
    return Case(path=case.path, content={**case.content, "config": match[1]}, key=case.key, record=case.record)


def not_built(case: Case) -> str | None:
    name = network_name(_named(case).content)
    return None if name in NETWORKS else name


KIND = Kind(
    stem=r"emc_predictor.*",
    fields=frozenset({"model", "samples", "stats", "tolerance"}),
    split=whole_file,
    replay=replay,
    not_built=not_built,
)
