"""`python -m jobs.export --checkpoint DIR --out DIR`: write a network as ONNX files and check them in onnxruntime.

docs/ONNX.md describes their inputs and outputs. `--as half` writes a checkpoint of half the size instead.
"""

import dataclasses
import importlib.metadata
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from jobs.cli import as_dict, new_folder, parse, run_job
from models import checkpoint, export
from models.box import DEFAULT
from models.errors import InputError
from models.fast import swap
from models.files import write_json
from models.fingerprints import trained_on
from models.networks.base import Network
from models.storage import without_key
from models.working import whole_place


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Export a network to ONNX and compare its outputs with torch. Exit status 1: they differ, and nothing is kept."""

    checkpoint: str = DEFAULT
    """Checkpoint: a folder, an address (s3://BUCKET/FOLDER) or maskwright:NAME."""
    out: str
    """New or empty folder, or address (s3://BUCKET/FOLDER), for the .onnx files and their description, export.json."""
    kind: Annotated[Literal["onnx", "half"], tyro.conf.arg(name="as")] = "onnx"
    """What to write: ONNX files, or (half) the same checkpoint with weights in half precision."""
    input_hw: tuple[int, int] | None = None
    """Height and width of views in pixels, for networks that take one size; default: the checkpoint's."""


def main(argv: Sequence[str]) -> int:
    """Parse the flags, export, and keep the files if they agree with torch."""
    config = parse(ExportConfig, argv, prog="export")
    out = new_folder("--out", config.out)
    described = checkpoint.describe(config.checkpoint)
    if config.input_hw is not None and "input_hw" not in described["config"]:
        raise InputError(f"--input-hw: {described['network']} has no view size to set; leave the flag out")
    options: dict[str, Any] = {} if config.input_hw is None else {"input_hw": config.input_hw}
    network, description = checkpoint.load(config.checkpoint, **options)
    if config.kind == "half":
        write_half(network, description, out)
        return 0
    try:
        with whole_place(out) as folder:
            written = {
                "network": network.name,
                "config": as_dict(network.config),
                "checkpoint_sha256": description["sha256"],
                "opset": export.OPSET,
                "versions": {name: importlib.metadata.version(name) for name in ("torch", "onnx", "onnxruntime")},
                "tolerance": export.TOLERANCE,
                "graphs": [export_graph(graph, folder) for graph in export.graphs(swap(network))],
            }
            write_json(folder / "export.json", written)
    except DisagreementError as error:
        print(f"error: the outputs of {error}.onnx differ from torch's; nothing was kept", file=sys.stderr)
        return 1
    print(f"-> {without_key(out)}")
    return 0


def write_half(network: Network, description: dict[str, Any], out: str) -> None:
    """Write the checkpoint with weights in half precision and print their size."""
    info = description["info"] | {"half_of": description["sha256"]}
    state = checkpoint.in_half(network)
    with whole_place(out) as folder:
        checkpoint.save(network, folder, state=state, photos=trained_on(description), **info)
        size = (folder / checkpoint.WEIGHTS).stat().st_size
    print(f"{checkpoint.WEIGHTS} {size / 1e6:.1f} MB -> {without_key(out)}")


class DisagreementError(Exception):
    """The outputs of the graph of this name differ from torch's."""


def export_graph(graph: export.Graph, folder: Path) -> dict[str, Any]:
    """Write, check and time one graph; return its part of export.json. Raises DisagreementError if a check fails."""
    path = folder / f"{graph.name}.onnx"
    used = export.write(graph, path)
    files = {file.name: file.stat().st_size for file in sorted(folder.glob(f"{path.name}*"))}
    print(", ".join(f"{name} {size / 1e6:.1f} MB" for name, size in files.items()), flush=True)
    checks = export.check(graph, path)
    for check in checks:
        said = "not comparable (rounding decides)" if check.difference is None else f"{check.difference:.1e}"
        height, width = check.sizes.hw
        print(
            f"  batch {check.sizes.batch}, clicks {check.sizes.clicks}, {height} x {width}: difference {said} of the "
            f"standard deviation (at most {check.allowed:.0e})",
            flush=True,
        )
    if export.disagree(checks):
        raise DisagreementError(graph.name)
    of_torch, of_onnx = export.milliseconds(graph, path)
    print(f"  one click: torch {of_torch:.0f} ms, onnxruntime {of_onnx:.0f} ms", flush=True)
    free = {"multiple_of": graph.multiple, "at_least": export.MIN_SIDE}
    ports = [dataclasses.asdict(port) for port in graph.inputs]
    return {
        "files": files,
        "inputs": [port for port in ports if port["name"] in used],
        "unused": [port["name"] for port in ports if port["name"] not in used],
        "outputs": [dataclasses.asdict(port) for port in graph.outputs],
        "sides": free if graph.hw is None else {"fixed": graph.hw},
        "checks": [
            {**dataclasses.asdict(check.sizes), "difference": check.difference, "allowed": check.allowed}
            for check in checks
        ],
        "milliseconds": {"torch": of_torch, "onnxruntime": of_onnx},
    }


if __name__ == "__main__":
    run_job(main)
