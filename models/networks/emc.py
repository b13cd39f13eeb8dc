"""EMC-Click: a heavy network at the first click, a light one at every click (Du et al., CVPR 2023).

There are three base networks: HRNet + OCR and SegFormer as published (docs/PAPERS.md, EMC-Click: base network), and
ours on a plain ViT, which then runs at the first click only (docs/PAPERS.md, EMC-Click: on a plain ViT).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor, nn

from models.click_maps import ClickBatch, disk_maps
from models.fit import check_fit, shapes_of
from models.geometry import ShortSide
from models.networks.base import Encoded, Output, SplitNetwork, Started, Traits, upsample
from models.networks.correction import CorrectionConfig, MaskCorrection
from models.networks.hrnet import HRNetOCR, load_hrnet_backbone, maps_transform
from models.networks.mit import MixTransformer, SegFormerHead
from models.networks.pretrained import copy_tensors
from models.networks.simpleclick import SimpleClick, SimpleClickConfig

PUBLISHED_TRAITS = Traits(
    size=ShortSide(384, multiple=4), zoom_size=ShortSide(384, multiple=4), prev_mask="unused", multiple=4, split=True
)


@dataclass(frozen=True, kw_only=True)
class EmcHRNetConfig(CorrectionConfig):
    """EMC-Click on HRNet + OCR."""

    width: int
    ocr_width: int
    small: bool = False

    def build(self) -> "EmcHRNet":
        """Build the network with fresh weights."""
        return EmcHRNet(self)


@dataclass(frozen=True, kw_only=True)
class EmcSegFormerConfig(CorrectionConfig):
    """EMC-Click on SegFormer."""

    dims: tuple[int, int, int, int]
    depths: tuple[int, int, int, int]
    head_dim: int
    drop_path: float = 0.1

    def build(self) -> "EmcSegFormer":
        """Build the network with fresh weights."""
        return EmcSegFormer(self)


@dataclass(frozen=True, kw_only=True)
class EmcVitConfig(CorrectionConfig, SimpleClickConfig):
    """The mask-correction network on SimpleClick's plain ViT (ours)."""

    correction_width: int = 96

    def build(self) -> "EmcVit":  # pyright: ignore[reportIncompatibleMethodOverride]
        """Build the network with fresh weights."""
        return EmcVit(self)


@dataclass(frozen=True, eq=False)
class Base:
    """Output of the heavy half alone: its feature, not yet projected for the correction network, and its logits."""

    feature: Tensor
    low_logits: Tensor
    aux_logits: Tensor | None = None


class Emc(SplitNetwork):
    """Base of the three networks: the mask correction."""

    entry_points = (*SplitNetwork.entry_points, "run_base")
    refiner: MaskCorrection

    def float32_parts(self) -> Sequence[nn.Module]:
        """List those of the correction network."""
        return self.refiner.float32_parts()

    def run_base(self, image: Tensor, prev_mask: Tensor, clicks: ClickBatch) -> Base:
        """Run the heavy half, which sees only the first clicks, without weights of the correction network."""
        raise NotImplementedError

    def encode(self, image: Tensor, prev_mask: Tensor, clicks: ClickBatch) -> Encoded:
        """Run the heavy half, and project its feature to the correction network's channels."""
        return self._taken(image, self.run_base(image, prev_mask, clicks))

    def _taken(self, image: Tensor, base: Base) -> Encoded:
        return Encoded(self.refiner.take(base.feature, image), base.low_logits, base.aux_logits)

    def forward(
        self,
        image: Tensor,
        prev_mask: Tensor,
        clicks: ClickBatch,
        low_logits: Tensor | None = None,
        base: Base | None = None,
    ) -> Output:
        """Encode and correct once; pass `base` to skip a heavy half that is not trained."""
        encoded = self.encode(image, prev_mask, clicks) if base is None else self._taken(image, base)
        return self._corrected(image, encoded, clicks, low_logits)

    def correct(self, image: Tensor, features: Tensor, low_logits: Tensor, clicks: ClickBatch) -> tuple[Tensor, Tensor]:
        """Correct the mask with all clicks so far."""
        low_logits = self.refiner(self.normalise(image), features, low_logits, clicks)
        return upsample(low_logits, (image.shape[2], image.shape[3])), low_logits

    def first_clicks(self, clicks: ClickBatch) -> ClickBatch:
        """Return the clicks that the heavy half sees."""
        return replace(clicks, valid=clicks.valid & clicks.first & self.config.first_click)

    def first_disk(self, clicks: ClickBatch, like: Tensor) -> Tensor:
        """Return the disk map (b, 1, h, w) of the first click, blank if that click is negative."""
        hw = (like.shape[2], like.shape[3])
        return disk_maps(self.first_clicks(clicks), hw, self.config.click_radius)[:, :1].to(like.dtype)


class EmcHRNet(Emc):
    """EMC-Click on HRNet + OCR; the previous mask is not used."""

    def __init__(self, config: EmcHRNetConfig) -> None:
        super().__init__()
        self.config = config
        self.traits = PUBLISHED_TRAITS
        self.maps_transform = maps_transform(1)
        self.feature_extractor = HRNetOCR(config.width, config.ocr_width, config.small)
        self.refiner = MaskCorrection(config, 2 * config.ocr_width)

    def run_base(self, image: Tensor, prev_mask: Tensor, clicks: ClickBatch) -> Base:
        """Run HRNet on the image and the first positive click."""
        side = self.maps_transform(self.first_disk(clicks, image))
        output = self.feature_extractor(self.normalise(image), side)
        return Base(output.feature, output.logits, output.aux_logits)

    def blocks(self) -> Sequence[nn.Module]:
        """List HRNet's blocks."""
        return self.feature_extractor.blocks()

    def pretrained_parts(self) -> Sequence[nn.Module]:
        """List HRNet without its OCR heads."""
        return self.feature_extractor.pretrained_parts()

    def float32_parts(self) -> Sequence[nn.Module]:
        """List those of HRNet and of the correction network."""
        return (*self.feature_extractor.float32_parts(), *super().float32_parts())

    def load_backbone(self, state: dict[str, Tensor]) -> list[str]:
        """Load an ImageNet HRNet (timm's or the authors' names); returns the names of the tensors that were set."""
        return load_hrnet_backbone(self, state, "feature_extractor.")


class _SegFormer(nn.Module):
    def __init__(self, config: EmcSegFormerConfig) -> None:
        super().__init__()
        self.backbone = MixTransformer(config.dims, config.depths, config.drop_path, side_channels=1)
        self.decode_head = SegFormerHead(config.dims, config.head_dim)


class EmcSegFormer(Emc):
    """EMC-Click on SegFormer, whose first stage needs no click (`start`); the previous mask is not used."""

    def __init__(self, config: EmcSegFormerConfig) -> None:
        super().__init__()
        self.config = config
        self.traits = replace(PUBLISHED_TRAITS, starts=True)
        self.feature_extractor = _SegFormer(config)
        self.refiner = MaskCorrection(config, config.head_dim)

    def start(self, image: Tensor) -> Started:
        """Run the first stage."""
        return (self.feature_extractor.backbone.first_stage(self.normalise(image)),)

    def encode(self, image: Tensor, prev_mask: Tensor, clicks: ClickBatch, started: Started | None = None) -> Encoded:
        """Run SegFormer on the image and the first positive click."""
        return self._taken(image, self.run_base(image, prev_mask, clicks, started))

    def run_base(self, image: Tensor, prev_mask: Tensor, clicks: ClickBatch, started: Started | None = None) -> Base:
        """Run SegFormer on the image and the first positive click."""
        (first,) = self.start(image) if started is None else started
        maps = self.feature_extractor.backbone(first, self.first_disk(clicks, image))
        feature, logits = self.feature_extractor.decode_head(maps)
        # As published, the auxiliary output is the main one.
        return Base(feature, logits, logits)

    def blocks(self) -> Sequence[nn.Module]:
        """List the encoder's blocks."""
        return self.feature_extractor.backbone.blocks()

    def pretrained_parts(self) -> Sequence[nn.Module]:
        """List the encoder."""
        return (self.feature_extractor.backbone,)

    def load_backbone(self, state: dict[str, Tensor]) -> list[str]:
        """Load an ImageNet MiT (the authors' names); returns the names of the tensors that were set.

        The side branch for the first click, which such files do not contain, keeps its weights. Raises InputError,
        before anything is copied, if tensors are missing or have another shape.
        """
        names = {
            f"feature_extractor.backbone.{name}": name
            for name in self.feature_extractor.backbone.state_dict()
            if not name.startswith("patch_embed_side")
        }
        return copy_tensors(self, state, names, what="MiT")


class EmcVit(Emc):
    """The mask-correction network on SimpleClick's network; the heavy half takes the previous mask (ours)."""

    def __init__(self, config: EmcVitConfig) -> None:
        super().__init__()
        self.config = config
        self.base = SimpleClick(config)
        self.traits = replace(self.base.traits, multiple=4, split=True)
        self.refiner = MaskCorrection(config, config.head_dim)

    def run_base(self, image: Tensor, prev_mask: Tensor, clicks: ClickBatch) -> Base:
        """Run the ViT on image, previous mask and first click; outputs have a quarter of the view's size."""
        feature, logits = self.base.decode(image, prev_mask, self.first_clicks(clicks))
        quarter = (image.shape[2] // 4, image.shape[3] // 4)
        return Base(feature, upsample(logits, quarter))

    def blocks(self) -> Sequence[nn.Module]:
        """List the blocks of the base's ViT."""
        return self.base.blocks()

    def positions(self) -> Sequence[nn.Parameter]:
        """List those of the base's ViT."""
        return self.base.positions()

    def click_embedding(self) -> Sequence[nn.Module]:
        """List that of the base."""
        return self.base.click_embedding()

    def layers(self) -> Sequence[tuple[str, ...]]:
        """List the layers of the base's ViT."""
        return [tuple(f"base.{start}" for start in starts) for starts in self.base.layers()]

    def fit_state(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Resize a positional embedding that was trained for another grid."""
        own = {key.removeprefix("base."): value for key, value in state.items() if key.startswith("base.")}
        return state | {f"base.{key}": value for key, value in self.base.fit_state(own).items()}

    def load_backbone(self, state: dict[str, Tensor]) -> list[str]:
        """Load a timm or MAE ViT, as SimpleClick does; returns the names of the tensors that were set."""
        return [f"base.{name}" for name in self.base.load_backbone(state)]

    def load_base(self, state: dict[str, Tensor]) -> list[str]:
        """Load a fine-tuned SimpleClick network (our names) as the base; returns the names of tensors that were set.

        Raises InputError, before anything is loaded, if tensors are missing, unused or of another shape.
        """
        state = self.base.fit_state(state)
        title = "these weights do not fit the SimpleClick network that is the base of this network:"
        check_fit(title, shapes_of(self.base.state_dict()), shapes_of(state))
        self.base.load_state_dict(state)
        return [f"base.{name}" for name in state]
