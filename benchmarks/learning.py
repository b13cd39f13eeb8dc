"""Check that every objective learns: train the smallest network of its family on real images for some minutes.

    python -m benchmarks.learning emc --root DIR/coco_panoptic200 --minutes 9 --out R/emc

writes the checkpoints R/emc/untrained and R/emc/trained for jobs.evaluate and jobs.compare. A fifth of the images is
held out (`--hold-out 0.2` of jobs.evaluate plays them), and `--leave-out coco_mval=DIR/COCO_MVal_dev` excludes the
seven photos that are also in that evaluation set. Training loop and data stream are those of jobs.train, in one process
on one core and without Ray, so that several runs share a small machine evenly.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from models import checkpoint
from models.networks import create
from models.networks.base import Network
from models.networks.emc import EmcVit
from pipeline.clicks.random_clicks import RandomClicksConfig
from pipeline.data.augment import AugmentConfig
from pipeline.data.config import DataConfig
from pipeline.data.exemplar_columns import ExemplarColumnsConfig
from pipeline.data.focus_patches import FocusPatchConfig
from pipeline.data.hold_out import HoldOut
from pipeline.data.leave_out import training_reader
from pipeline.data.local import stream
from pipeline.data.position import StreamPosition, rebatch
from pipeline.data.rows import collate
from pipeline.training.batch import TrainingBatch, to_device
from pipeline.training.config import EmcConfig, OptimizerConfig, TrainingConfig
from pipeline.training.loop import Trainer, fit
from pipeline.training.record import Used

HELD_OUT = 0.2
ADAM = OptimizerConfig(lr=5e-4, warmup_steps=10, schedule="cosine", max_grad_norm=5.0)
VIEW = (224, 224)
XTINY: dict[str, Any] = {
    "dim": 160, "depth": 8, "heads": 4, "neck_dims": (96, 192, 288, 384), "head_dim": 128, "mimetic_start": True
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Case:
    """A network and its training."""

    network: str
    options: dict[str, Any]
    training: TrainingConfig
    crop_hw: tuple[int, int]
    scale: tuple[float, float] = (0.35, 0.8)
    data: Callable[[DataConfig], DataConfig] = lambda data: data


def _case(network: str, objective: str, crop_hw: tuple[int, int], batch_size: int = 6, **more: Any) -> Case:
    options = more.pop("options", {})
    fields = {name: more.pop(name) for name in ("loss", "aux_weight", "emc") if name in more}
    training = TrainingConfig(objective=objective, batch_size=batch_size, optimizer=ADAM, **fields)
    return Case(network=network, options=options, training=training, crop_hw=crop_hw, **more)


def _first(data: DataConfig) -> DataConfig:
    return replace(data, clicks=RandomClicksConfig(law="first"), keep_background_prob=0.0)


def _focus(data: DataConfig) -> DataConfig:
    return replace(data, focus=FocusPatchConfig(enabled=True, size=160), clicks=RandomClicksConfig(law="walk"))


def _exemplar(data: DataConfig) -> DataConfig:
    return replace(data, exemplar=ExemplarColumnsConfig(enabled=True), keep_background_prob=0.0)


FEW = EmcConfig(max_iterations=6)
CASES: dict[str, Case] = {
    "ritm": _case("ritm_hrnet18s", "ritm", (128, 160), 8, scale=(0.25, 0.6)),
    "emc": _case("emc_segformer_b0", "emc", (192, 256), aux_weight=0.0, emc=FEW, data=_first),
    "focus": _case("focuscut_resnet50", "focus", (160, 160), loss="bce", scale=(0.3, 0.6), data=_focus),
    "icl": _case("simpleclick_vit_xtiny", "icl_code", VIEW, 8, options={"input_hw": VIEW}),
    "exemplar": _case(
        "icmformerpp_vit_base",  # reduced to xTiny's sizes
        "exemplar",
        VIEW,
        8,
        options={**{k: v for k, v in XTINY.items() if k != "mimetic_start"}, "input_hw": VIEW},
        data=_exemplar,
    ),
    # Needs --start: a trained simpleclick_vit_xtiny (case icl), which stays frozen.
    "correction_only": _case(
        "emc_vit_base", "correction_only", VIEW, 8, options={**XTINY, "input_hw": VIEW}, emc=FEW, data=_first
    ),
}


def batches(reader: Any, data: DataConfig, batch_size: int, used: Used) -> Iterator[TrainingBatch]:
    """Yield batches of the local stream."""
    blocks = (collate([row]) for row in stream(reader, data))
    for columns in rebatch(blocks, StreamPosition(), batch_size):
        used.note(columns)
        yield to_device(columns, "cpu")


def build(case: Case, start: str | None) -> Network:
    """Build the network with fresh weights, except those that `start` provides."""
    torch.manual_seed(0)
    network = create(case.network, **case.options)
    if start is not None:
        base, _ = checkpoint.load(start)
        assert isinstance(network, EmcVit), "--start is for correction_only"
        network.load_base(base.state_dict())
    return network


def main() -> None:
    """Train one case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", choices=CASES)
    parser.add_argument("--root", required=True)
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--start")
    parser.add_argument("--leave-out", nargs="*", default=[], help="READER=ROOT of evaluation sets to exclude")
    args = parser.parse_args()
    torch.set_num_threads(1)
    case = CASES[args.case]
    data = case.data(
        DataConfig(
            reader="coco_panoptic",
            root=args.root,
            crop_hw=case.crop_hw,
            window_size=24,
            min_object_area=300,
            augment=AugmentConfig(scale=case.scale),
            leave_out=tuple(args.leave_out),
        )
    )
    whole = training_reader(data)
    reader = HoldOut(reader=whole, fraction=HELD_OUT, side="training")
    network = build(case, args.start)
    checkpoint.save(network, args.out / "untrained")
    # A few steps of a copy give the number of steps that fit into the time.
    probe = Trainer(network=build(case, args.start), module=network, config=replace(case.training, steps=1000))
    probe.runner.module = probe.network
    source = batches(reader, data, case.training.batch_size, Used())
    probe.train_step(next(source))
    began = time.monotonic()
    for _ in range(6):
        probe.train_step(next(source))
    seconds = (time.monotonic() - began) / 6
    steps = max(20, int(60 * args.minutes / seconds))
    print(f"{args.case}: {seconds:.2f} s a step, {steps} steps", flush=True)
    config = replace(case.training, steps=steps, log_every=20, checkpoint_every=steps)
    trainer = Trainer(network=network, module=network, config=config)
    began = time.monotonic()

    def show(step: int, metrics: dict[str, float]) -> None:
        print(f"{args.case} {step}/{steps} loss {metrics['loss']:.3f}", flush=True)

    used = Used()
    fit(trainer, batches(reader, data, config.batch_size, used), show, lambda step, metrics: None)
    checkpoint.save(network, args.out / "trained", photos=used.fingerprints)
    minutes = (time.monotonic() - began) / 60
    (args.out / "run.json").write_text(json.dumps({"steps": steps, "minutes": minutes, "batch": config.batch_size}))
    print(f"{args.case}: {steps} steps in {minutes:.1f} minutes", flush=True)


if __name__ == "__main__":
    main()
