"""What each objective requests from a network, in which mode, and which outputs it scores."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from models.click_maps import ClickBatch
from models.errors import InputError
from models.losses import binary_cross_entropy, normalized_focal_loss
from models.networks.base import Network, SplitNetwork
from models.networks.pooled import pools_views
from pipeline.data.config import DataConfig
from pipeline.data.exemplar_columns import ExemplarColumnsConfig
from pipeline.data.focus_patches import FocusPatchConfig
from pipeline.training.batch import TrainingBatch
from pipeline.training.config import EmcConfig, FocusConfig, ScalingConfig, TrainingConfig
from pipeline.training.loop import Trainer
from pipeline.training.objectives import OBJECTIVES
from pipeline.training.objectives.exemplar import with_exemplar_clicks
from pipeline.training.runner import Runner, rest
from tests.training.toys import TOYS, scene_batches, toy_data


def scene_batch(**data: Any) -> TrainingBatch:
    """Make a batch of generated scenes, as the stream does."""
    return scene_batches(toy_data(DataConfig(**data)), 1)[0]


def of(objective: str) -> TrainingBatch:
    """Make a batch with everything that an objective needs."""
    if objective == "focus":
        return scene_batch(focus=FocusPatchConfig(enabled=True))
    if objective == "exemplar":
        return scene_batch(exemplar=ExemplarColumnsConfig(enabled=True))
    return scene_batch()


def spied(network: Network, *names: str) -> list[tuple[str, tuple[Any, ...], dict[str, Any], bool, bool]]:
    """Record (method, inputs, options, with gradient, in training mode) of calls to a network's methods."""
    calls: list[tuple[str, tuple[Any, ...], dict[str, Any], bool, bool]] = []

    def watch(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def called(*inputs: Any, **options: Any) -> Any:
            calls.append((name, inputs, options, torch.is_grad_enabled(), network.training))
            return method(*inputs, **options)

        return called

    for name in names:
        setattr(network, name, watch(name, getattr(network, name)))
    return calls


def played(objective: str, network: Network, batch: TrainingBatch, config: TrainingConfig, seed: int) -> list[Any]:
    network.train()
    runner = Runner(network, network)
    rngs = (np.random.default_rng(seed), np.random.default_rng(7))
    return list(OBJECTIVES[objective].terms(runner, batch, config, *rngs)[1])


def trains(objective: str, network: Network) -> bool:
    """Whether an objective can train such a network."""
    if objective == "emc":
        return isinstance(network, SplitNetwork)
    return objective != "correction_only" or network.traits.split


@pytest.mark.parametrize("label", TOYS)
@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.networks
def test_a_step_changes_only_the_parts_that_learn(label: str, objective: str) -> None:
    network = TOYS[label]()
    config = TrainingConfig(steps=2, batch_size=2, objective=objective, emc=EmcConfig(max_iterations=2))
    if not trains(objective, network):
        with pytest.raises(InputError, match="correction network"):
            Trainer(network=network, module=network, config=config)
        return
    trainer = Trainer(network=network, module=network, config=config)
    frozen = {name for name, parameter in network.named_parameters() if not parameter.requires_grad}
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    metrics = trainer.train_step(of(objective))
    assert np.isfinite(metrics["loss"])
    assert metrics["grad_norm"] > 0
    after = network.state_dict()
    changed = {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}
    assert len(changed) > 4
    if objective == "correction_only":
        assert frozen
        # Not even the statistics of frozen batch norms move.
        light = ("prompt_encoder.", "mask_decoder.") if network.traits.prompted else ("refiner.",)
        assert all(name.startswith(light) for name in changed)
    else:
        assert not frozen


@pytest.mark.parametrize("label", TOYS)
@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.networks
def test_a_forward_of_one_sample_fails_only_for_networks_that_pool_views(label: str, objective: str) -> None:
    network = TOYS[label]()
    config = TrainingConfig(steps=2, batch_size=2, accumulate=2, objective=objective, emc=EmcConfig(max_iterations=2))
    if not trains(objective, network):
        return
    trainer = Trainer(network=network, module=network, config=config)
    network.train()
    rest(trainer.frozen)
    if not pools_views(network):
        assert np.isfinite(float(trainer.train_step(of(objective))["loss"]))
        return
    assert label in ("ritm", "emc hrnet", "focuscut", "focuscut apart")
    with pytest.raises(InputError, match="at least 2 per forward"):
        trainer.train_step(of(objective))


def test_forwards_of_one_sample_are_counted_for_every_number_of_workers() -> None:
    training = TrainingConfig(batch_size=8, accumulate=2)
    for settings, alone in (
        ({"workers": 1}, []),
        ({"workers": 4}, [4]),
        ({"workers": 1, "max_workers": 4}, [4]),
        ({"workers": 4, "gpu": True}, []),  # batch norms see all workers' samples
        ({"workers": 4, "gpu": True, "sync_batch_norm": False}, [4]),
    ):
        assert ScalingConfig(**settings).forwards_of_one(training) == alone  # pyright: ignore[reportArgumentType]
    assert ScalingConfig(gpu=True).forwards_of_one(TrainingConfig(batch_size=1)) == [1]


@pytest.mark.networks
def test_ritm_predicts_in_evaluation_mode_and_scores_the_last_output_in_training_mode() -> None:
    network, batch = TOYS["ritm"](), scene_batch()
    counts = set()
    for seed in range(16):
        calls = spied(network, "forward")
        (term,) = played("ritm", network, batch, TrainingConfig(), seed)
        *looks, last = calls
        assert [(grad, training) for *_, grad, training in looks] == [(False, False)] * len(looks)
        assert last[3:] == (True, True)
        assert term.requires_grad
        counts.add(len(looks))
        num_clicks = [call[1][2].valid.sum().item() for call in calls]
        assert num_clicks == sorted(num_clicks)
    assert counts == {0, 1, 2, 3}


def test_an_aux_head_is_scored_by_its_own_output() -> None:
    network, batch = TOYS["ritm"](), scene_batch()
    seed = next(s for s in range(50) if np.random.default_rng(s).integers(0, 4) == 0)
    torch.manual_seed(0)
    (term,) = played("ritm", network, batch, TrainingConfig(aux_weight=0.25), seed)
    torch.manual_seed(0)
    out = network(batch.image, torch.zeros_like(batch.target), batch.clicks)
    assert out.aux_logits is not None
    main = normalized_focal_loss(out.mask_logits, batch.target).mean()
    aux = binary_cross_entropy(out.aux_logits, batch.target).mean()
    assert torch.allclose(term, main + 0.25 * aux)
    assert aux > 0.01


def test_emc_corrects_on_the_features_of_the_first_click() -> None:
    network, batch = TOYS["emc segformer"](), scene_batch()
    calls = spied(network, "encode", "correct", "forward")
    config = TrainingConfig(emc=EmcConfig(max_iterations=3, gamma=1.0))
    seed = next(s for s in range(50) if np.random.default_rng(s).random() > 0.8)
    (term,) = played("emc", network, batch, config, seed)
    assert term.requires_grad
    looks = [call for call in calls if not call[3]]
    assert [name for name, *_ in looks] == ["encode"] + ["correct"] * 3
    features = {id(call[1][1]) for call in looks if call[0] == "correct"}
    assert len(features) == 1
    assert len({id(call[1][2]) for call in looks if call[0] == "correct"}) == 3
    (_, inputs, options, grad, training) = next(call for call in calls if call[0] == "forward")
    assert grad
    assert training
    assert not options["low_logits"].requires_grad
    assert inputs[2].valid.sum() > batch.clicks.valid.sum()


def test_a_frozen_base_runs_once_per_step() -> None:
    network, batch = TOYS["emc vit"](), scene_batch()
    config = TrainingConfig(objective="correction_only", steps=1, emc=EmcConfig(max_iterations=2))
    trainer = Trainer(network=network, module=network, config=config)
    calls = spied(network, "run_base")
    trainer.train_step(batch)
    assert [(grad, training) for *_, grad, training in calls] == [(False, False)]


def test_focus_scores_both_views_or_one_in_turn() -> None:
    network, batch = TOYS["focuscut"](), of("focus")
    assert len(played("focus", network, batch, TrainingConfig(), 0)) == 2
    config = TrainingConfig(focus=FocusConfig(order="alternate", iterate_prob=0))
    shown = []
    assert batch.focus is not None
    for step in range(4):
        runner = Runner(network, network)
        runner.step = step
        calls = spied(network, "forward")
        _, terms = OBJECTIVES["focus"].terms(runner, batch, config, np.random.default_rng(0), np.random.default_rng(1))
        assert len(list(terms)) == 1
        shown.append(calls[0][1][0] is batch.focus.image)
    assert shown == [False, True, False, True]


def test_separate_close_up_weights_learn_only_from_the_close_up() -> None:
    network, batch = TOYS["focuscut apart"](), of("focus")
    config = TrainingConfig(focus=FocusConfig(order="alternate", iterate_prob=0))
    runner = Runner(network, network)
    runner.step = 1
    _, terms = OBJECTIVES["focus"].terms(runner, batch, config, np.random.default_rng(0), np.random.default_rng(1))
    next(terms).backward()
    with_gradient = {name for name, parameter in network.named_parameters() if parameter.grad is not None}
    assert with_gradient
    assert all(name.startswith("focus.") for name in with_gradient)


@pytest.mark.parametrize("objective", ["focus", "exemplar"])
def test_a_stream_without_the_objectives_columns_is_refused(objective: str) -> None:
    network = TOYS["focuscut"]()
    with pytest.raises(InputError, match=f"--data.{objective}.enabled"):
        played(objective, network, scene_batch(), TrainingConfig(), 0)


def test_a_network_without_exemplars_starts_from_its_mask_and_clicks() -> None:
    network, batch = TOYS["simpleclick"](), of("exemplar")
    assert batch.exemplar is not None
    seed = next(s for s in range(50) if np.random.default_rng(s).integers(0, 4) == 0)
    calls = spied(network, "forward")
    played("exemplar", network, batch, TrainingConfig(), seed)
    (_, (_, prev_mask, clicks), *_) = calls[0]
    assert torch.equal(prev_mask, batch.exemplar.mask)
    given = batch.exemplar.positive.valid.sum() + batch.exemplar.true_negative.valid.sum()
    assert clicks.valid.sum() == batch.clicks.valid.sum() + given


def test_exemplar_clicks_stay_in_the_half_of_their_sign() -> None:
    batch = of("exemplar")
    assert batch.exemplar is not None
    clicks: ClickBatch = with_exemplar_clicks(batch.clicks, batch.exemplar)
    half = clicks.valid.shape[1] // 2
    assert clicks.positive[:, :half].all()
    assert not clicks.positive[:, half:].any()
    assert clicks.first.sum() == batch.clicks.first.sum()
    target = batch.target[:, 0]
    for sample, row in clicks.valid.nonzero().tolist():
        y, x = clicks.yx[sample, row].int().tolist()
        assert bool(target[sample, y, x] == 1) == (row < half)
