import dataclasses
import math
from typing import Any

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from models.click_maps import ClickBatch, disk_maps
from models.errors import InputError
from models.networks.base import Network, Output
from pipeline.training.config import OptimizerConfig, TrainingConfig
from pipeline.training.loop import Trainer, fit
from tests.training.tiny import HW, batches, tiny_network

CONFIG = TrainingConfig(
    steps=8,
    batch_size=4,
    log_every=3,
    checkpoint_every=4,
    optimizer=OptimizerConfig(lr=1e-3, warmup_steps=2, schedule="cosine", max_grad_norm=5.0),
)


def trainer(config: TrainingConfig = CONFIG, seed: int = 0) -> Trainer:
    network = tiny_network(seed)
    return Trainer(network=network, module=network, config=config)


def nothing(step: int, metrics: dict[str, float]) -> None:
    assert step > 0
    assert metrics


def assert_equal_weights(a: Network, b: Network) -> None:
    left, right = a.state_dict(), b.state_dict()
    assert left.keys() == right.keys()
    for key in left:
        assert torch.equal(left[key], right[key]), key


def test_metrics_are_means_since_the_last_call_and_the_last_step_saves(monkeypatch: pytest.MonkeyPatch) -> None:
    run = trainer(dataclasses.replace(CONFIG, steps=7))

    def step_only(batch: Any) -> dict[str, float]:
        run.step += 1
        return {"loss": float(run.step), "grad_norm": 1.0}

    monkeypatch.setattr(run, "train_step", step_only)
    logged: list[tuple[int, dict[str, float]]] = []
    saved: list[tuple[int, dict[str, float]]] = []
    fit(run, batches(), lambda *call: logged.append(call), lambda *call: saved.append(call))
    assert [(step, metrics["loss"]) for step, metrics in logged] == [(3, 2.0), (4, 4.0), (6, 5.5), (7, 7.0)]
    assert [step for step, _ in saved] == [4, 7]
    for _, metrics in logged:
        assert metrics["images_per_second"] > 0
        assert 0 <= metrics["data_wait"] <= 1


def test_a_finished_run_makes_no_more_steps() -> None:
    run = trainer()
    run.step = CONFIG.steps
    fit(run, iter([]), nothing, nothing)
    assert run.step == CONFIG.steps


class PixelNetwork(Network):
    """A linear map per pixel, which learns in a few steps that bright pixels are the object."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(6, 1, 1)

    def forward(self, image: Tensor, prev_mask: Tensor, clicks: ClickBatch) -> Output:
        return Output(self.conv(torch.cat([image, prev_mask, disk_maps(clicks, HW)], 1)))


@pytest.mark.networks
@pytest.mark.parametrize("objective", ["icl", "icl_code"])
def test_the_loss_falls(objective: str) -> None:
    config = TrainingConfig(
        objective=objective, steps=60, batch_size=4, log_every=10, optimizer=OptimizerConfig(lr=0.3)
    )
    network = PixelNetwork()
    run = Trainer(network=network, module=network, config=config)
    logged: list[float] = []
    fit(run, batches(), lambda step, metrics: logged.append(metrics["loss"]), nothing)
    assert len(logged) == 6
    assert logged[-1] < 0.3 * logged[0]


def test_every_part_of_the_network_learns() -> None:
    run = trainer()
    run.train_step(next(batches()))
    without = [name for name, p in run.network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == []


def test_a_step_reports_loss_norm_and_rate() -> None:
    run = trainer()
    first = run.train_step(next(batches()))
    assert first.keys() == {"loss", "iou", "grad_norm", "lr"}
    assert first["lr"] == pytest.approx(1e-3 * 0.5)
    assert first["loss"] > 0
    assert first["grad_norm"] > 0
    assert run.step == 1


@pytest.mark.check(46)
def test_an_interrupted_run_equals_an_uninterrupted_one_bit_for_bit() -> None:
    whole = trainer()
    fit(whole, batches(), nothing, nothing)

    first = trainer(CONFIG)
    stream = batches()
    for _ in range(4):
        first.train_step(next(stream))
    # Through bytes, as in a checkpoint; the process that resumes has drawn other random numbers.
    weights, tensors = save(first.network.state_dict()), save(first.state_tensors())
    torch.manual_seed(12345)
    resumed = trainer(CONFIG, seed=9)
    resumed.network.load_state_dict(load(weights))
    resumed.load_state_tensors(load(tensors), 4)
    fit(resumed, batches(start=4), nothing, nothing)
    assert resumed.step == CONFIG.steps
    assert_equal_weights(whole.network, resumed.network)
    left, right = whole.state_tensors(), resumed.state_tensors()
    assert left.keys() == right.keys()
    assert all(torch.equal(left[key], right[key]) for key in left)


def test_a_run_resumed_without_its_optimizer_state_differs() -> None:
    whole, bare = trainer(), trainer()
    stream = batches()
    for _ in range(2):
        batch = next(stream)
        whole.train_step(batch)
        bare.train_step(batch)
    fresh = trainer(CONFIG, seed=3)
    fresh.network.load_state_dict(bare.network.state_dict())
    fresh.step = 2
    batch = next(stream)
    whole.train_step(batch)
    fresh.train_step(batch)
    assert not torch.equal(
        whole.network.get_parameter("head.conv_seg.weight"), fresh.network.get_parameter("head.conv_seg.weight")
    )


def test_seed_step_and_rank_decide_a_step_and_nothing_else() -> None:
    losses = []
    for outside, seed, rank in ((1, 0, 0), (2, 0, 0), (2, 5, 0), (2, 0, 1)):
        network = tiny_network()
        run = Trainer(network=network, module=network, config=dataclasses.replace(CONFIG, seed=seed), rank=rank)
        torch.manual_seed(outside)
        losses.append(float(run.train_step(next(batches()))["loss"]))
    assert losses[0] == losses[1]
    assert len(set(losses)) == 3


def test_a_nan_loss_ends_the_run_before_the_weights_change() -> None:
    run = trainer()
    before = {key: value.clone() for key, value in run.network.state_dict().items()}
    batch = next(batches())
    bad = dataclasses.replace(batch, image=torch.full_like(batch.image, math.nan))
    with pytest.raises(FloatingPointError, match=r"loss nan .*at step 0: lower training\.optimizer\.lr or set"):
        run.train_step(bad)
    assert all(torch.equal(before[key], value) for key, value in run.network.state_dict().items())


def test_gradients_are_clipped_to_the_norm() -> None:
    config = dataclasses.replace(CONFIG, optimizer=OptimizerConfig(lr=1e-3, max_grad_norm=1e-3))
    run = trainer(config)
    reported = run.train_step(next(batches()))["grad_norm"]
    norms = [p.grad.norm() for p in run.network.parameters() if p.grad is not None]
    assert reported > 1e-3
    assert torch.stack(norms).norm().item() == pytest.approx(1e-3, rel=1e-3)


def test_bf16_trains_too() -> None:
    metrics = trainer(dataclasses.replace(CONFIG, precision="bf16")).train_step(next(batches()))
    assert math.isfinite(metrics["loss"])


def test_an_unknown_objective_is_refused_with_a_suggestion() -> None:
    with pytest.raises(InputError, match="unknown objective 'icl_cod'; did you mean 'icl_code'"):
        trainer(dataclasses.replace(CONFIG, objective="icl_cod"))
