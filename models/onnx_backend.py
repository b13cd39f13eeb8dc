"""Requests answered by onnxruntime on the CPU: a checkpoint's ONNX files, made once, and an Answer on them.

The files lie beside the checkpoint, or where its folder cannot be written in a cache, under a name that holds the
weights' SHA-256 and onnxruntime's version.
"""

import importlib.metadata
import logging
import os
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models import checkpoint, export
from models.click_maps import collate_clicks
from models.errors import InputError
from models.files import whole_folder
from models.interaction import Clicks
from models.networks.base import Network
from models.networks.sam import Sam
from models.steps import Answer, Correct, Encode, Example, Prompt, Request, Segment, Start

logger = logging.getLogger("maskwright.models")
EXEMPLAR_LISTS = ("positive", "true_negative", "pseudo_negative")
AT_THE_CLICK: tuple[Tensor, ...] = ()
"""Answers `Start` of a network whose graph begins with the clicks: all is done with them."""


def onnx_files(folder: str | Path) -> Path:
    """Find the folder with a checkpoint's ONNX files; they are made now if there are none.

    Raises InputError for a network that cannot be exported, and where there is no place for the files.
    """
    folder = Path(folder)
    name = f"onnx-{checkpoint.describe(folder)['sha256'][:12]}-{importlib.metadata.version('onnxruntime')}"
    cache = Path(os.environ.get("MASKWRIGHT_CACHE") or "~/.cache/maskwright").expanduser()
    for place in (folder / name, cache / name):
        if place.is_dir():
            return place
    place = _writable(folder, cache) / name
    logger.warning("making ONNX files of %s in %s: once, it may take minutes", folder, place)
    try:
        with whole_folder(place) as part:
            _make(folder, part)
    except InputError:
        if not place.is_dir():  # else another process made them meanwhile
            raise
    return place


def _writable(*folders: Path) -> Path:
    """Find the first folder in which folders can be made, by trying: permissions do not tell of a read-only disk."""
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder, prefix=".", suffix=".part"):
                return folder
        except OSError:
            continue
    raise InputError(
        f"neither {' nor '.join(map(str, folders))} can be written, and ONNX files have to be kept: set "
        "MASKWRIGHT_CACHE to a folder that you may write to, or leave out --backend"
    )


def _make(source: Path, folder: Path) -> None:
    network, _ = checkpoint.load(source)
    advice = "leave out --backend, and torch answers"
    try:
        for graph in export.graphs(network, low_only=True):
            path = folder / f"{graph.name}.onnx"
            export.write(graph, path)
            if export.disagree(export.check(graph, path)):
                raise InputError(f"{graph.name}.onnx of network {network.name} answers otherwise than torch: {advice}")
    except (InputError, OSError):
        raise
    except Exception as error:  # torch's exporter has no common class for what it cannot do
        reason = (str(error).strip() or "no reason given").splitlines()[0]
        raise InputError(
            f"network {network.name} cannot be exported to ONNX ({type(error).__name__}: {reason}): {advice}"
        ) from error


def answer_with_onnx(network: Network, folder: Path, otherwise: Answer) -> Answer:
    """Answer requests by the ONNX files of a network, one after the other.

    `network`, on the CPU, does what is light around the graphs; `otherwise` answers on views of sizes that no file
    takes.
    """
    sessions = {path.stem: export.open_session(path) for path in folder.glob("*.onnx")}
    first = sessions.get("encoder") or sessions["network"]
    sides = first.get_inputs()[0].shape[2:]

    def takes(request: Request) -> bool:
        hw = request.hw if isinstance(request, Prompt) else (request.image.shape[1], request.image.shape[2])
        if isinstance(network, Sam):
            hw = network.padded_hw(network.frame_hw(hw))
        given = zip(hw, sides, strict=True)
        return all(n == side if isinstance(side, int) else n >= export.MIN_SIDE for n, side in given)

    def segment(request: Segment) -> Tensor:
        name = "focus_view" if request.focus and "focus_view" in sessions else "network"
        (logits,) = run(name, ("mask_logits",), {
            **pixels(request), "prev_mask": request.prev_mask[None], **of_clicks("clicks", request.clicks),
            **of_example(request.example, request.prev_mask),
        })  # fmt: skip
        return logits[0]

    def start(request: Start) -> tuple[Tensor, ...]:
        if not isinstance(network, Sam):
            return AT_THE_CLICK
        frame = network.framed(network.normalise(request.image[None]))
        embedding, *finest_first = run("encoder", maps, {"input": frame})
        return tuple(part[0] for part in (embedding, *reversed(finest_first)))

    def encode(request: Encode) -> tuple[Tensor, Tensor]:
        given = {**pixels(request), "prev_mask": request.prev_mask[None], **of_clicks("clicks", request.clicks)}
        features, low_logits = run("encoder", ("features", "low_logits"), given)
        return features[0], low_logits[0]

    def correct(request: Correct) -> tuple[Tensor, Tensor]:
        given = {"features": request.features[None], "low_logits": request.low_logits[None]}
        given |= pixels(request) | of_clicks("clicks", request.clicks)
        logits, low_logits = run("correction", ("mask_logits", "new_low_logits"), given)
        return logits[0], low_logits[0]

    def prompt(request: Prompt) -> tuple[Tensor, Tensor]:
        assert isinstance(network, Sam), f"{network.name} takes no prompts"
        low_logits, prev_mask, box = (
            None if part is None else part[None] for part in (request.low_logits, request.prev_mask, request.box)
        )
        embedding, *deepest_first = (part[None] for part in request.started)
        prompts = network.prompts(request.hw, collate_clicks([request.clicks]), box)
        low_logits, fed = network.mask_input(low_logits, prev_mask)
        if low_logits is None or fed is None:
            grid = (embedding.shape[2], embedding.shape[3])
            low_logits, fed = embedding.new_zeros(1, 1, 4 * grid[0], 4 * grid[1]), embedding.new_zeros(1)
        (low_logits,) = run("low", ("low_logits",), {
            **dict(zip(maps, (embedding, *reversed(deepest_first)), strict=True)),
            "point_coords": prompts.xy[:, prompts.counts[0]],
            "point_labels": prompts.labels[:, prompts.counts[0]].float(),
            "mask_input": low_logits, "has_mask_input": fed.float(),
        })  # fmt: skip
        return network.over_view(low_logits, request.hw)[0], network.fed_back(low_logits)[0]

    def run(name: str, outputs: tuple[str, ...], given: dict[str, Tensor]) -> list[Tensor]:
        session = sessions[name]
        arrays = {value.name: given[value.name].contiguous().numpy() for value in session.get_inputs()}
        return [torch.from_numpy(output) for output in session.run(outputs, arrays)]

    maps = tuple(value.name for value in first.get_outputs())
    ways: dict[type, Callable[[Any], Any]] = {
        Segment: segment, Start: start, Encode: encode, Correct: correct, Prompt: prompt
    }  # fmt: skip

    def answer(requests: list[Any]) -> list[Any]:
        with torch.inference_mode():
            return [ways[type(r)](r) if takes(r) else otherwise([unstarted(r)])[0] for r in requests]

    return answer


def pixels(request: Segment | Encode | Correct) -> dict[str, Tensor]:
    """Name the view as an input."""
    return {"image": request.image[None]}


def of_clicks(prefix: str, clicks: Clicks) -> dict[str, Tensor]:
    """Name clicks as inputs."""
    batch = collate_clicks([clicks])
    return {f"{prefix}_{part}": getattr(batch, part) for part in ("yx", "positive", "valid", "first")}


def of_example(example: Example | None, mask: Tensor) -> dict[str, Tensor]:
    """Name an exemplar as inputs; without one its mask is empty, of the size of `mask`, and it has no clicks."""
    given = {"exemplar_mask": (torch.zeros_like(mask) if example is None else example.mask)[None]}
    for kind in EXEMPLAR_LISTS:
        given |= of_clicks(f"exemplar_{kind}", Clicks.none() if example is None else getattr(example, kind))
    return given


def unstarted(request: Request) -> Request:
    """Take out of a request for torch what only a graph can do without."""
    return replace(request, started=None) if getattr(request, "started", None) == AT_THE_CLICK else request
