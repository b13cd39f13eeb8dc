"""Training batches on the device, made from the stream's columns."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.click_maps import ClickBatch
from models.exemplar import ExemplarBatch


@dataclass(frozen=True, eq=False, kw_only=True)
class FocusBatch:
    """Close-ups of the targets, s x s pixels: like `TrainingBatch`, with a coarse `prev_mask`, float (b, 1, s, s)."""

    image: Tensor
    target: Tensor
    prev_mask: Tensor
    clicks: ClickBatch


@dataclass(frozen=True, eq=False, kw_only=True)
class TrainingBatch:
    """A batch of b samples for one step or part of it.

    `image` is float (b, 3, h, w) in 0..1, `target` float (b, 1, h, w): 1 object, 0 background, -1 ignored. `clicks` has
    2K rows per sample: the first K positive, the last K negative. `focus` and `exemplar` are set if the stream makes
    them (`--data.focus.enabled`, `--data.exemplar.enabled`). `coarse` bool (b) marks samples with coarse masks
    (`--data.coarse`); None if this is not known.
    """

    image: Tensor
    target: Tensor
    clicks: ClickBatch
    focus: FocusBatch | None = None
    exemplar: ExemplarBatch | None = None
    coarse: Tensor | None = None

    def parts(self, num: int) -> list["TrainingBatch"]:
        """Cut into `num` batches of equal size, in order; `num` divides the number of samples."""
        size, rest = divmod(len(self.image), num)
        assert not rest, f"{len(self.image)} samples in {num} parts"
        return [_cut(self, slice(start, start + size)) for start in range(0, len(self.image), size)]


def _cut(value: Any, part: slice) -> Any:
    if isinstance(value, Tensor):
        return value[part]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: _cut(getattr(value, field.name), part) for field in dataclasses.fields(value)}
        return dataclasses.replace(value, **fields)
    return value


def to_device(columns: dict[str, np.ndarray], device: torch.device | str) -> TrainingBatch:
    """Move the stream's columns (pipeline/data/rows.py) to the device; pixels are transferred as bytes."""
    move = _Mover(columns, device)
    focus = exemplar = None
    if "focus_image" in columns:
        focus = FocusBatch(
            image=move.image("focus_image"),
            target=move.target("focus_mask", "focus_ignore_mask"),
            prev_mask=move("focus_prev_mask").float()[:, None],
            clicks=move.clicks("focus_clicks"),
        )
    if "exemplar_mask" in columns:
        exemplar = move.exemplar()
    return TrainingBatch(
        image=move.image("image"),
        target=move.target("object_mask", "ignore_mask"),
        clicks=move.clicks("clicks"),
        focus=focus,
        exemplar=exemplar,
        coarse=move("coarse") if "coarse" in columns else None,
    )


class _Mover:
    def __init__(self, columns: dict[str, np.ndarray], device: torch.device | str) -> None:
        self.columns, self.device = columns, device

    def __call__(self, name: str) -> Tensor:
        return torch.from_numpy(np.array(self.columns[name])).to(self.device)

    def image(self, name: str) -> Tensor:
        return self(name).permute(0, 3, 1, 2).float() / 255

    def target(self, name: str, ignore: str) -> Tensor:
        return self(name).float().masked_fill(self(ignore).bool(), -1.0)[:, None]

    def clicks(self, name: str) -> ClickBatch:
        valid = self(f"{name}_valid")
        half = valid.shape[1] // 2
        positive = (torch.arange(valid.shape[1], device=valid.device) < half).expand_as(valid)
        first = torch.zeros_like(valid)
        first[:, 0] = valid[:, 0]
        if f"{name}_order" in self.columns:
            # Samplers that define first clicks number them 0; there are several where objects were merged.
            numbered = valid & (self(f"{name}_order") == 0)
            first = torch.where(numbered.any(1, keepdim=True), numbered, first)
        return ClickBatch(self(f"{name}_yx").float(), positive, valid, first)

    def exemplar(self) -> ExemplarBatch:
        yx, valid = self("exemplar_clicks_yx").float(), self("exemplar_clicks_valid")
        positive, true = self("exemplar_clicks_positive"), self("exemplar_clicks_true")
        first = torch.zeros_like(valid)
        first[:, 0] = valid[:, 0]
        kinds = (valid & positive, valid & ~positive & true, valid & ~positive & ~true)
        return ExemplarBatch(
            self("exemplar_mask").float()[:, None], *(ClickBatch(yx, positive, kind, first & kind) for kind in kinds)
        )
