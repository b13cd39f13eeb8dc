"""Pictures of training samples with the clicks of the last forward, its predicted mask and the target."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from models.click_maps import ClickBatch
from pipeline.drawing.overlays import TARGET, TINT, draw_click, draw_outline
from pipeline.drawing.sheet import Group, Shot, draw_sheet


def training_sheet(
    image: Tensor, target: Tensor, clicks: ClickBatch, logits: Tensor, note: str, *, most: int = 8
) -> np.ndarray:
    """Draw a contact sheet, uint8 RGB, of a batch's first `most` samples.

    The predicted mask is tinted, the target outlined, clicks are dots. `image` is (b, 3, h, w) in 0..1; `target` and
    `logits` are (b, 1, h, w).
    """
    shots = [_shot(image[i], target[i, 0], _of(clicks, i), logits[i, 0]) for i in range(min(most, len(image)))]
    return draw_sheet([Group(heading="Training samples", note=note, shots=shots)], columns=4)


def _of(clicks: ClickBatch, sample: int) -> Sequence[tuple[int, int, bool]]:
    valid = clicks.valid[sample].cpu()
    yx, positive = clicks.yx[sample].cpu()[valid].round().int(), clicks.positive[sample].cpu()[valid]
    return [(int(y), int(x), bool(sign)) for (y, x), sign in zip(yx.tolist(), positive.tolist(), strict=True)]


def _shot(image: Tensor, target: Tensor, clicks: Sequence[tuple[int, int, bool]], logits: Tensor) -> Shot:
    picture = np.ascontiguousarray((image.permute(1, 2, 0).float().cpu() * 255).round().to(torch.uint8).numpy())
    answer, wanted = (logits > 0).cpu().numpy(), (target == 1).cpu().numpy()
    picture[answer] = (0.55 * picture[answer] + 0.45 * np.array(TINT)).astype(np.uint8)
    draw_outline(picture, wanted.astype(np.uint8), TARGET)
    for y, x, positive in clicks:
        draw_click(picture, (x, y), positive, radius=3)
    both, either = np.count_nonzero(answer & wanted), np.count_nonzero(answer | wanted)
    signs = [positive for *_, positive in clicks]
    return Shot(
        picture=picture,
        lines=(f"IoU {both / max(1, either):.2f}", f"{sum(signs)} positive, {len(signs) - sum(signs)} negative clicks"),
    )
