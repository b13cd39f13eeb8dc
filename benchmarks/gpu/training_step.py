"""Images per second, memory and utilisation of the training step with the iterative click loss.

    python -m benchmarks.gpu.training_step --networks simpleclick_vit_base:140 simpleclick_vit_huge:32 \
        --json OUT/training_step.json
    python -m benchmarks.gpu.training_step --device cpu --networks simpleclick_vit_xtiny:4 --side 224 --precision fp32

Three steps alternate on the same batches: ours (`Trainer.train_step`); bare (the same passes and the optimiser, with
given clicks); public (as bare, but with each click found on the host and each loss read, as in the public loops).
Utilisation: floating point operations of all forwards and backwards of a step, relative to `--peak-tflops`.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.gpu.timing import peak_gib, publish, seconds_of, settle
from models.losses import normalized_focal_loss
from models.networks import create
from models.networks.base import Network
from pipeline.clicks.training_clicks import next_clicks
from pipeline.data.readers import open_reader
from pipeline.training.batch import TrainingBatch, to_device
from pipeline.training.config import IclConfig, OptimizerConfig, TrainingConfig
from pipeline.training.loop import Trainer, prepare
from pipeline.training.optimizer import make_optimizer

BETAS = IclConfig().betas
OPTIMIZER = OptimizerConfig(lr=5e-6, max_grad_norm=5.0)
ROWS = 24
PEAK_TFLOPS = 790.0


def batches_of(size: int, side: int, num: int, device: torch.device) -> list[TrainingBatch]:
    """Return batches of random crops of generated scenes, with one click in the object and no augmentation."""
    reader = open_reader("scenes", None, "", {"num_images": "24", "height": str(side + 64), "width": str(side + 64)})
    items, rng = reader.items(), np.random.default_rng(0)
    samples = [reader.load(item) for item in items]
    found = []
    for _ in range(num):
        columns: dict[str, Any] = {
            "image": np.zeros((size, side, side, 3), np.uint8),
            "object_mask": np.zeros((size, side, side), np.uint8),
            "ignore_mask": np.zeros((size, side, side), np.uint8),
            "clicks_yx": np.full((size, 2 * ROWS, 2), -1, np.float32),
            "clicks_valid": np.zeros((size, 2 * ROWS), bool),
        }
        for k in range(size):
            sample = samples[rng.integers(len(samples))]
            mask = sample.object_mask(sample.objects[rng.integers(len(sample.objects))])
            y, x = rng.integers(0, 64, 2)
            columns["image"][k] = sample.image[y : y + side, x : x + side]
            columns["object_mask"][k] = mask[y : y + side, x : x + side]
            inside = np.argwhere(columns["object_mask"][k])
            if len(inside):
                columns["clicks_yx"][k, 0] = inside[rng.integers(len(inside))]
                columns["clicks_valid"][k, 0] = True
        found.append(to_device(columns, device))
    return found


def plain_step(
    network: Network, optimizer: torch.optim.Optimizer, batch: TrainingBatch, precision: str, on_host: bool
) -> float:
    """Make a forward, three forwards with backwards, and an optimiser step; return the loss if it is read.

    Clicks are those of the batch, or (`on_host`) found on the host between the forwards.
    """
    device = batch.image.device
    rng = np.random.default_rng(0)

    def forward(prev_mask: torch.Tensor, clicks: Any) -> torch.Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            return network(batch.image, prev_mask, clicks).mask_logits.float()

    network.train()
    optimizer.zero_grad(set_to_none=True)
    clicks, total = batch.clicks, 0.0
    with torch.no_grad():
        prev_mask = torch.sigmoid(forward(torch.zeros_like(batch.target), clicks))
    for beta in BETAS:
        if on_host:
            clicks = next_clicks(clicks, prev_mask, batch.target, rng, exact=False)
        logits = forward(prev_mask, clicks)
        loss = beta * normalized_focal_loss(logits, batch.target).mean()
        loss.backward()
        if on_host:
            total += loss.item()
        prev_mask = torch.sigmoid(logits.detach())
    torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
    optimizer.step()
    return total


def measure(name: str, size: int, args: Any, device: torch.device) -> dict[str, Any]:
    """Measure one network and return its row of the table."""
    torch.manual_seed(0)
    network = create(name, input_hw=(args.side, args.side)).to(device)
    config = TrainingConfig(
        objective="icl", steps=100_000, batch_size=size, optimizer=OPTIMIZER, precision=args.precision,
        recompute=args.recompute, compile=args.compile,
    )  # fmt: skip
    prepare(network, config)
    trainer = Trainer(network=network, module=network, config=config)
    plain = make_optimizer(network, OPTIMIZER)
    batches = batches_of(size, args.side, 2, device)
    with FlopCounterMode(display=False) as counter:
        trainer.train_step(batches[0])
    flops = counter.get_total_flops()
    for way in (False, True):
        plain_step(network, plain, batches[0], args.precision, way)
    peak_gib(device)
    trainer.train_step(batches[1])
    settle(device)
    peak = peak_gib(device)
    ways: dict[str, Callable[[TrainingBatch], Any]] = {
        "ours": trainer.train_step,
        "bare": lambda batch: plain_step(network, plain, batch, args.precision, False),
        "public": lambda batch: plain_step(network, plain, batch, args.precision, True),
    }
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(args.steps):
        batch = batches[number % 2]
        for way, run in ways.items():
            seconds[way] += seconds_once(run, batch, device)
    ours, bare, public = (statistics.median(seconds[way]) for way in ways)
    prob, rng = torch.rand_like(batches[0].target), np.random.default_rng(0)
    click = statistics.median(
        seconds_of(lambda: next_clicks(batches[0].clicks, prob, batches[0].target, rng), device, budget=3.0)
    )
    return {
        "network": name, "batch": size, "s/step": ours, "images/s": size / ours,
        "against public": statistics.median(b / a for a, b in zip(seconds["ours"], seconds["public"], strict=True)),
        "over bare": statistics.median(a / b for a, b in zip(seconds["ours"], seconds["bare"], strict=True)) - 1,
        "clicks' share": len(BETAS) * click / ours,
        "bare s": bare, "public s": public, "TFLOP/step": flops / 1e12,
        "utilisation": flops / ours / (args.peak_tflops * 1e12), "peak GiB": peak,
    }  # fmt: skip


def seconds_once(run: Callable[[TrainingBatch], Any], batch: TrainingBatch, device: torch.device) -> Sequence[float]:
    """Return the seconds of one step, from an idle device to an idle device."""
    settle(device)
    began = time.perf_counter()
    run(batch)
    settle(device)
    return [time.perf_counter() - began]


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--networks", nargs="+", default=["simpleclick_vit_base:140", "simpleclick_vit_huge:32"])
    parser.add_argument("--side", type=int, default=448)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="bf16")
    parser.add_argument("--recompute", action="store_true")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--peak-tflops", type=float, default=PEAK_TFLOPS)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    device, rows = torch.device(args.device), []
    for entry in args.networks:
        name, size = entry.split(":")
        rows.append(measure(name, int(size), args, device))
        print(rows[-1], flush=True)
    publish(rows, device, args.json)


if __name__ == "__main__":
    main()
