"""Layer-wise learning rates and weight decay, parameter by parameter."""

import math

from models.networks import create
from models.published import family
from pipeline.training.optimizer import layerwise_groups
from tests.parity.cases import Case, Deviations, Kind, whole_file


def replay(case: Case) -> Deviations:
    content = case.content
    network = create(f"simpleclick_vit_{content['model']}")
    rates = content["base_lr"], content["weight_decay"], content["layer_decay"]
    # The public code leaves the clicks' embedding out of every group.
    groups = layerwise_groups(network, *rates, freeze_coords=True)
    ours = {name: (group["lr"], group["weight_decay"]) for group in groups for name in group["names"]}
    assert sum(len(group["names"]) for group in groups) == len(ours), "a parameter is in two groups"
    assert all(len(group["names"]) == len(group["params"]) for group in groups)
    dead = family(network).dead(network.config)

    worst, matched = 0.0, set()
    for name, (lr, decay) in content["lr_and_wd"].items():
        if name in dead:
            continue
        assert math.isclose(ours[name][0], lr, rel_tol=1e-12), name
        assert ours[name][1] == decay, name
        worst = max(worst, abs(ours[name][0] / lr - 1))
        matched.add(name)
    assert len(matched) >= 100
    frozen = set(content["params_in_no_group"])
    assert ours.keys() == matched
    assert {name for name, _ in network.named_parameters()} == matched | frozen
    return {"learning rate": worst}


KIND = Kind(
    stem="layerwise_lr.*", fields=frozenset({"lr_and_wd", "params_in_no_group"}), split=whole_file, replay=replay
)
