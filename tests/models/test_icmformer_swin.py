from pathlib import Path

import pytest
import torch
from torch import Tensor

from models import published
from models.click_maps import collate_clicks
from models.errors import InputError
from models.interaction import Clicks
from models.networks import NETWORKS, create
from models.networks.icmformer_swin import ICMFormerSwin
from models.networks.swin import Block
from models.published.importing import import_backbone, import_model
from tests.models.authors import authors_state
from tests.models.tiny import tiny_swin, views

pytestmark = pytest.mark.networks


def test_built_and_dead_parameters_add_up_to_the_published_count() -> None:
    with torch.device("meta"):
        network = create("icmformer_swin_base")
    dead = published.family(network).dead(network.config)
    unused = sum(torch.Size(shape).numel() for key, shape in dead.items() if not key.endswith("index"))
    assert sum(parameter.numel() for parameter in network.parameters()) + unused == 121_459_833


def test_a_file_of_the_authors_code_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its patch embedding of clicks is in the backbone, and no forward uses it."""
    source, path = tiny_swin(1), tmp_path / "swin.pth"
    monkeypatch.setitem(NETWORKS, "icmformer_swin_base", source.config)
    torch.save({"state_dict": authors_state(source)}, path)
    imported = import_model(path, "icmformer_swin_base")
    assert imported.report is not None
    assert imported.report.missing_dead == ()
    state = imported.network.state_dict()
    assert all(torch.equal(tensor, source.state_dict()[key]) for key, tensor in state.items())
    with pytest.raises(InputError, match="holds a whole click-to-mask model"):
        import_backbone(path, "icmformer_swin_base")


def reference_attention(block: Block, x: Tensor) -> Tensor:
    """Compute shifted-window attention of one image (h, w, c), token by token."""
    side, shift = block.window_size[0], block.shift_size[0]
    height, width, dim = x.shape
    full_h, full_w = -(-height // side) * side, -(-width // side) * side
    padded = torch.zeros(full_h, full_w, dim)
    padded[:height, :width] = x

    def region(y: int, x: int) -> tuple[int, ...]:
        # Window after the shift, and whether the token wrapped around an edge.
        return tuple(part for n, full in ((y, full_h), (x, full_w)) for part in ((n - shift) % full // side, n < shift))

    heads = block.attn.num_heads
    q, k, v = block.attn.qkv(padded).view(full_h, full_w, 3, heads, dim // heads).unbind(2)
    q, span, table = q * block.attn.scale, 2 * side - 1, block.attn.relative_position_bias_table
    out = torch.zeros(height, width, dim)
    for y in range(height):
        for x_ in range(width):
            seen = [(a, b) for a in range(full_h) for b in range(full_w) if region(a, b) == region(y, x_)]
            scores = torch.stack(
                [(q[y, x_] * k[a, b]).sum(-1) + table[(y - a + side - 1) * span + x_ - b + side - 1] for a, b in seen]
            )
            weights = scores.softmax(0)
            out[y, x_] = sum(weights[n][:, None] * v[a, b] for n, (a, b) in enumerate(seen)).flatten()
    return block.attn.proj(out)


@pytest.mark.parametrize("number", [0, 1])
def test_windows_are_padded_then_shifted(number: int) -> None:
    network = tiny_swin()
    assert isinstance(network, ICMFormerSwin)
    block = network.backbone.stage(1).blocks[number]
    assert isinstance(block, Block)
    assert block.shift_size == (3 * number, 3 * number)
    x = torch.randn(1, 8, 11, 16, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(block._attn(x)[0], reference_attention(block, x[0]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("authors", [False, True])
def test_a_backbone_starts_from_a_pretrained_swin_and_then_runs_as_it_does(authors: bool) -> None:
    from timm.models.swin_transformer import SwinTransformer

    network = tiny_swin()
    assert isinstance(network, ICMFormerSwin)
    torch.manual_seed(7)
    timm = SwinTransformer(
        img_size=192, embed_dim=8, depths=(2, 2, 2, 2), num_heads=(1, 2, 2, 4), window_size=6, always_partition=True
    ).eval()
    state = {key: torch.randn_like(tensor) / 5 for key, tensor in timm.state_dict().items()}
    timm.load_state_dict(state)
    if authors:  # who merge at the end of a stage
        for level in (1, 2, 3):
            for part in ("norm.weight", "norm.bias", "reduction.weight"):
                state[f"layers.{level - 1}.downsample.{part}"] = state.pop(f"layers.{level}.downsample.{part}")
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    names = network.load_backbone(state)
    for key, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[key]) == (key not in names), key
    assert {key for key in before if ".layers." in key or "patch_embed." in key} == set(names)

    image, _ = views(1, (192, 192))
    with torch.inference_mode():
        x, expected = timm.patch_embed(image), timm.forward_intermediates(image, intermediates_only=True, norm=False)
        for level in range(4):
            x = network.backbone.stage(level)(x)
            torch.testing.assert_close(x.permute(0, 3, 1, 2), expected[level], rtol=1e-4, atol=1e-4)
            x = network.backbone.stage(level).merge(x) if level < 3 else x


def test_a_backbone_that_does_not_fit_is_refused() -> None:
    network = tiny_swin()
    assert isinstance(network, ICMFormerSwin)
    with pytest.raises(InputError, match=r"tensors missing: layers\.0\.blocks\.0\.attn"):
        network.load_backbone({})


@pytest.mark.parametrize("hw", [(64, 100), (61, 75), (33, 224)])
def test_views_of_any_size_work_and_encoded_image_serves_many_clicks(hw: tuple[int, int]) -> None:
    network = tiny_swin()
    assert isinstance(network, ICMFormerSwin)
    image, prev_mask = views(2, hw)
    clicks = collate_clicks([Clicks.of([(20, 20, True)]), Clicks.of([(5, 9, False)])])
    with torch.inference_mode():
        logits = network(image, prev_mask, clicks).mask_logits
        assert logits.shape == (2, 1, *hw)
        assert torch.equal(network.segment(network.encode_image(image), prev_mask, clicks).mask_logits, logits)
