"""Accumulation, recomputation, averages and shared networks give the gradients of a plain step."""

from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file
from torch import Tensor

from models import checkpoint
from models.errors import InputError
from models.networks.base import Network
from pipeline.training.checkpointing import load_state, save_state, save_weights
from pipeline.training.config import OptimizerConfig, RitmConfig, ScalingConfig, TrainingConfig
from pipeline.training.loop import Trainer, fit, prepare
from pipeline.training.parallel import Parallel
from pipeline.training.recompute import recompute_blocks
from tests.training.tiny import batches, tiny_network
from tests.training.toys import toy
from tests.training.workers import in_two_processes, still, trainer_of

# No clicks without gradient: they depend on how a batch is cut.
STILL = TrainingConfig(
    objective="ritm",
    ritm=RitmConfig(max_iterations=0),
    steps=4,
    batch_size=4,
    log_every=1,
    optimizer=OptimizerConfig(lr=1e-2, name="sgd"),
)


def changed(**fields: Any) -> TrainingConfig:
    return replace(STILL, **fields)


def trained(config: TrainingConfig, steps: int = 2, *, dropout: bool = False) -> Trainer:
    network = tiny_network()
    if not dropout:
        still(network)
    prepare(network, config)
    trainer = Trainer(network=network, module=network, config=config)
    source = batches()
    for _ in range(steps):
        trainer.train_step(next(source))
    return trainer


def weights(trainer: Trainer) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in trainer.network.state_dict().items()}


def assert_close(left: dict[str, Tensor], right: dict[str, Tensor], tolerance: float = 1e-5) -> None:
    assert left.keys() == right.keys()
    for name, value in left.items():
        assert torch.allclose(value, right[name], atol=tolerance, rtol=1e-4), name


@pytest.mark.parametrize("parts", [2, 4])
def test_accumulated_parts_make_the_step_of_the_whole_batch(parts: int) -> None:
    whole = trained(STILL)
    assert_close(weights(whole), weights(trained(changed(accumulate=parts))))
    start = tiny_network().state_dict()
    assert not torch.allclose(start["head.conv_seg.weight"], weights(whole)["head.conv_seg.weight"], atol=1e-4)


def test_metrics_do_not_depend_on_the_parts() -> None:
    seen = []
    for parts in (1, 2):
        trainer = trained(changed(accumulate=parts), steps=0)
        seen.append({name: float(value) for name, value in trainer.train_step(next(batches())).items()})
    assert seen[0] == pytest.approx(seen[1], rel=1e-4)


def test_recomputed_blocks_give_the_same_step() -> None:
    for dropout in (False, True):
        kept = trained(STILL, dropout=dropout)
        again = trained(changed(recompute=True), dropout=dropout)
        assert_close(weights(kept), weights(again), 1e-6)
    assert recompute_blocks(tiny_network()) == 4
    with pytest.raises(InputError, match="recompute"):
        recompute_blocks(toy("ritm_hrnet18s"))


def test_averages_follow_the_weights() -> None:
    trainer = trained(changed(ema=0.5), steps=0)
    expected = {name: value.detach().clone() for name, value in trainer.network.named_parameters()}
    source = batches()
    for _ in range(3):
        trainer.train_step(next(source))
        for name, value in trainer.network.named_parameters():
            expected[name] = 0.5 * expected[name] + 0.5 * value.detach()
    raw = weights(trainer)
    with trainer.averaged():
        assert_close({name: value.detach() for name, value in trainer.network.named_parameters()}, expected, 1e-6)
    assert all(torch.equal(value, raw[name]) for name, value in weights(trainer).items())
    assert not torch.allclose(raw["head.conv_seg.weight"], expected["head.conv_seg.weight"])


@pytest.mark.networks
@pytest.mark.parametrize("extra", [{}, {"ema": 0.9}, {"accumulate": 2}, {"objective": "icl"}])
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(extra: dict[str, Any], tmp_path: Path) -> None:
    config = changed(optimizer=OptimizerConfig(lr=1e-3, schedule="cosine", warmup_steps=2), **extra)
    whole = trained(config, 4, dropout=True)
    first = trained(config, 2, dropout=True)
    save_weights(first, tmp_path, {})
    save_state(first, tmp_path)
    network, _ = checkpoint.load(tmp_path)
    resumed = Trainer(network=network, module=network, config=config)
    load_state(resumed, tmp_path, 2)
    source = batches(start=2)
    torch.manual_seed(99)
    for _ in range(2):
        resumed.train_step(next(source))
    left, right = whole.state_tensors(), resumed.state_tensors()
    assert left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) for name in left)
    assert all(torch.equal(value, weights(resumed)[name]) for name, value in weights(whole).items())


def test_a_loss_that_is_not_finite_is_never_applied() -> None:
    trainer = trained(STILL, 0)
    with torch.no_grad():
        trainer.network.get_parameter("head.conv_seg.bias").fill_(float("nan"))
    before = weights(trainer)
    with pytest.raises(FloatingPointError, match="step 0"):
        trainer.train_step(next(batches()))
    assert trainer.step == 0
    for name, value in weights(trainer).items():
        assert torch.equal(torch.nan_to_num(value), torch.nan_to_num(before[name]))


def test_pictures_are_made_at_the_first_step_and_at_intervals() -> None:
    trainer = trained(changed(pictures_every=2), 0)
    sheets = {}
    fit(trainer, batches(), lambda *_: None, lambda *_: None, lambda step, sheet: sheets.update({step: sheet}))
    assert sorted(sheets) == [1, 3]
    assert sheets[1].ndim == 3
    assert sheets[1].std() > 5


@pytest.mark.parametrize(
    ("scaling", "training", "said"),
    [
        ({"workers": 3}, {}, "among 3 workers"),
        ({"workers": 2, "max_workers": 3}, {}, "among 3 workers"),
        ({"workers": 2}, {"accumulate": 4}, "2 workers, each in 4 parts"),
    ],
)
def test_a_batch_that_does_not_divide_is_refused(scaling: dict[str, int], training: dict[str, int], said: str) -> None:
    with pytest.raises(InputError, match=said):
        ScalingConfig(**scaling).check_batch(changed(**training))  # pyright: ignore[reportArgumentType]
    ScalingConfig(workers=1, max_workers=2).check_batch(STILL)


def test_fewer_max_workers_than_workers_are_refused() -> None:
    with pytest.raises(InputError, match="max_workers"):
        ScalingConfig(workers=2, max_workers=1)


def _shared_trainer(kind: Parallel, rank: int, config: TrainingConfig, network: Network | None = None) -> Trainer:
    return trainer_of(kind, rank, config, network or tiny_network())


# Adam would amplify gradients that are only rounding errors (those of the keys' bias).
CLIPPED = OptimizerConfig(lr=1e-2, name="sgd", max_grad_norm=1.0)


def _train_shared(rank: int, folder: Path) -> None:
    """Make two steps of each kind on this rank's half of each batch; rank 0 saves the weights."""
    for kind in get_args(Parallel):
        for accumulate in (1, 2):
            trainer = _shared_trainer(kind, rank, changed(accumulate=accumulate, optimizer=CLIPPED))
            source = batches()
            for _ in range(2):
                trainer.train_step(next(source).parts(2)[rank])
            save_weights(trainer, folder / f"{kind}{accumulate}", {})


def _resume_shards(rank: int, folder: Path) -> None:
    """Make two steps, a sharded checkpoint and two more steps; then repeat the last two from the checkpoint."""
    config = changed(optimizer=OptimizerConfig(lr=1e-3, max_grad_norm=1.0), ema=0.9)
    trainer = _shared_trainer("fsdp", rank, config)
    source = batches()
    for _ in range(2):
        trainer.train_step(next(source).parts(2)[rank])
    shards = folder / "shards"
    save_weights(trainer, shards, {})
    future = save_state(trainer, shards)
    assert future is not None
    # Training continues while the shards are being written.
    for _ in range(2):
        trainer.train_step(next(source).parts(2)[rank])
    future.result()
    dist.barrier()
    save_weights(trainer, folder / "whole", {})
    network, _ = checkpoint.load(shards)
    resumed = _shared_trainer("fsdp", rank, config, network)
    load_state(resumed, shards, 2)
    source = batches(start=2)
    for _ in range(2):
        resumed.train_step(next(source).parts(2)[rank])
    save_weights(resumed, folder / "resumed", {})
    with pytest.raises(InputError, match="fsdp"):
        load_state(_shared_trainer("ddp", rank, config), shards, 2)


@pytest.mark.networks
def test_shared_networks_make_the_step_of_one_process(tmp_path: Path) -> None:
    in_two_processes(_train_shared, tmp_path)
    alone = trained(changed(optimizer=CLIPPED))
    for kind in ("ddp1", "ddp2", "fsdp1", "fsdp2"):
        network, _ = checkpoint.load(tmp_path / kind)
        assert_close(network.state_dict(), weights(alone), 2e-5)


@pytest.mark.networks
def test_a_run_resumes_from_a_sharded_checkpoint(tmp_path: Path) -> None:
    in_two_processes(_resume_shards, tmp_path)
    assert len(list((tmp_path / "shards").glob("*.distcp"))) == 2
    left, right = (load_file(tmp_path / name / "weights.safetensors") for name in ("whole", "resumed"))
    for name, value in left.items():
        assert torch.equal(value, right[name]), name
    assert left.keys() == tiny_network().state_dict().keys()


@pytest.mark.slow
def test_a_compiled_network_makes_the_same_step() -> None:
    assert_close(weights(trained(STILL)), weights(trained(changed(compile=True))), 1e-5)
