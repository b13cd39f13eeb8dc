"""SAM, MobileSAM and SAM 2 on single images: an image encoder that sees no click, and a light decoder of prompts.

Kirillov et al. 2023 (SAM), Zhang et al. 2023 (MobileSAM), Ravi et al. 2024 (SAM 2). The networks share the decoder.
They differ in their encoders, in how a view becomes the encoder's square frame, and in a few rules.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.click_maps import ClickBatch
from models.errors import InputError
from models.geometry import LongSide, SizeRule
from models.networks.base import Output, PromptNetwork, Started, Traits
from models.networks.blocks import by_name, outermost
from models.networks.sam_decoder import NUM_MASKS, MaskDecoder, Masks
from models.networks.sam_encoders import PATCH, HieraWithPyramid, TinyVitWithNeck, vit
from models.networks.sam_prompts import DIM, NEGATIVE, TOP_LEFT, PromptEncoder, Prompts
from models.resampling import Resampling

CERTAIN = 10.0
"""Logit of a pixel inside a given mask; pixels outside it, or in the padding, have the negative."""
STABLE, MARGIN = 0.98, 0.05
"""SAM 2: mask 0 is stable if its area above `MARGIN` is at least `STABLE` times its area above -`MARGIN`."""
LEAST_SIDE = 64
LARGEST_LOGIT = 32.0
"""Magnitude to which SAM 2 clamps the logits that it feeds back."""


@dataclass(frozen=True, kw_only=True)
class SamConfig:
    """Shape of SAM. Images are resized to a long side of `side` pixels and padded to a square."""

    dim: int
    depth: int
    heads: int
    global_blocks: tuple[int, ...]
    side: int = 1024

    def build(self) -> "Sam":
        """Build the network with fresh weights."""
        encoder = vit(
            side=self.side, dim=self.dim, depth=self.depth, heads=self.heads, global_blocks=self.global_blocks
        )
        return Sam(self, encoder)


@dataclass(frozen=True, kw_only=True)
class MobileSamConfig:
    """Shape of MobileSAM: TinyViT-5M instead of SAM's ViT; `side` is as in SAM."""

    dims: tuple[int, ...] = (64, 128, 160, 320)
    depths: tuple[int, ...] = (2, 2, 6, 2)
    heads: tuple[int, ...] = (2, 4, 5, 10)
    side: int = 1024

    def build(self) -> "Sam":
        """Build the network with fresh weights."""
        return Sam(self, TinyVitWithNeck(dims=self.dims, depths=self.depths, heads=self.heads))


@dataclass(frozen=True, kw_only=True)
class Sam2Config:
    """Shape of SAM 2. Images of any shape are squeezed to `side` x `side` pixels."""

    dim: int
    heads: int
    stages: tuple[int, ...]
    global_blocks: tuple[int, ...]
    windows: tuple[int, ...] = (8, 4, 14, 7)
    position_hw: tuple[int, int] = (7, 7)
    side: int = 1024

    def build(self) -> "Sam2":
        """Build the network with fresh weights."""
        encoder = HieraWithPyramid(
            dim=self.dim,
            heads=self.heads,
            stages=self.stages,
            global_blocks=self.global_blocks,
            windows=self.windows,
            position_hw=self.position_hw,
        )
        return Sam2(self, encoder)


class Sam(PromptNetwork):
    """SAM's rules: the frame is padded at right and bottom, and mask 0 is shown except for a single first prompt."""

    entry_points = (*PromptNetwork.entry_points, "encode")
    stride = PATCH
    """The side of a frame is a multiple of this."""

    def __init__(self, config: Any, image_encoder: nn.Module) -> None:
        super().__init__()
        if config.side < LEAST_SIDE or config.side % self.stride:
            raise InputError(f"side {config.side}: expected at least {LEAST_SIDE}, a multiple of {self.stride}")
        self.config = config
        self.canvas = config.side
        """Side, in pixels, of the square in which positions are encoded."""
        size, resampling = self.frame_rule(config.side)
        self.traits = Traits(
            size=size,
            zoom_size=size,
            prev_mask="probability",
            split=True,
            starts=True,
            prompted=True,
            resampling=resampling,
        )
        self.image_encoder = image_encoder
        self.prompt_encoder, self.mask_decoder = self.make_halves()

    def frame_rule(self, side: int) -> tuple[SizeRule, Resampling]:
        """Return the size of views and how pixels are resized to it."""
        return LongSide(side), "half_pixel_uint8"

    def make_halves(self) -> tuple[PromptEncoder, MaskDecoder]:
        """Build the prompt encoder and the mask decoder."""
        return PromptEncoder(), MaskDecoder()

    def start(self, image: Tensor) -> Started:
        """Encode views (b, 3, h, w) to the embedding (b, 256, side / 16, side / 16)."""
        return self.encode_frame(self.framed(self.normalise(image)))

    def encode_frame(self, frame: Tensor) -> Started:
        """Encode frames (b, 3, side, side) of normalised pixels."""
        return self.finish(self.encode(frame))

    def encode_once(self, image: Tensor) -> Started:
        """Encode views (b, 3, h, w); equal neighbouring views are encoded only once."""
        fresh = torch.cat([image.new_ones(1, dtype=torch.bool), (image[1:] != image[:-1]).flatten(1).any(1)])
        if bool(fresh.all()):
            return self.encode(self.framed(self.normalise(image)))
        encoded = self.encode(self.framed(self.normalise(image[fresh])))
        return tuple(part[fresh.cumsum(0) - 1] for part in encoded)

    def encode(self, frame: Tensor) -> Started:
        """Run the encoder, the part that `freeze_encoder` freezes; a training step then runs it once."""
        return (self.image_encoder(frame),)

    def finish(self, encoded: Started) -> Started:
        """Convert the encoder's maps to the features on which prompts are answered."""
        return encoded

    def heavy_parts(self) -> Sequence[nn.Module]:
        """List the parts that `start` runs."""
        return (self.image_encoder,)

    def blocks(self) -> Sequence[nn.Module]:
        """List the encoder's blocks, as timm names them, and the decoder's."""
        return outermost(self, by_name)

    def positions(self) -> Sequence[nn.Parameter]:
        """List those of the encoder."""
        return [parameter for name, parameter in self.image_encoder.named_parameters() if "pos_embed" in name]

    def layers(self) -> Sequence[tuple[str, ...]]:
        """List patches and positions, the encoder's blocks (TinyViT's with the merging before), and its neck."""
        trunk = "image_encoder.trunk" if hasattr(self.image_encoder, "trunk") else "image_encoder"
        blocks: dict[str, tuple[str, ...]] = {}
        for name, _ in self.image_encoder.named_parameters(prefix="image_encoder"):
            if found := re.match(rf"{trunk}\.(stages\.\d+\.)?blocks\.\d+\.", name):
                stage = found[1]
                merging = (f"{trunk}.{stage}downsample.",) if stage and "blocks.0." in found[0] else ()
                blocks[found[0]] = (found[0], *merging)
        return [(f"{trunk}.patch_embed.", f"{trunk}.pos_embed"), *blocks.values(), ("image_encoder.",)]

    def conditional(self) -> Sequence[nn.Module]:
        """List the parts for one kind of prompt, and those of masks that are not scored."""
        prompts, decoder = self.prompt_encoder, self.mask_decoder
        corners = prompts.point_embeddings[2:]
        objects = () if decoder.pred_obj_score_head is None else (decoder.pred_obj_score_head,)
        masks = (decoder.output_hypernetworks_mlps, decoder.iou_prediction_head)
        return (corners, prompts.no_mask_embed, prompts.mask_downscaling, *masks, *objects)

    def frame_hw(self, hw: tuple[int, int]) -> tuple[int, int]:
        """Return the size of a view of size `hw` in the frame, without padding."""
        return LongSide(self.config.side).apply(hw)

    def framed(self, x: Tensor) -> Tensor:
        """Resize and pad maps (b, c, h, w) over a view to the frame; views of the network's size are only padded."""
        hw = (x.shape[2], x.shape[3])
        inside = self.frame_hw(hw)
        if hw != inside:
            x = F.interpolate(x, size=inside, mode="bilinear", antialias=True)
        height, width = self.padded_hw(inside)
        return F.pad(x, (0, width - inside[1], 0, height - inside[0]))

    def padded_hw(self, inside: tuple[int, int]) -> tuple[int, int]:
        """Return the size of the frame around a view of size `inside`, which is a square."""
        return self.config.side, self.config.side

    def prompt(
        self,
        started: Started,
        hw: tuple[int, int],
        clicks: ClickBatch,
        low_logits: Tensor | None = None,
        prev_mask: Tensor | None = None,
        boxes: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Answer prompts, as in PromptNetwork."""
        masks, chosen = self.answer(started, hw, clicks, low_logits, prev_mask, boxes)
        low = pick(masks.low_logits, chosen)
        return self.over_view(low, hw), self.fed_back(low)

    def answer(
        self,
        started: Started,
        hw: tuple[int, int],
        clicks: ClickBatch,
        low_logits: Tensor | None = None,
        prev_mask: Tensor | None = None,
        boxes: Tensor | None = None,
    ) -> tuple[Masks, Tensor]:
        """Return all four masks for the prompts, and the index of the mask to show, (b)."""
        low_logits, fed = self.mask_input(low_logits, prev_mask)
        prompts = self.prompts(hw, clicks, boxes)
        masks = self.decode(started, prompts, low_logits, fed)
        return masks, self.choose(masks, is_first(prompts, fed))

    def prompts(self, hw: tuple[int, int], clicks: ClickBatch, boxes: Tensor | None = None) -> Prompts:
        """Convert clicks and boxes in a view of size `hw` to labelled positions in the frame."""
        scale = torch.tensor(self.frame_hw(hw), dtype=torch.float32) / torch.tensor(hw)
        scale = scale.to(clicks.yx.device)
        boxes = None if boxes is None else boxes * scale.flip(0).repeat(2)
        return self.prompt_encoder.rows(replace(clicks, yx=clicks.yx * scale), boxes)

    def mask_input(self, low_logits: Tensor | None, prev_mask: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        """Return logits for the mask input, made from `prev_mask` if needed, and which samples have one, bool (b)."""
        if low_logits is not None or prev_mask is None:
            return low_logits, None if low_logits is None else low_logits.new_ones(len(low_logits), dtype=torch.bool)
        fed = prev_mask.flatten(1).amax(1) > 0
        if not torch.compiler.is_compiling() and not bool(fed.any()):
            return None, None
        share = F.avg_pool2d(self.framed(prev_mask), PATCH // 4)
        least = float(torch.sigmoid(torch.tensor(-CERTAIN)))
        return torch.logit(share.clamp(least, 1 - least)), fed

    def decode(
        self, started: Started, prompts: Prompts, low_logits: Tensor | None = None, fed: Tensor | None = None
    ) -> Masks:
        """Compute all four masks; `fed` bool (b) selects the samples that use `low_logits` (None: all)."""
        tokens = self.prompt_encoder.tokens(prompts.xy, prompts.labels, self.canvas)
        grid = (started[0].shape[2], started[0].shape[3])
        mask_map = self.prompt_encoder.mask_map(low_logits, grid)
        if fed is not None and (torch.compiler.is_compiling() or not bool(fed.all())):
            without = self.prompt_encoder.mask_map(None, grid)
            mask_map = torch.where(fed.view(-1, 1, 1, 1), mask_map, without)
        codes = self.prompt_encoder.pe_layer.grid(grid, self.canvas / PATCH)
        maps = self.detail_maps(prompts, low_logits, fed, grid)
        return self.mask_decoder(started[0], codes, mask_map, tokens, prompts.counts, started[1:] or None, maps)

    def detail_maps(
        self, prompts: Prompts, low_logits: Tensor | None, fed: Tensor | None, grid: tuple[int, int]
    ) -> Tensor | None:
        """Return maps (b, k, 4 h, 4 w) of the prompts for a decoder with `details`; None for others."""
        return None

    def choose(self, masks: Masks, first: Tensor) -> Tensor:
        """Return the index of the mask to show, (b): for a first prompt, the best of three by its predicted IoU."""
        return torch.where(first, best_candidate(masks), 0)

    def over_view(self, low_logits: Tensor, hw: tuple[int, int]) -> Tensor:
        """Resize logits to the frame and crop its padding, which gives logits over a view of size `hw`."""
        inside = self.frame_hw(hw)
        over_frame = F.interpolate(low_logits, size=self.padded_hw(inside), mode="bilinear")
        return over_frame[:, :, : inside[0], : inside[1]]

    def fed_back(self, low_logits: Tensor) -> Tensor:
        """Return the logits to pass with the next prompt."""
        return low_logits

    def forward(
        self,
        image: Tensor,
        prev_mask: Tensor,
        clicks: ClickBatch,
        started: Started | None = None,
        low_logits: Tensor | None = None,
        encoded: Started | None = None,
    ) -> Output:
        """Encode and answer once; without `low_logits`, a nonempty `prev_mask` is converted to logits.

        `Output.carry` holds the low-resolution logits and, if the encoder is frozen, its output.
        """
        hw = (image.shape[2], image.shape[3])
        if started is None:
            encoded = self.encode_once(image) if encoded is None else encoded
            started = self.finish(encoded)
        masks, chosen = self.answer(started, hw, clicks, low_logits, prev_mask)
        first = chosen > 0
        # Usually all samples are at the same click; masks that no sample may get are not resized.
        some = slice(int(bool(first.all())), None if bool(first.any()) else 1)
        numbers = torch.arange(NUM_MASKS, device=chosen.device)[some]
        candidates = self.over_view(masks.low_logits[:, some], hw)
        if candidates.shape[2:] != hw:
            candidates = F.interpolate(candidates, size=hw, mode="bilinear")
        carry: dict[str, Any] = {"low_logits": self.fed_back(pick(masks.low_logits, chosen)).detach()}
        learns = any(parameter.requires_grad for part in self.heavy_parts() for parameter in part.parameters())
        if encoded is not None and not learns:
            carry["encoded"] = tuple(part.detach() for part in encoded)
        return Output(
            pick(candidates, chosen - numbers[0]),
            candidates=candidates,
            quality=masks.quality[:, some],
            offered=(numbers > 0) == first[:, None],
            carry=carry,
        )

    def fit_state(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Resize the positional embeddings of a ViT that was trained on frames of another size."""
        own = self.state_dict()
        fitted = dict(state)
        for name, tensor in state.items():
            if name in own and own[name].shape != tensor.shape:
                if name == "image_encoder.pos_embed":
                    grid = tensor.permute(0, 3, 1, 2)
                    fitted[name] = F.interpolate(
                        grid, size=own[name].shape[1:3], mode="bicubic", antialias=True
                    ).permute(0, 2, 3, 1)
                elif name.endswith((".rel_pos_h", ".rel_pos_w")):
                    table = F.interpolate(tensor.T[None], size=own[name].shape[0], mode="linear")
                    fitted[name] = table[0].T
        return fitted


class Sam2(Sam):
    """SAM 2's rules: the image is squeezed into the frame, and mask 0 is shown only if it is stable."""

    stride = 32

    def __init__(self, config: Sam2Config, image_encoder: nn.Module) -> None:
        super().__init__(config, image_encoder)
        self.no_mem_embed = nn.Embedding(1, DIM)

    def frame_rule(self, side: int) -> tuple[SizeRule, Resampling]:
        """Return the size of views and how pixels are resized to it."""
        return (side, side), "half_pixel"

    def make_halves(self) -> tuple[PromptEncoder, MaskDecoder]:
        """Build the prompt encoder and the mask decoder."""
        prompts = PromptEncoder(corners_first=True, always_pad=True)
        return prompts, MaskDecoder(fine_widths=(DIM, DIM), object_token=True)

    def frame_hw(self, hw: tuple[int, int]) -> tuple[int, int]:
        """Return the size of a view in the frame, which is the whole frame."""
        return self.config.side, self.config.side

    def encode(self, frame: Tensor) -> Started:
        """Encode frames to the embedding at stride 16 and maps of 64 and 32 channels at strides 8 and 4."""
        embedding, second, first = self.image_encoder(frame)
        embedding = embedding + self.no_mem_embed.weight.view(1, DIM, 1, 1)
        return embedding, *self.mask_decoder.fine_maps(second, first)

    def heavy_parts(self) -> Sequence[nn.Module]:
        """List the parts that `start` runs."""
        fine = (part for part in (self.mask_decoder.conv_s0, self.mask_decoder.conv_s1) if part is not None)
        return (self.image_encoder, self.no_mem_embed, *fine)

    def choose(self, masks: Masks, first: Tensor) -> Tensor:
        """Return the index of the mask to show: in eval mode, the best of three also if mask 0 is not stable."""
        if self.training:
            return super().choose(masks, first)
        area = [(masks.low_logits[:, 0] > margin).flatten(1).sum(1) for margin in (MARGIN, -MARGIN)]
        stability = torch.where(area[1] > 0, area[0] / area[1].clamp(min=1), 1.0)
        return super().choose(masks, first | (stability < STABLE))

    def over_view(self, low_logits: Tensor, hw: tuple[int, int]) -> Tensor:
        """Return the low-resolution logits, which cover the view and are resized to the image in one step."""
        return low_logits

    def fed_back(self, low_logits: Tensor) -> Tensor:
        """Return the logits to pass with the next prompt."""
        return low_logits.clamp(-LARGEST_LOGIT, LARGEST_LOGIT)


def is_first(prompts: Prompts, fed: Tensor | None) -> Tensor:
    """Whether a single click or box is the only prompt, bool (b), so that the best of three masks is shown."""
    given = prompts.counts & (prompts.labels >= NEGATIVE) & (prompts.labels <= TOP_LEFT)
    first = given.sum(1) == 1
    return first if fed is None else first & ~fed


def pick(maps: Tensor, chosen: Tensor) -> Tensor:
    """Select one of the maps (b, k, h, w) of each sample: (b, 1, h, w)."""
    return maps.gather(1, chosen.view(-1, 1, 1, 1).expand(-1, 1, *maps.shape[2:]))


def best_candidate(masks: Masks) -> Tensor:
    """Return the index, 1 to 3, of the candidate with the best predicted IoU (the first of equals), (b)."""
    return masks.quality[:, 1:].argmax(1) + 1
