"""Overhead of the training step over the bare forward and backward passes of the same network.

    python -m benchmarks.train --steps 8 [--json OUT]

Both alternate in one run, on the same batches and one thread. The training step is `Trainer.train_step` with the
iterative click loss (the paper's form: a first forward and three scored ones). The bare step has the same passes with
given clicks, the loss, clipping and the optimiser. The difference is placing three clicks per sample, and bookkeeping.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from models.losses import normalized_focal_loss
from models.networks import create
from models.networks.base import Network
from pipeline.clicks.training_clicks import next_clicks
from pipeline.data.augment import AugmentConfig
from pipeline.data.config import DataConfig
from pipeline.data.local import stream
from pipeline.data.readers import open_reader
from pipeline.data.rows import collate
from pipeline.training.batch import TrainingBatch, to_device
from pipeline.training.config import IclConfig, OptimizerConfig, TrainingConfig
from pipeline.training.loop import Trainer
from pipeline.training.optimizer import make_optimizer

HW = (224, 224)
OPTIMIZER = OptimizerConfig(lr=1e-5, max_grad_norm=5.0)
BETAS = IclConfig().betas


def timed(call: Callable[[], object]) -> float:
    """Return the CPU seconds of a call."""
    began = time.process_time()
    call()
    return time.process_time() - began


def bare_step(network: Network, optimizer: torch.optim.Optimizer, batch: TrainingBatch) -> None:
    """Make a forward, three forwards with backwards, and an optimiser step, all with the clicks of the batch."""
    network.train()
    optimizer.zero_grad(set_to_none=True)
    with torch.no_grad():
        prev_mask = torch.sigmoid(network(batch.image, torch.zeros_like(batch.target), batch.clicks).mask_logits)
    for beta in BETAS:
        logits = network(batch.image, prev_mask, batch.clicks).mask_logits
        (beta * normalized_focal_loss(logits, batch.target).mean()).backward()
        prev_mask = torch.sigmoid(logits.detach())
    torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
    optimizer.step()


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="simpleclick_vit_xtiny")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    data = DataConfig(crop_hw=HW, window_size=args.batch, min_object_area=300, augment=AugmentConfig(scale=(0.7, 1.1)))
    rows = stream(open_reader("scenes", None, "", {"num_images": "32"}), data)
    batches = [to_device(collate([next(rows) for _ in range(args.batch)]), "cpu") for _ in range(args.steps + 1)]
    torch.manual_seed(0)
    network = create(args.network, input_hw=HW)
    config = TrainingConfig(objective="icl", steps=1000, batch_size=args.batch, optimizer=OPTIMIZER)
    trainer = Trainer(network=network, module=network, config=config)
    bare_optimizer = make_optimizer(network, OPTIMIZER)
    rng = np.random.default_rng(0)
    seconds: dict[str, list[float]] = {"step": [], "bare": [], "clicks": []}
    for number, batch in enumerate(batches):
        prob = torch.rand_like(batch.target)
        found = {
            "step": timed(lambda batch=batch: trainer.train_step(batch)),
            "bare": timed(lambda batch=batch: bare_step(network, bare_optimizer, batch)),
            "clicks": timed(lambda batch=batch, prob=prob: next_clicks(batch.clicks, prob, batch.target, rng)),
        }
        if number:  # the first one warms up
            for name, value in found.items():
                seconds[name].append(value)
    step, bare, clicks = (statistics.median(seconds[name]) for name in ("step", "bare", "clicks"))
    overhead = statistics.median(a / b for a, b in zip(seconds["step"], seconds["bare"], strict=True)) - 1
    print(f"| {args.network}, batch {args.batch}, {HW[0]} pixels | CPU s |")
    print("|---|---|")
    print(f"| our step | {step:.3f} |")
    print(f"| bare forwards and backwards | {bare:.3f} |")
    print(f"| one click for each sample | {clicks:.4f} |")
    print(f"overhead of our step: {overhead:+.1%} (median of {args.steps} pairs)")
    if args.json:
        result = {"step": {"value": step, "unit": "s", "baseline": bare, "ratio": 1 + overhead}}
        args.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
