"""The kinds of fixture, one file each. To add one: a file with its KIND, and a line here."""

from tests.parity.cases import Kind
from tests.parity.kinds import (
    cfr,
    disks,
    icmformer,
    layerwise_lr,
    losses,
    models,
    nextclick,
    noc,
    not_built,
    point_sampler,
    points_tensor,
    suem,
    toy_eval,
    train_click,
    zoomin,
)

KINDS: dict[str, Kind] = {
    "models": models.KIND,
    "disks": disks.KIND,
    "points_tensor": points_tensor.KIND,
    "losses": losses.KIND,
    "nextclick": nextclick.KIND,
    "noc": noc.KIND,
    "zoomin": zoomin.KIND,
    "cfr": cfr.KIND,
    "toy_eval": toy_eval.KIND,
    "train_click_cfr": train_click.CFR,
    "train_click_ritm": train_click.RITM,
    "suem": suem.KIND,
    "point_sampler_stats": point_sampler.KIND,
    "layerwise_lr": layerwise_lr.KIND,
    "icmformer": icmformer.KIND,
    "icmformer_keys": icmformer.KEYS,
    **not_built.KINDS,
}
