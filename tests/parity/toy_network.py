"""A deterministic stand-in for a network, with the formula that the fixtures' answers were made with."""

import torch
import torch.nn.functional as F
from torch import Tensor

from models.steps import Segment

GAIN, SPREAD, TAU = 6.0, 0.12, 0.08


class ToyAnswer:
    """Answers requests as `steps` drivers want it; `num_forwards` counts batches, as the fixtures do."""

    def __init__(self) -> None:
        self.num_forwards = 0

    def __call__(self, requests: list[Segment]) -> list[Tensor]:
        self.num_forwards += 1
        return [toy_logits(request) for request in requests]


def toy_logits(request: Segment) -> Tensor:
    """Logits (1, h, w): near and like a positive click, near the previous mask, away from negative clicks."""
    height, width = request.image.shape[1:]
    grey = request.image[None].mean(1)[0]
    prev = F.avg_pool2d(request.prev_mask[None], 9, 1, 4, count_include_pad=False)[0, 0]
    rows = torch.arange(height, dtype=torch.float32).view(height, 1)
    columns = torch.arange(width, dtype=torch.float32).view(1, width)
    reach = (SPREAD * max(height, width)) ** 2
    near, far, similar = (torch.zeros(height, width) for _ in range(3))
    for (y, x), positive in zip(torch.from_numpy(request.clicks.yx).float(), request.clicks.positive, strict=True):
        if max(y, x) < 0:
            continue
        bump = torch.exp(-((rows - y) ** 2 + (columns - x) ** 2) / reach)
        if positive:
            seed = grey[int(y.round().clamp(0, height - 1)), int(x.round().clamp(0, width - 1))]
            near = torch.maximum(near, bump)
            similar = torch.maximum(similar, torch.exp(-(((grey - seed) / TAU) ** 2)))
        else:
            far = torch.maximum(far, bump)
    return (GAIN * (0.7 * similar * (near + prev).clamp(max=1) + 0.5 * prev + 0.3 * near - 0.9 * far - 0.45))[None]
