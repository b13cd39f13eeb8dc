"""Latency of a click at batch 1 and views per second at larger batches, for first clicks and corrections.

    python -m benchmarks.gpu.latency --json OUT/latency.json
    python -m benchmarks.gpu.latency --device cpu --networks emc_segformer_b0 --batches 1 2 --seconds 1

`gain`: views per second compared with the same network at batch 1.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu.timing import peak_gib, percentiles, publish, seconds_of
from benchmarks.networks import seeded, view_of
from models.click_maps import ClickBatch
from models.inference import prepare
from models.networks import create
from models.networks.base import Network, SplitNetwork

NETWORKS = ("simpleclick_vit_base", "simpleclick_vit_huge", "emc_hrnet18s", "emc_segformer_b3", "emc_vit_huge")
FORMS = ("fp32", "bf16", "bf16 compiled")


def repeated(tensor: Tensor, batch: int) -> Tensor:
    """Repeat a view `batch` times."""
    return tensor.repeat(batch, *[1] * (tensor.ndim - 1))


def parts_of(network: Network, form: str, batch: int, device: torch.device) -> dict[str, Callable[[], Tensor]]:
    """Return the calls to time on `batch` views: the whole network, or the two halves of a split one."""
    image, prev_mask, clicks = view_of(network)
    fields = (clicks.yx, clicks.positive, clicks.valid, clicks.first)
    clicks = ClickBatch(*(repeated(field, batch) for field in fields)).to(device)
    image, prev_mask = repeated(image, batch).to(device), repeated(prev_mask, batch).to(device)
    whole: Any = network
    if form.endswith("compiled"):
        whole.compile()
        for half in ("encode", "correct"):
            if hasattr(whole, half):
                setattr(whole, half, torch.compile(getattr(whole, half)))

    def timed(call: Callable[[], Any]) -> Callable[[], Any]:
        def run() -> Any:
            with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=form != "fp32"):
                return call()

        return run

    if not isinstance(network, SplitNetwork):
        return {"first": timed(lambda: whole(image, prev_mask, clicks))}
    first = timed(lambda: whole.encode(image, prev_mask, clicks))
    cached = first()
    return {
        "first": first,
        "correction": timed(lambda: whole.correct(image, cached.features, cached.low_logits, clicks)),
    }


def measure(name: str, form: str, batches: list[int], device: torch.device, budget: float) -> Iterator[dict[str, Any]]:
    """Yield the rows of one network in one form."""
    one: dict[str, float] = {}
    for batch in batches:
        network = prepare(seeded(create(name)), bf16=form != "fp32").to(device)
        peak_gib(device)
        try:
            for part, run in parts_of(network, form, batch, device).items():
                p50, p99 = percentiles(seconds_of(run, device, budget=budget))
                rate = 1e3 * batch / p50
                one.setdefault(part, rate)
                yield {
                    "network": name, "part": part, "form": form, "batch": batch, "p50 ms": p50, "p99 ms": p99,
                    "views/s": rate, "gain": rate / one[part], "peak GiB": peak_gib(device),
                }  # fmt: skip
        except torch.OutOfMemoryError:
            yield {"network": name, "part": "", "form": form, "batch": batch, "p50 ms": "out of memory"}
            return
        finally:
            del network
            torch.compiler.reset()


def main() -> None:
    """Measure as much as the time allows, in order of importance."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--networks", nargs="+", default=NETWORKS)
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=FORMS)
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8, 32, 128])
    parser.add_argument("--seconds", type=float, default=3.0, help="seconds per figure")
    parser.add_argument(
        "--limit", type=float, default=560.0, help="seconds in total; measurements that do not fit are listed"
    )
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    device, began = torch.device(args.device), time.monotonic()
    rows: list[dict[str, Any]] = []
    for form in args.forms:
        # Compiled only at batch 1, for latency: compilation takes minutes per batch size.
        batches = args.batches[:1] if form.endswith("compiled") else args.batches
        for name in args.networks:
            if time.monotonic() - began > args.limit:
                print(f"skipped, no time left: {name} {form}", flush=True)
                continue
            for row in measure(name, form, batches, device, args.seconds):
                rows.append(row)
                print(row, flush=True)
    publish(rows, device, args.json)


if __name__ == "__main__":
    main()
