"""The papers' tables in miniature: number of clicks by training steps on real images, within some minutes.

    python -m benchmarks.gpu.real_training --root DIR/coco_panoptic200 --minutes 9 --json OUT/real_training.json
    python -m benchmarks.gpu.real_training --device cpu --root DIR/coco_panoptic200 --minutes 3 --variants icl \
        --network simpleclick_vit_xtiny --side 224 --batch 4 --looks 1 --objects 6 --workers 1

The variants share the time: RITM's objective, the iterative click loss, the same with SUEM copy-paste, and FocusCut's
two views. Each is evaluated a few times during training on the held-out fifth of the images, with the refinements that
its paper's table compares. Separate processes make the samples and need albumentations.
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from benchmarks.gpu.timing import publish
from benchmarks.learning import HELD_OUT
from models.networks import create
from models.predictor import answer_with
from models.refinement import build, named
from pipeline import metrics
from pipeline.clicks.random_clicks import RandomClicksConfig
from pipeline.data.augment import AugmentConfig
from pipeline.data.config import DataConfig
from pipeline.data.copy_paste import CopyPasteConfig
from pipeline.data.focus_patches import FocusPatchConfig
from pipeline.data.hold_out import HoldOut
from pipeline.data.local import stream
from pipeline.data.readers import open_reader
from pipeline.data.rows import collate
from pipeline.data.sample import Reader
from pipeline.evaluation.config import EvaluationConfig
from pipeline.evaluation.evaluator import choose_objects, evaluate
from pipeline.evaluation.method import Method
from pipeline.evaluation.object_row import ObjectRow
from pipeline.training.batch import to_device
from pipeline.training.config import OptimizerConfig, TrainingConfig
from pipeline.training.loop import Trainer

REFINEMENTS = {"focus": ("standard", "focus")}
USUAL = ("standard", "cfr_1", "zoom_in")


@dataclass(frozen=True)
class Batches(IterableDataset[dict[str, Any]]):
    """Endless batches; each process has a stream with another seed."""

    reader: Reader
    data: DataConfig
    batch: int

    def __iter__(self) -> Iterator[dict[str, Any]]:
        worker = get_worker_info()
        rows = stream(self.reader, replace(self.data, seed=self.data.seed * 1000 + (worker.id if worker else 0)))
        while True:
            yield collate([next(rows) for _ in range(self.batch)])


def variant(name: str, data: DataConfig, training: TrainingConfig) -> tuple[DataConfig, TrainingConfig]:
    """Return the data and training settings of a variant."""
    match name:
        case "ritm":
            return data, replace(training, objective="ritm")
        case "icl":
            return data, replace(training, objective="icl_code")
        case "icl_suem":
            return replace(data, copy_paste=CopyPasteConfig(recipe="exclusive")), replace(
                training, objective="icl_code"
            )
        case "focus":
            close_ups = FocusPatchConfig(enabled=True, size=data.crop_hw[0])
            data = replace(data, focus=close_ups, clicks=RandomClicksConfig(law="walk"))
            return data, replace(training, objective="focus", loss="bce")
    raise ValueError(name)


def played(network: Any, refinement: str, reader: Reader, config: EvaluationConfig, device: torch.device) -> Any:
    """Return the means over objects of IoU after 1 and 5 clicks, and NoC."""
    method = Method(
        name=refinement,
        step=build(named(refinement), network.traits),
        answer=answer_with(network.eval()),
        device=device,
        max_batch=32 if device.type == "cuda" else 1,
    )
    found = evaluate(method, reader, choose_objects(reader.items(), config), config, "held out")
    rows = [row for row in found if isinstance(row, ObjectRow)]
    mean = {f"IoU&{k}": sum(row.ious[min(k, len(row.ious)) - 1] for row in rows) / len(rows) for k in (1, 5)}
    sessions = [row.ious for row in rows]
    clicks = {f"NoC@{round(100 * goal)}": metrics.noc(sessions, goal, config.max_clicks) for goal in config.qualities}
    return {"objects": len(rows), **mean, **clicks}


def main() -> None:
    """Train each variant for an equal share of the time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--root", required=True)
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--variants", nargs="+", default=["ritm", "icl", "icl_suem", "focus"])
    parser.add_argument("--network", default="simpleclick_vit_base")
    parser.add_argument("--side", type=int, default=448)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--looks", type=int, default=3, help="evaluations per variant")
    parser.add_argument("--objects", type=int, default=150)
    parser.add_argument("--workers", type=int, default=14)
    parser.add_argument("--lr", type=float, default=2e-4)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    device = torch.device(args.device)
    source = open_reader("coco_panoptic", args.root)
    training_side = HoldOut(reader=source, fraction=HELD_OUT, side="training")
    held_out = HoldOut(reader=source, fraction=HELD_OUT, side="held_out")
    config = EvaluationConfig(
        max_clicks=10, target_iou=1.0, qualities=(0.85, 0.9), boundaries=False, max_objects=args.objects, min_area=1000
    )
    rows: list[dict[str, Any]] = []
    share = 60 * args.minutes / len(args.variants)
    for name in args.variants:
        began = time.monotonic()
        training = TrainingConfig(
            steps=1_000_000, batch_size=args.batch, precision="bf16" if device.type == "cuda" else "fp32",
            optimizer=OptimizerConfig(lr=args.lr, warmup_steps=20, max_grad_norm=5.0),
        )  # fmt: skip
        data = DataConfig(
            reader="coco_panoptic", crop_hw=(args.side, args.side), window_size=32, min_object_area=300,
            augment=AugmentConfig(scale=(0.7 * args.side / 448, 1.6 * args.side / 448)),
        )  # fmt: skip
        data, training = variant(name, data, training)
        torch.manual_seed(0)
        options = {} if name == "focus" else {"input_hw": (args.side, args.side)}
        network = create("focuscut_resnet50" if name == "focus" else args.network, **options).to(device)
        trainer = Trainer(network=network, module=network, config=training)
        loader = DataLoader(
            Batches(training_side, data, args.batch), batch_size=None, num_workers=args.workers, prefetch_factor=2
        )
        batches = iter(loader)
        for look in range(1, args.looks + 1):
            while time.monotonic() - began < share * look / args.looks:
                trainer.train_step(to_device(next(batches), device))
            trainer.guard.check()
            for refinement in REFINEMENTS.get(name, USUAL):
                found = played(network, refinement, held_out, config, device)
                rows.append({"variant": name, "refinement": refinement, "steps": trainer.step, **found})
                print(rows[-1], flush=True)
        del loader, batches, trainer, network
    publish(rows, device, args.json)


if __name__ == "__main__":
    main()
