"""Time of the distance transform and of the next click of a batch, on the device and with OpenCV on all cores.

    python -m benchmarks.gpu.clicks --json OUT/clicks.json

The host version includes what the public loop does: copying probabilities to the host, two 5x5 transforms per sample,
each on a thread, and copying clicks back. On CUDA, the device version raises an error if it would synchronise.
"""

import argparse
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from benchmarks.gpu.timing import peak_gib, percentiles, publish, seconds_of
from models.click_maps import ClickBatch
from pipeline.clicks.device_distance import label_distances
from pipeline.clicks.training_clicks import error_labels, next_clicks


def scene(batch: int, side: int) -> tuple[Tensor, Tensor]:
    """Return smooth probabilities and blob-shaped targets, float32 (b, 1, side, side)."""
    rng = np.random.default_rng(0)

    def blobs() -> np.ndarray:
        small = rng.random((side // 32 + 2, side // 32 + 2)).astype(np.float32)
        return np.clip(cv2.resize(small, (side, side), interpolation=cv2.INTER_CUBIC), 0, 1)

    prob = torch.from_numpy(np.stack([blobs() for _ in range(batch)]))[:, None]
    target = torch.from_numpy(np.stack([blobs() > 0.5 for _ in range(batch)]))[:, None].float()
    return prob, target


def no_clicks(batch: int, rows: int = 24) -> ClickBatch:
    """Return an empty batch of clicks with room for `rows` of each sign."""
    positive = (torch.arange(2 * rows) < rows).expand(batch, -1)
    valid = torch.zeros(batch, 2 * rows, dtype=torch.bool)
    return ClickBatch(torch.full((batch, 2 * rows, 2), -1.0), positive, valid, valid)


def on_threads(labels: np.ndarray, pool: ThreadPoolExecutor, precise: bool) -> list[np.ndarray]:
    """Return the sum of the distance transforms of both errors for each sample, by OpenCV."""

    def one(errors: np.ndarray) -> np.ndarray:
        mask = cv2.DIST_MASK_PRECISE if precise else 5
        padded = [np.pad(errors == label, 1).astype(np.uint8) for label in (1, 2)]
        return sum((cv2.distanceTransform(part, cv2.DIST_L2, mask) for part in padded), np.zeros((), np.float32))

    return list(pool.map(one, labels))


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--batches", nargs="+", type=int, default=[32, 140])
    parser.add_argument("--side", type=int, default=448)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    device, cores = torch.device(args.device), os.cpu_count() or 1
    cv2.setNumThreads(1)
    rows: list[dict[str, Any]] = []
    with ThreadPoolExecutor(cores) as pool:
        for batch in args.batches:
            prob, target = (part.to(device) for part in scene(batch, args.side))
            clicks = no_clicks(batch).to(device)
            labels = error_labels(prob[:, 0], target[:, 0])
            on_host = labels.cpu().numpy()
            rng = np.random.default_rng(0)
            next_clicks(clicks, prob, target, rng, exact=True)  # compiles
            peak_gib(device)

            def device_click(clicks: Any = clicks, prob: Any = prob, target: Any = target, rng: Any = rng) -> None:
                if device.type == "cuda":
                    torch.cuda.set_sync_debug_mode("error")
                try:
                    next_clicks(clicks, prob, target, rng, exact=True)
                finally:
                    if device.type == "cuda":
                        torch.cuda.set_sync_debug_mode("default")

            ways = {
                "transform, device": lambda labels=labels: label_distances(labels),
                "click, device": device_click,
                f"transform, OpenCV precise, {cores} threads": lambda m=on_host: on_threads(m, pool, True),
                f"transform, OpenCV 5x5, {cores} threads": lambda m=on_host: on_threads(m, pool, False),
                "click, host": lambda c=clicks, p=prob, t=target: next_clicks(
                    c, p, t, np.random.default_rng(0), exact=False
                ),
            }
            for name, run in ways.items():
                p50, p99 = percentiles(seconds_of(run, device, budget=args.seconds))
                rows.append({"what": name, "batch": batch, "p50 ms": p50, "p99 ms": p99, "peak GiB": peak_gib(device)})
                print(rows[-1], flush=True)
    publish(rows, device, args.json)


if __name__ == "__main__":
    main()
