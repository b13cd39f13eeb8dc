"""Answer requests with onnxruntime on the CPU: export a checkpoint to ONNX files once, and run them.

The files are in the checkpoint's folder, or in a cache if that folder cannot be written. Their folder's name holds
digests of the weights and of the network's config, and onnxruntime's version.
"""

import hashlib
import importlib.metadata
import json
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
from models.box import resolve
from models.click_maps import collate_clicks
from models.errors import InputError
from models.exemplar import Exemplar
from models.fast import swap
from models.files import whole_folder, write_json
from models.interaction import Clicks
from models.networks.base import Network
from models.networks.sam import Sam
from models.steps import Answer, Correct, Encode, Prompt, Request, Segment, Start

logger = logging.getLogger("maskwright.models")
GRAPHS, FILES = 1, "files.json"
"""Version of the exported graphs, to be raised when they change; and the list of a folder's files with their sizes."""
EXEMPLAR_LISTS = ("positive", "true_negative", "pseudo_negative")
AT_THE_CLICK: tuple[Tensor, ...] = ()
"""Answer to `Start` for networks whose graph takes the clicks as input, so that nothing can run before them."""


def onnx_files(source: str | Path) -> Path:
    """Return the folder with a checkpoint's ONNX files, which are exported now if they do not exist.

    Raises InputError if the network cannot be exported or no folder for the files can be written.
    """
    folder = resolve(source)
    described = checkpoint.describe(folder)
    shape = hashlib.sha256(json.dumps([GRAPHS, described["config"]], sort_keys=True).encode()).hexdigest()
    name = f"onnx-{described['sha256'][:12]}-{shape[:6]}-{importlib.metadata.version('onnxruntime')}"
    cache = Path(os.environ.get("MASKWRIGHT_CACHE") or "~/.cache/maskwright").expanduser()
    for place in (folder / name, cache / name):
        if place.is_dir():
            return _whole(place)
    place = _writable(folder, cache) / name
    logger.warning("exporting %s to ONNX files in %s: happens once and may take minutes", folder, place)
    try:
        with whole_folder(place) as part:
            _make(folder, part)
            write_json(part / FILES, {path.name: path.stat().st_size for path in sorted(part.iterdir())})
    except InputError:
        if not place.is_dir():  # else another process exported them meanwhile
            raise
    return place


def _whole(place: Path) -> Path:
    """Return the folder if all its files have their recorded sizes; raises InputError otherwise."""
    try:
        sizes = json.loads((place / FILES).read_text())
        whole = all((place / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, AttributeError):
        whole = False
    if not whole:
        raise InputError(f"{place} is damaged: delete it and run the same command again, which exports it again")
    return place


def _writable(*folders: Path) -> Path:
    """Return the first folder in which folders can be created, by trying: permissions do not show a read-only disk."""
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder, prefix=".", suffix=".part"):
                return folder
        except OSError:
            continue
    raise InputError(
        f"neither {' nor '.join(map(str, folders))} can be written, but backend onnx must store its files: set "
        "MASKWRIGHT_CACHE to a folder that you may write to, or leave out --backend"
    )


def _make(source: Path, folder: Path) -> None:
    network = swap(checkpoint.load(source)[0])
    advice = "leave out --backend to use torch"
    try:
        for graph in export.graphs(network, low_only=True):
            path = folder / f"{graph.name}.onnx"
            export.write(graph, path)
            if export.disagree(export.check(graph, path)):
                raise InputError(f"{graph.name}.onnx of network {network.name} disagrees with torch: {advice}")
    except (InputError, OSError):
        raise
    except Exception as error:  # torch's exporter has no common base class for its errors
        reason = (str(error).strip() or "no reason given").splitlines()[0]
        raise InputError(
            f"network {network.name} cannot be exported to ONNX ({type(error).__name__}: {reason}): {advice}"
        ) from error


class OnnxAnswer:
    """An Answer that runs the ONNX files of a network, one request after the other.

    `network`, on the CPU, does the light work around the graphs; `otherwise` answers for views of sizes that no file
    accepts.
    """

    def __init__(self, network: Network, folder: Path, otherwise: Answer) -> None:
        self._network, self._otherwise = network, otherwise
        self._sessions = {path.stem: export.open_session(path) for path in folder.glob("*.onnx")}
        first = self._sessions.get("encoder") or self._sessions["network"]
        self._sides: list[int | str] = first.get_inputs()[0].shape[2:]
        self._maps = [value.name for value in first.get_outputs()]
        self._ways: dict[type[Request], Callable[[Any], Any]] = {
            Segment: self._segment,
            Start: self._start,
            Encode: self._encode,
            Correct: self._correct,
            Prompt: self._prompt,
        }

    def __call__(self, requests: list[Any]) -> list[Any]:
        """Answer requests."""
        with torch.inference_mode():
            return [
                self._ways[type(request)](request) if self._takes(request) else self._otherwise([unstarted(request)])[0]
                for request in requests
            ]

    def _takes(self, request: Request) -> bool:
        hw = request.hw if isinstance(request, Prompt) else (request.image.shape[1], request.image.shape[2])
        if isinstance(self._network, Sam):
            hw = self._network.padded_hw(self._network.frame_hw(hw))
        given = zip(hw, self._sides, strict=True)
        return all(n == side if isinstance(side, int) else n >= export.MIN_SIDE for n, side in given)

    def _segment(self, request: Segment) -> Tensor:
        name = "focus_view" if request.focus and "focus_view" in self._sessions else "network"
        given = {"image": request.image[None], "prev_mask": request.prev_mask[None]}
        given |= of_clicks("clicks", request.clicks) | of_example(request.example, request.prev_mask)
        (logits,) = self._run(name, ["mask_logits"], given)
        return logits[0]

    def _start(self, request: Start) -> tuple[Tensor, ...]:
        if not isinstance(self._network, Sam):
            return AT_THE_CLICK
        frame = self._network.framed(self._network.normalise(request.image[None]))
        embedding, *finest_first = self._run("encoder", self._maps, {"input": frame})
        return tuple(part[0] for part in (embedding, *reversed(finest_first)))

    def _encode(self, request: Encode) -> tuple[Tensor, Tensor]:
        given = {"image": request.image[None], "prev_mask": request.prev_mask[None]}
        given |= of_clicks("clicks", request.clicks)
        features, low_logits = self._run("encoder", ["features", "low_logits"], given)
        return features[0], low_logits[0]

    def _correct(self, request: Correct) -> tuple[Tensor, Tensor]:
        parts = {"image": request.image, "features": request.features, "low_logits": request.low_logits}
        given = {name: part[None] for name, part in parts.items()} | of_clicks("clicks", request.clicks)
        logits, low_logits = self._run("correction", ["mask_logits", "new_low_logits"], given)
        return logits[0], low_logits[0]

    def _prompt(self, request: Prompt) -> tuple[Tensor, Tensor]:
        network = self._network
        assert isinstance(network, Sam), f"{network.name} takes no prompts"
        embedding, *coarsest_first = (part[None] for part in request.started)
        low_logits, prev_mask, box = (
            None if part is None else part[None] for part in (request.low_logits, request.prev_mask, request.box)
        )
        prompts = network.prompts(request.hw, collate_clicks([request.clicks]), box)
        low_logits, fed = network.mask_input(low_logits, prev_mask)
        if low_logits is None or fed is None:
            rows, columns = embedding.shape[2:]
            low_logits, fed = embedding.new_zeros(1, 1, 4 * rows, 4 * columns), embedding.new_zeros(1)
        given = dict(zip(self._maps, (embedding, *reversed(coarsest_first)), strict=True))
        given |= {"mask_input": low_logits, "has_mask_input": fed.float()}
        # A graph for one sample has no padding rows.
        given["point_coords"] = prompts.xy[:, prompts.counts[0]]
        given["point_labels"] = prompts.labels[:, prompts.counts[0]].float()
        (low_logits,) = self._run("low", ["low_logits"], given)
        return network.over_view(low_logits, request.hw)[0], network.fed_back(low_logits)[0]

    def _run(self, name: str, outputs: list[str], given: dict[str, Tensor]) -> list[Tensor]:
        session = self._sessions[name]
        arrays = {value.name: given[value.name].contiguous().numpy() for value in session.get_inputs()}
        return [torch.from_numpy(output) for output in session.run(outputs, arrays)]


def of_clicks(prefix: str, clicks: Clicks) -> dict[str, Tensor]:
    """Return clicks as named inputs of a graph."""
    batch = collate_clicks([clicks])
    return {f"{prefix}_{part}": getattr(batch, part) for part in ("yx", "positive", "valid", "first")}


def of_example(example: Exemplar | None, mask: Tensor) -> dict[str, Tensor]:
    """Return an exemplar as named inputs of a graph; None becomes an empty mask of the size of `mask` and no clicks."""
    given = {"exemplar_mask": (torch.zeros_like(mask) if example is None else example.mask)[None]}
    for kind in EXEMPLAR_LISTS:
        given |= of_clicks(f"exemplar_{kind}", Clicks.none() if example is None else getattr(example, kind))
    return given


def unstarted(request: Request) -> Request:
    """Return the request for torch, which cannot use the graphs' empty answer to `Start`."""
    return replace(request, started=None) if getattr(request, "started", None) == AT_THE_CLICK else request
