"""Two workers make the step of one, for every family and every objective that freezes or leaves out parts."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.fsdp import FSDPModule
from torch.nn.modules.batchnorm import _BatchNorm

from models.errors import InputError
from models.precision import Precision
from pipeline.data.config import DataConfig
from pipeline.data.exemplar_columns import ExemplarColumnsConfig
from pipeline.data.focus_patches import FocusPatchConfig
from pipeline.training.batch import TrainingBatch
from pipeline.training.config import EmcConfig, OptimizerConfig, ScalingConfig, TrainingConfig
from pipeline.training.loop import Trainer
from pipeline.training.objectives import OBJECTIVES
from pipeline.training.parallel import (
    Parallel,
    may_leave_out,
    running_statistics,
    share_buffers,
    with_synchronised_norms,
)
from tests.training.toys import TOYS, scene_batches, toy_data
from tests.training.workers import in_two_processes, trainer_of

pytestmark = pytest.mark.xdist_group("sharing")  # one process makes the fixture
BASE = TrainingConfig(
    steps=4,
    batch_size=4,
    optimizer=OptimizerConfig(lr=1e-2, name="sgd", max_grad_norm=1.0),
    emc=EmcConfig(max_iterations=1),
)
# Toy, objective. HRNet's aux head, SegFormer's stages, a frozen base, two views of shared weights, an exemplar's guide.
CASES = {
    "hrnet": ("ritm", "ritm"),
    "split hrnet": ("emc hrnet", "emc"),
    "split segformer": ("emc segformer", "emc"),
    "frozen base": ("emc vit", "correction_only"),
    "two views": ("focuscut", "focus"),
    "exemplar": ("icmformerpp", "exemplar"),
    "swin": ("icmformer swin", "icl"),
}
KINDS: tuple[Parallel, ...] = ("ddp", "fsdp")
STEPS = 2


def config_of(objective: str, precision: Precision = "fp32") -> TrainingConfig:
    return replace(BASE, objective=objective, precision=precision)


def batches_of(objective: str) -> list[TrainingBatch]:
    data = toy_data(DataConfig(reader="scenes"))
    if objective == "focus":
        data = replace(data, focus=FocusPatchConfig(enabled=True, size=64, coarse_size=64))
    if objective == "exemplar":
        data = replace(data, exemplar=ExemplarColumnsConfig(enabled=True))
    return scene_batches(data, STEPS)


def state_of(trainer: Trainer) -> dict[str, Any]:
    if isinstance(trainer.network, FSDPModule):
        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        return cast(dict[str, Any], get_model_state_dict(trainer.network, options=options))
    return trainer.network.state_dict()


def steps_of(kind: Parallel, case: str, precision: Precision = "fp32") -> dict[str, Any]:
    """Let all workers see the same samples and draw rank 0's numbers, so that they must agree on the step of one."""
    toy, objective = CASES[case]
    trainer = trainer_of(kind, 0, config_of(objective, precision), TOYS[toy]())
    for batch in batches_of(objective):
        trainer.train_step(batch)
    return state_of(trainer)


def _all_cases(rank: int, folder: Path) -> None:
    for kind in KINDS:
        for case in CASES:
            state = steps_of(kind, case)
            if not rank:
                torch.save(state, folder / f"{kind} {case}.pt")
        for case in ("hrnet", "frozen base"):
            state = steps_of(kind, case, "bf16")
            if not rank:
                torch.save(state, folder / f"{kind} {case} bf16.pt")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Use as many threads as the workers: more of them round differently, and a click may land elsewhere."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of the two workers."""
    folder = tmp_path_factory.mktemp("sharing")
    in_two_processes(_all_cases, folder)
    return folder


@pytest.mark.networks
@pytest.mark.timeout(300)
@pytest.mark.parametrize("case", CASES)
def test_two_workers_make_the_step_of_one(shared: Path, case: str) -> None:
    alone = steps_of("ddp", case)
    start = TOYS[CASES[case][0]]().state_dict()
    assert any(not torch.equal(alone[name], value) for name, value in start.items())
    for kind in KINDS:
        state = torch.load(shared / f"{kind} {case}.pt")
        assert state.keys() == alone.keys()
        for name, value in alone.items():
            assert torch.allclose(state[name].float(), value.float(), rtol=1e-3, atol=5e-5), f"{kind}: {name}"


@pytest.mark.networks
@pytest.mark.timeout(300)
@pytest.mark.parametrize("case", ["hrnet", "frozen base"])
def test_two_workers_in_bf16_stay_near_the_step_of_one(shared: Path, case: str) -> None:
    alone, start = steps_of("ddp", case, "bf16"), TOYS[CASES[case][0]]().state_dict()
    learnt = {
        name for name, value in alone.items() if value.is_floating_point() and not torch.equal(value, start[name])
    }
    assert learnt
    for kind in KINDS:
        state = torch.load(shared / f"{kind} {case} bf16.pt")
        off = sum(float((state[name] - alone[name]).square().sum()) for name in learnt)
        moved = sum(float((alone[name] - start[name]).square().sum()) for name in learnt)
        assert off < 0.05 * moved, kind


OF_SPLIT = {"emc", "correction_only"}
PAIRS = [(toy, objective) for toy in TOYS for objective in OBJECTIVES if "emc " in toy or objective not in OF_SPLIT]
PAIRS += [(toy, "correction_only") for toy in TOYS if "sam" in toy or toy == "lite"]
SOMETIMES_IDLE = {"focuscut apart", "icmformerpp", "sam", "mobile_sam", "sam2", "lite"}
"""Kinds with parts that a forward may skip: separate weights for close-ups, an exemplar's guide, other prompts."""


@pytest.mark.networks
@pytest.mark.parametrize("toy", TOYS)
def test_only_networks_with_conditional_parts_leave_parameters_without_gradient(toy: str) -> None:
    left: set[str] = set()
    for objective in [objective for name, objective in PAIRS if name == toy]:
        network = TOYS[toy]()
        trainer = trainer_of("ddp", 0, config_of(objective), network)
        expected = {
            name
            for name, parameter in network.named_parameters()
            if any(parameter is own for part in network.conditional() for own in part.parameters())
        }
        trainer.train_step(batches_of(objective)[0])
        learn = {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}
        unused = {name for name, parameter in learn.items() if parameter.grad is None}
        assert unused <= expected, objective
        assert may_leave_out(network) == bool(expected & learn.keys())
        left |= unused
    assert bool(left) == (toy in SOMETIMES_IDLE)


def _together() -> list[tuple[str, str]]:
    """Return all pairs of kinds that may leave a part out, and one of each other kind: the test above covers those."""
    pairs = {toy: [pair for pair in PAIRS if pair[0] == toy] for toy in TOYS}
    steady = [toy for toy in TOYS if toy not in SOMETIMES_IDLE]
    return [
        *(pair for pair in PAIRS if pair[0] in SOMETIMES_IDLE),
        *(pairs[toy][k % len(pairs[toy])] for k, toy in enumerate(steady)),
    ]


TOGETHER = _together()


def _all_pairs(rank: int, folder: Path) -> None:
    batches = {objective: batches_of(objective) for objective in OBJECTIVES}
    for toy, objective in TOGETHER:
        trainer = trainer_of("ddp", rank, config_of(objective), TOYS[toy]())
        # Parameters that one step leaves out raise an error in the next step's forward.
        losses = [float(trainer.train_step(batch)["loss"]) for batch in batches[objective]]
        (folder / f"{toy} {objective} {rank}.json").write_text(
            json.dumps({"losses": losses, "looks": trainer.module.find_unused_parameters})
        )


@pytest.mark.networks
@pytest.mark.timeout(400)
def test_every_objective_trains_every_kind_of_network_on_two_workers(tmp_path: Path) -> None:
    in_two_processes(_all_pairs, tmp_path)
    for toy, objective in TOGETHER:
        found = [json.loads((tmp_path / f"{toy} {objective} {rank}.json").read_text()) for rank in range(2)]
        assert all(np.isfinite(each["losses"]).all() for each in found), (toy, objective)
        assert {each["looks"] for each in found} == {toy in SOMETIMES_IDLE}, (toy, objective)


def _no_example(rank: int, folder: Path) -> None:
    """Train on a batch without any exemplar, from which the guide learns nothing."""
    trainer = trainer_of("ddp", rank, config_of("exemplar"), TOYS["icmformerpp"]())
    batches = batches_of("exemplar")
    assert batches[0].exemplar is not None
    nothing = torch.zeros_like(batches[0].exemplar.mask)
    empty = replace(batches[0], exemplar=replace(batches[0].exemplar, mask=nothing))
    for batch in (empty, batches[1]):
        assert np.isfinite(float(trainer.train_step(batch)["loss"]))


@pytest.mark.networks
def test_two_workers_train_on_a_batch_without_an_exemplar(tmp_path: Path) -> None:
    in_two_processes(_no_example, tmp_path)


def _own_samples(rank: int, folder: Path) -> None:
    """Make a step on this rank's samples, then share the statistics as at the start of the next."""
    trainer = trainer_of("ddp", rank, config_of("ritm"), TOYS["ritm"]())
    trainer.train_step(batches_of("ritm")[rank])
    before = [statistic.clone() for statistic in trainer.statistics]
    share_buffers(trainer.statistics)
    torch.save((before, trainer.statistics), folder / f"{rank}.pt")


@pytest.mark.networks
def test_all_workers_start_a_step_with_the_statistics_of_rank_zero(tmp_path: Path) -> None:
    in_two_processes(_own_samples, tmp_path)
    (own0, after0), (own1, after1) = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert any(not torch.equal(left, right) for left, right in zip(own0, own1, strict=True))
    for first, one, other in zip(own0, after0, after1, strict=True):
        assert torch.equal(first, one)
        assert torch.equal(first, other)


def test_synchronised_norms_keep_names_parameters_and_statistics() -> None:
    network = TOYS["ritm"]()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    num = len(running_statistics(network))
    changed = with_synchronised_norms(network)
    assert all(isinstance(part, nn.SyncBatchNorm) for part in changed.modules() if isinstance(part, _BatchNorm))
    assert len(running_statistics(changed)) == num > 0
    after = changed.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_compiled_shards_are_refused() -> None:
    with pytest.raises(InputError, match="fsdp"):
        ScalingConfig(parallel="fsdp").check_batch(replace(BASE, compile=True))
