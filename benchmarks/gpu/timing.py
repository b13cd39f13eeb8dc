"""Timing and output that the GPU benchmarks share."""

import json
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch


def settle(device: torch.device) -> None:
    """Wait until the device has finished all work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds_of(run: Callable[[], Any], device: torch.device, *, least: int = 3, most: int = 200, budget: float = 4.0
) -> list[float]:  # fmt: skip
    """Return the seconds of each call, after two to warm up: `least` to `most` calls, for about `budget` seconds."""
    for _ in range(2):
        run()
    settle(device)
    found: list[float] = []
    began = time.monotonic()
    while len(found) < least or (len(found) < most and time.monotonic() - began < budget):
        started = time.perf_counter()
        run()
        settle(device)
        found.append(time.perf_counter() - started)
    return found


def percentiles(seconds: Sequence[float]) -> tuple[float, float]:
    """Return the median and the 99th percentile in milliseconds."""
    ordered = sorted(seconds)
    return 1e3 * statistics.median(ordered), 1e3 * ordered[min(len(ordered) - 1, round(0.99 * (len(ordered) - 1)))]


def peak_gib(device: torch.device) -> float:
    """Return the peak memory of tensors since the last call in GiB; 0 on a CPU."""
    if device.type != "cuda":
        return 0.0
    peak = torch.cuda.max_memory_allocated(device) / 2**30
    torch.cuda.reset_peak_memory_stats(device)
    return peak


def where(device: torch.device) -> dict[str, str]:
    """Return the device, the torch version and the commit of a measurement."""
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    asked = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return {"device": card, "torch": torch.__version__, "commit": asked.stdout.strip() or "unknown"}


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Format rows as a Markdown table with the columns of the first row."""
    names = list(rows[0])
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    lines += ["| " + " | ".join(_cell(row.get(name, "")) for name in names) + " |" for row in rows]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def publish(rows: Sequence[dict[str, Any]], device: torch.device, path: Path | None) -> None:
    """Print the table and write the JSON."""
    place = where(device)
    print(f"{place['device']}, torch {place['torch']}, commit {place['commit']}\n")
    print(table(rows), flush=True)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({**place, "rows": list(rows)}, indent=2) + "\n")
