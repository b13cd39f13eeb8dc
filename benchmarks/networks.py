"""`python -m benchmarks.networks`: CPU time of a click, for each network.

Each network runs in a separate process in three forms that alternate: as published (eager, contiguous, float32),
prepared in float32, and prepared in bfloat16. Weights are derived from the names of the tensors, so that they are the
same in every run. Differences are to the published form, relative to the standard deviation of its logits.
"""

import copy
import json
import math
import resource
import statistics
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from torch import Tensor

from models.click_maps import collate_clicks
from models.geometry import apply_size_rule
from models.inference import prepare
from models.interaction import Clicks
from models.networks import NETWORKS, create
from models.networks.base import Encoded, Network, SplitNetwork
from pipeline.data.readers import open_reader

IMAGE_HW = (384, 512)
WAYS = ("plain", "fp32", "bf16")
# Milliseconds on one thread (public code, another 2-core machine), and GMACs of first click and correction, if known.
KNOWN = {
    "ritm_hrnet18s": ("365-450 zoomed in, with flip", None, None),
    "simpleclick_vit_base": ("3650-3850 with flip", None, None),
    "simpleclick_vit_xtiny": ("390 with flip", None, None),
    "emc_hrnet18s": ("372 first, 85 correction", 9.35, 1.09),
    "emc_hrnet18": (None, 15.3, 2.25),
    "emc_hrnet32": (None, 40.5, 2.25),
    "emc_segformer_b0": ("245 first, 77 correction", 5.38, 1.09),
    "emc_segformer_b3": (None, 32.3, 2.25),
    "focuscut_resnet50": ("755", None, None),
    "icmformer_vit_base": ("3409", 297.54, None),
}


@dataclass(frozen=True, kw_only=True)
class Options:
    """Measure the CPU time of a click."""

    names: tuple[str, ...] = tuple(name for name in NETWORKS if "huge" not in name)
    """Networks to measure."""
    repeats: int = 5
    """Forwards per form; twice as many for a correction."""
    threads: int = 1
    """Threads of torch."""
    json: Path | None = None
    """File to write the results to."""
    one: str = ""
    """Internal: measure this network in this process and print JSON."""


def seeded(network: Network) -> Network:
    """Fill a network with weights derived from tensor names: matrices of unit gain, norms near 1, biases near 0."""
    state = {}
    for key, tensor in network.state_dict().items():
        if not tensor.is_floating_point():
            state[key] = tensor
            continue
        draws = np.random.default_rng(zlib.crc32(key.encode())).standard_normal(tuple(tensor.shape), np.float32)
        if tensor.ndim >= 2:
            draws /= math.sqrt(math.prod(tensor.shape[1:]))
        elif key.endswith("running_var"):
            draws = 1 + 0.1 * abs(draws)
        else:
            draws = 0.1 * draws + (1 if key.endswith("weight") else 0)
        state[key] = torch.from_numpy(np.asarray(draws, np.float32))
    network.load_state_dict(state)
    return network.eval()


def view_of(network: Network) -> tuple[Tensor, Tensor, Any]:
    """Return an image of 384 x 512 pixels resized for the network, an empty previous mask and three clicks."""
    hw = apply_size_rule(network.traits.size, IMAGE_HW)
    reader = open_reader("scenes", None, "test", {"num_images": "1", "height": str(hw[0]), "width": str(hw[1])})
    image = torch.from_numpy(np.ascontiguousarray(reader.load(reader.items()[0]).image))
    clicks = Clicks.of([(hw[0] * 0.4, hw[1] * 0.5, True), (20, 30, False), (hw[0] * 0.6, hw[1] * 0.4, True)])
    return image.permute(2, 0, 1)[None].float() / 255, torch.zeros(1, 1, *hw), collate_clicks([clicks])


def measure(name: str, repeats: int, threads: int) -> dict[str, Any]:
    """Measure one network; the peak memory includes three copies of it."""
    torch.set_num_threads(threads)
    plain = seeded(create(name))
    result: dict[str, Any] = {"name": name, "parameters": sum(p.numel() for p in plain.parameters())}
    image, prev_mask, clicks = view_of(plain)
    result["hw"] = list(image.shape[2:])
    networks = {
        "plain": copy.deepcopy(plain),
        "fp32": prepare(copy.deepcopy(plain)),
        "bf16": prepare(plain, bf16=True),
    }
    encoded: dict[str, Encoded] = {}

    def first(way: str) -> Tensor:
        network: Any = networks[way]
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=way == "bf16"):
            if isinstance(network, SplitNetwork):
                encoded[way] = network.encode(image, prev_mask, clicks)
                return encoded[way].low_logits.float()
            return network(image, prev_mask, clicks).mask_logits.float()

    def correction(way: str) -> Tensor:
        network: Any = networks[way]
        # The prepared forms share cached features, so that the difference is due to the correction alone.
        cached = encoded["plain" if way == "plain" else "fp32"]
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=way == "bf16"):
            return network.correct(image, cached.features, cached.low_logits, clicks)[0].float()

    result["first"] = compare(first, repeats) | {"gmacs": gmacs(lambda: first("plain"))}
    if isinstance(networks["plain"], SplitNetwork):
        result["correction"] = compare(correction, 2 * repeats) | {"gmacs": gmacs(lambda: correction("plain"))}
    result["peak_gib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return result


def compare(run: Callable[[str], Tensor], repeats: int) -> dict[str, Any]:
    """Return the CPU time in milliseconds (median and minimum) and the differences of the three forms."""
    answers = {way: run(way) for way in WAYS}
    times: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(repeats):
        for way in WAYS:
            started = time.process_time()
            run(way)
            times[way].append(1000 * (time.process_time() - started))
    exact = answers["plain"]
    off = {way: (answers[way] - exact) / exact.std() for way in WAYS[1:]}
    return {
        "ms": {way: statistics.median(values) for way, values in times.items()},
        "least_ms": {way: min(values) for way, values in times.items()},
        "max_off": {way: float(value.abs().max()) for way, value in off.items()},
        "rms_off": {way: float(value.square().mean().sqrt()) for way, value in off.items()},
    }


def gmacs(run: Callable[[], Any]) -> float:
    """Count the multiply-adds of matrix products and convolutions, in billions."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops() / 2e9


def row(result: dict[str, Any], part: str) -> str:
    """Return a line of the table, for a network's first click or its correction."""
    values, (known, first_gmacs, correction_gmacs) = result[part], KNOWN.get(result["name"], (None, None, None))
    ms = values["ms"]
    published = first_gmacs if part == "first" else correction_gmacs
    cells = [
        result["name"] if part == "first" else "  correction",
        f"{result['parameters'] / 1e6:.2f}" if part == "first" else "",
        f"{values['gmacs']:.2f}" + (f" ({published})" if published else ""),
        f"{ms['plain']:.0f}",
        *(f"{ms[way]:.0f} (x {ms[way] / ms['plain']:.2f})" for way in WAYS[1:]),
        f"{values['max_off']['fp32']:.1e}",
        f"{values['rms_off']['bf16']:.3f}",
        (known or "") if part == "first" else "",
    ]
    return "| " + " | ".join(cells) + " |"


def main(options: Options) -> None:
    """Measure each network in a separate process and print a table."""
    if options.one:
        print(json.dumps(measure(options.one, options.repeats, options.threads)))
        return
    print(
        "| network | M parameters | GMACs (published) | published form, ms | fp32, ms | bf16, ms | fp32 off, max "
        "| bf16 off, RMS | public code, ms |"
    )
    print("|" + "---|" * 9, flush=True)
    out: dict[str, Any] = {}
    for name in options.names:
        command = [sys.executable, "-m", "benchmarks.networks", "--one", name, "--repeats", str(options.repeats)]
        done = subprocess.run([*command, "--threads", str(options.threads)], capture_output=True, text=True, check=True)
        result = json.loads(done.stdout.splitlines()[-1])
        for part in ("first", "correction"):
            if part not in result:
                continue
            print(row(result, part), flush=True)
            ms = result[part]["ms"]
            for way in WAYS[1:]:
                out[f"{name} {part} {way}"] = {
                    "value": ms[way], "unit": "ms", "baseline": ms["plain"], "ratio": ms[way] / ms["plain"]
                }  # fmt: skip
    if options.json is not None:
        options.json.write_text(json.dumps(out, indent=2) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Options))
