"""Turn clicks into masks with a checkpoint and a refinement; a session keeps one state per click, for undo."""

import copy
import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models import checkpoint, steps
from models.backend import Backend, check_backend
from models.box import DEFAULT
from models.click_maps import collate_clicks
from models.device import to_device, to_host
from models.errors import InputError
from models.exemplar import Exemplar, ExemplarBatch, exemplar_of
from models.inference import place, prepare
from models.interaction import Click, Clicks, check_click, check_image, check_mask
from models.mask_runs import runs_of
from models.networks.base import Network, PromptNetwork, SplitNetwork
from models.onnx_backend import OnnxAnswer, onnx_files
from models.precision import Precision
from models.refinement import REFINEMENTS, Refinement, State, build, named, why_not
from models.refinement.frames import Frames, Pool
from models.refinement.passes import passes, threshold_is_last
from models.steps import Answer, Encode, Prompt, Segment, Start

NOWHERE = Click(y=0, x=0, positive=False)
"""Dummy for a click that is not made yet; negative, because boxes around the object do not extend to those."""
SESSION_FRAMES = 2
"""Number of views whose click-independent features a session keeps: the whole image, for undo, and the newest."""


def answer_with(network: Network) -> Answer:
    """Return an Answer for the drivers in `steps` that runs `network` on its device; logits are float32."""
    device = next(network.parameters()).device

    def answer(requests: list[Any]) -> list[Any]:
        first = requests[0]
        mixed = torch.autocast(device.type, torch.bfloat16, enabled=network.prepared == "bf16")
        with torch.inference_mode(), mixed:
            if isinstance(first, Start):
                return list(zip(*network.start(stacked(requests, "image"), **of_examples(requests)), strict=True))
            clicks = collate_clicks([request.clicks for request in requests], device)
            if isinstance(first, Prompt):
                assert isinstance(network, PromptNetwork), f"{network.name} takes no prompts"
                parts = (stacked(requests, name) for name in ("low_logits", "prev_mask", "box"))
                logits, low_logits = network.prompt(of_starts(requests)["started"], first.hw, clicks, *parts)
                return list(zip(logits.float(), low_logits.float(), strict=True))
            image = stacked(requests, "image")
            if isinstance(first, Segment):
                run, more = network.focus_view if first.focus else network, of_examples(requests) | of_starts(requests)
                return list(run(image, stacked(requests, "prev_mask"), clicks, **more).mask_logits.float())
            assert isinstance(network, SplitNetwork), f"{network.name} has no halves"
            if isinstance(first, Encode):
                encoded = network.encode(image, stacked(requests, "prev_mask"), clicks, **of_starts(requests))
                return list(zip(encoded.features, encoded.low_logits.float(), strict=True))
            features, low_logits = stacked(requests, "features"), stacked(requests, "low_logits")
            logits, low_logits = network.correct(image, features, low_logits, clicks)
            return list(zip(logits.float(), low_logits.float(), strict=True))

    def stacked(requests: list[Any], name: str) -> Any:
        values = [getattr(request, name) for request in requests]
        return None if values[0] is None else torch.stack(values)

    def of_starts(requests: list[Any]) -> dict[str, Any]:
        if requests[0].started is None:
            return {}
        if len(requests) == 1:  # no copy: another memory layout may round differently
            return {"started": tuple(part[None] for part in requests[0].started)}
        parts = zip(*(request.started for request in requests), strict=True)
        return {"started": tuple(torch.stack(part) for part in parts)}

    def of_examples(requests: list[Any]) -> dict[str, Any]:
        return (
            {} if requests[0].example is None else {"exemplar": ExemplarBatch.of([r.example for r in requests], device)}
        )

    return answer


def open_state(
    image: np.ndarray,
    mask: np.ndarray | None = None,
    device: torch.device | str = "cpu",
    example: Exemplar | None = None,
) -> State:
    """Return a session's first state for a uint8 RGB image, with an optional mask to correct (bool) and exemplar."""
    check_image(image)
    return start_state(to_device(image, device).permute(2, 0, 1).float() / 255, mask, example)


def start_state(image: Tensor, mask: np.ndarray | None = None, example: Exemplar | None = None) -> State:
    """Return a session's first state for pixels (3, h, w) in 0..1, which are on the network's device (as `example`)."""
    hw = (image.shape[1], image.shape[2])
    if example is not None and example.mask.shape[1:] != image.shape[1:]:
        raise InputError(
            f"the exemplar's mask is {tuple(example.mask.shape[1:])}: expected the size of the image, {hw}"
        )
    if mask is None:
        return State(image=image, example=example)
    check_mask(mask, hw)
    given = to_device(mask, image.device)[None].float()
    return State(image=image, mask_prob=given, mask_given=True, example=example)


class Predictor:
    """A network with a refinement, which opens sessions.

    `source` is a checkpoint's folder, `maskwright:NAME` or a Network. `refinement` is a name, a Refinement, a dict or a
    JSON file (None: the one that the checkpoint recommends, else "standard"). A network from a checkpoint is prepared
    for inference in `precision` (models.inference); a Network is used unchanged. `backend` "onnx" runs ONNX files of
    the checkpoint, which are exported if they do not exist (models.onnx_backend). Raises InputError if the checkpoint
    or refinement does not exist, or the network cannot be exported.
    """

    def __init__(
        self,
        source: str | Path | Network = DEFAULT,
        refinement: str | Refinement | dict[str, Any] | None = None,
        device: torch.device | str = "cpu",
        *,
        precision: Precision = "fp32",
        backend: Backend = "torch",
    ) -> None:
        check_backend(backend, precision, torch.device(device).type)
        files = None
        if isinstance(source, Network):
            if backend == "onnx":
                raise InputError("backend onnx needs a checkpoint folder, got a network: save it first")
            self.network, description = source, {}
        else:
            files = onnx_files(source) if backend == "onnx" else None
            self.network, description = checkpoint.load(source)
            prepare(self.network, bf16=precision == "bf16")
        if refinement is None:
            refinement = description.get("info", {}).get("refinement")
        place(self.network, device)
        self.device = torch.device(device)
        self.refinement = named(refinement)
        self.network_name = self.network.name
        self.model_version = f"{self.network.name}-{description.get('sha256', 'unsaved')[:12]}"
        self.step = build(self.refinement, self.network.traits)
        self.answer = answer_with(self.network)
        if files is not None:
            self.answer = OnnxAnswer(self.network, files, self.answer)
        self._pool = Pool()

    @property
    def takes_exemplar(self) -> bool:
        """Whether sessions may start with an exemplar."""
        return self.network.traits.exemplar

    @property
    def mask_threshold(self) -> float:
        """Probability above which a pixel belongs to the mask."""
        return self.refinement.mask_threshold

    @property
    def refinements(self) -> tuple[str, ...]:
        """Names in REFINEMENTS that this network supports."""
        return tuple(name for name, each in REFINEMENTS.items() if not why_not(each, self.network.traits))

    def refined(
        self, refinement: str | Refinement | dict[str, Any] | None = None, mask_threshold: float | None = None
    ) -> "Predictor":
        """Return a predictor of the same network with another refinement or threshold (None: the current one).

        Raises InputError if the network does not support it.
        """
        other = copy.copy(self)
        other.refinement = self.refinement if refinement is None else named(refinement)
        if mask_threshold is not None:
            other.refinement = replace(other.refinement, mask_threshold=mask_threshold)
        other.step = build(other.refinement, self.network.traits)
        return other

    def open(
        self, image: np.ndarray, mask: np.ndarray | None = None, exemplar: tuple[np.ndarray, Clicks] | None = None
    ) -> "Session":
        """Open a session on a uint8 RGB image (h, w, 3), optionally with a mask (bool) to correct.

        `exemplar` is the mask (bool) and the clicks of a finished object of the category; raises InputError if the
        network takes no exemplar. Sessions on the same pixels share click-independent features.
        """
        state = open_state(image, mask, self.device, self._example(exemplar))
        pixels = np.ascontiguousarray(image)
        return self._session(state, f"{pixels.shape} {hashlib.sha256(pixels.data).hexdigest()}")

    def reopen(
        self, session: "Session", mask: np.ndarray | None = None, exemplar: tuple[np.ndarray, Clicks] | None = None
    ) -> "Session":
        """Open a session as `open` does, on the image of another session, without converting or copying it again."""
        before = session.states[0]
        return self._session(start_state(before.image, mask, self._example(exemplar)), session.content)

    def _session(self, state: State, content: str) -> "Session":
        # Features of an exemplar belong to one session: in the pool, sessions would evict each other's.
        pool = self._pool if state.example is None else None
        return Session(self, replace(state, frames=Frames(SESSION_FRAMES, content, pool)))

    def _example(self, exemplar: tuple[np.ndarray, Clicks] | None) -> Exemplar | None:
        if exemplar is None:
            return None
        if not self.network.traits.exemplar:
            raise InputError(f"network {self.network_name} takes no exemplar: leave it out")
        return exemplar_of(*exemplar, device=self.device)

    def advance(self, state: State, click: Click) -> State:
        """Return the state after one more click."""
        with torch.inference_mode():
            return steps.run(self.step(state.with_click(click)), self.answer)

    def look_ahead(self, state: State) -> None:
        """Compute the click-independent features for the next click in advance and keep them in the state.

        If the view turns out to depend on the click, the click computes them itself; results never change.
        """
        with torch.inference_mode():
            steps.run_starts(self.step(state.with_click(NOWHERE)), self.answer)


class Session:
    """One object in one image; keeps the state after each click, so that undo costs nothing."""

    def __init__(self, predictor: Predictor, state: State) -> None:
        self.predictor = predictor
        self.states = [state]

    @property
    def hw(self) -> tuple[int, int]:
        """Height and width of the image."""
        return self.states[-1].hw

    @property
    def content(self) -> str:
        """Identifier of the image's pixels."""
        return self.states[0].frames.image

    @property
    def clicks(self) -> Clicks:
        """The clicks so far."""
        return self.states[-1].clicks

    @property
    def mask_prob(self) -> np.ndarray | None:
        """Probability map on the host, float32 (h, w); None before the first mask."""
        prob = self.states[-1].mask_prob
        return None if prob is None else to_host(prob[0])

    @property
    def mask(self) -> np.ndarray:
        """Mask on the host, bool (h, w); empty before the first click."""
        found = self._mask()
        return np.zeros(self.hw, bool) if found is None else to_host(found)

    @property
    def runs(self) -> np.ndarray:
        """Run lengths of the mask (models.mask_runs), the smallest form to copy from a GPU."""
        found = self._mask()
        return np.array([self.hw[0] * self.hw[1]]) if found is None else runs_of(found)

    @property
    def levels(self) -> np.ndarray:
        """Probability map as uint8 (h, w), where 255 is probability 1; 0 before the first mask."""
        prob = self.states[-1].mask_prob
        return np.zeros(self.hw, np.uint8) if prob is None else to_host((prob[0] * 255 + 0.5).byte())

    @property
    def finite(self) -> bool:
        """Whether all values of the probability map are finite; computed on the network's device."""
        prob = self.states[-1].mask_prob
        # One NaN or infinity makes the sum non-finite; testing each value takes 20 times as long.
        return prob is None or bool(prob.sum().isfinite())

    def _mask(self) -> Tensor | None:
        prob = self.states[-1].mask_prob
        return None if prob is None else prob[0] > self.predictor.refinement.mask_threshold

    @property
    def honoured(self) -> bool:
        """Whether the mask has the newest click's sign at its pixel."""
        return self.states[-1].honoured(self.predictor.refinement.mask_threshold)

    @property
    def memory(self) -> dict[int, int]:
        """Bytes kept for later clicks, except images and masks, by the id of the object that keeps them.

        These objects are this session, whose states share features, and its frames, which other sessions may share.
        """
        contents = [state.memory.content for state in self.states if state.memory is not None]
        features = sum(tensor.nbytes for tensor in {id(t): t for c in contents for t in _tensors(c)}.values())
        return {id(self): features} | self.states[0].frames.memory

    def refined(self, predictor: Predictor) -> "Session":
        """Return this session for another predictor of the same network.

        All states are kept if only the threshold differs and nothing but the mask depends on it. Otherwise the new
        session has no clicks yet.
        """
        own, other = self.predictor.refinement, predictor.refinement
        same = replace(own, mask_threshold=other.mask_threshold) == other and threshold_is_last(own)
        session = Session(predictor, self.states[0])
        session.states = list(self.states) if same else session.states
        return session

    def passes(self) -> list[tuple[str, np.ndarray]]:
        """Return (name, mask bool) after each pass of the newest click; empty without clicks."""
        if len(self.states) < 2:
            return []
        refinement, traits = self.predictor.refinement, self.predictor.network.traits
        y, x, positive = self.clicks.rows()[-1]
        before = self.states[-2].with_click(Click(y=y, x=x, positive=positive))
        with torch.inference_mode():
            found = steps.run(passes(refinement, traits, before, self.states[-1]), self.predictor.answer)
        thresholded = ((name, state.mask_prob) for name, state in found)
        return [(name, to_host(p[0] > refinement.mask_threshold)) for name, p in thresholded if p is not None]

    def click(self, y: float, x: float, positive: bool = True) -> np.ndarray:
        """Add a click and return the new probability map; raises InputError if it is outside the image."""
        self.add(y, x, positive)
        prob = self.mask_prob
        assert prob is not None
        return prob

    def add(self, y: float, x: float, positive: bool = True) -> None:
        """Add a click and leave the result on the network's device; raises InputError if it is outside the image."""
        check_click(y, x, self.hw)
        click = Click(y=float(y), x=float(x), positive=bool(positive))
        self.states.append(self.predictor.advance(self.states[-1], click))

    def look_ahead(self) -> None:
        """Compute click-independent features for the next click in advance (Predictor.look_ahead)."""
        self.predictor.look_ahead(self.states[-1])

    def undo(self) -> np.ndarray | None:
        """Drop the newest click, if any, and return the probability map before it."""
        self.drop()
        return self.mask_prob

    def drop(self) -> None:
        """Drop the newest click, if any."""
        if len(self.states) > 1:
            self.states.pop()


def _tensors(content: Any) -> list[Tensor]:
    return [content] if isinstance(content, Tensor) else [tensor for part in content for tensor in _tensors(part)]
