"""An encoder that learns and sees no click runs once per step, with the gradients of running in each forward."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from models.errors import InputError
from models.networks.base import Network
from models.networks.lite import Lite
from pipeline.data.config import DataConfig
from pipeline.training.config import IclConfig, OptimizerConfig, TrainingConfig
from pipeline.training.loop import Trainer
from tests.training.toys import scene_batches, toy, toy_data

CONFIG = TrainingConfig(
    icl=IclConfig(betas=(1.0, 1.0), first_weight=1.0), steps=2, batch_size=2, optimizer=OptimizerConfig(lr=1e-3)
)


class Apart(nn.Module):
    """Wraps the network in another module, as if workers shared it."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, *inputs: object, **options: object) -> object:
        return self.network(*inputs, **options)


def stepped(config: TrainingConfig, *, apart: bool) -> tuple[Network, int, float]:
    network = toy("lite_s")
    assert isinstance(network, Lite)
    nn.init.normal_(network.mask_decoder.conv_s0.weight, std=0.02)  # pyright: ignore
    runs: list[int] = []
    network.image_encoder.register_forward_hook(lambda *_: runs.append(1))
    trainer = Trainer(network=network, module=Apart(network) if apart else network, config=config)
    (batch,) = scene_batches(toy_data(DataConfig()), 1)
    metrics = trainer.train_step(batch)
    return network, len(runs), float(metrics["loss"])


@pytest.mark.parametrize("accumulate", [1, 2])
def test_encoding_once_gives_the_gradients_of_encoding_in_each_forward(accumulate: int) -> None:
    config = replace(CONFIG, accumulate=accumulate)
    (once, runs, loss), (each, all_runs, same) = stepped(config, apart=False), stepped(config, apart=True)
    assert (runs, all_runs) == (accumulate, 3 * accumulate)
    assert loss == pytest.approx(same, rel=1e-5)
    compared = 0
    for (name, left), right in zip(once.named_parameters(), each.parameters(), strict=True):
        if right.grad is None:
            assert left.grad is None, name
            continue
        assert left.grad is not None, name
        scale = right.grad.abs().max()
        assert (left.grad - right.grad).abs().max() <= 1e-3 * scale + 1e-8, name
        compared += name.startswith("image_encoder.") and bool(scale > 0)
    assert compared > 50


def test_frozen_layers_stay_and_later_layers_learn() -> None:
    start = toy("lite_s")
    before = {name: value.clone() for name, value in start.named_parameters()}
    layers = start.layers()
    num = len(layers) - 2
    network, runs, _ = stepped(replace(CONFIG, freeze_layers=num), apart=False)
    moved = {name for name, value in network.named_parameters() if not torch.equal(value, before[name])}
    assert runs == 1
    assert not any(name.startswith(start) for name in moved for layer in layers[:num] for start in layer)
    assert all(any(name.startswith(layer) for name in moved) for layer in layers[num:])


def test_freezing_more_layers_than_exist_is_refused() -> None:
    with pytest.raises(InputError, match="freeze_layers is 40: expected at most 8"):
        stepped(replace(CONFIG, freeze_layers=40), apart=False)


def test_running_statistics_of_the_backbone_do_not_change() -> None:
    network = toy("lite_s")
    before = {name: value.clone() for name, value in network.named_buffers() if "running" in name}
    assert before
    trained, _, _ = stepped(CONFIG, apart=False)
    after = dict(trained.named_buffers())
    assert all(torch.equal(value, after[name]) for name, value in before.items())
