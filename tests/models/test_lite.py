"""Small networks around timm's backbones: they start with MobileSAM's answers, on frames as large as their views."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from models import checkpoint
from models.click_maps import collate_clicks
from models.errors import InputError
from models.interaction import Clicks
from models.networks import create
from models.networks.lite import CANVAS, Details, Lite, spots
from models.networks.sam import Sam
from models.published.importing import import_base
from pipeline.training.runner import freeze
from tests.models.tiny import TINY_NETWORKS, views

pytestmark = pytest.mark.networks
SIDE = 224


@pytest.fixture(scope="module")
def mobile_sam() -> Sam:
    torch.manual_seed(0)
    network = create("mobile_sam", side=SIDE).eval()
    assert isinstance(network, Sam)
    return network


def lite(name: str = "lite_s", **options: object) -> Lite:
    torch.manual_seed(1)
    network = create(name, **options).eval()
    assert isinstance(network, Lite)
    return network


def clicks(*yx: tuple[float, float]) -> Clicks:
    signs = [number % 2 == 0 for number in range(len(yx))]
    return Clicks(torch.tensor(yx).numpy(), torch.tensor(signs).numpy())


def test_lite_with_mobile_sam_weights_answers_as_mobile_sam(mobile_sam: Sam) -> None:
    network = lite(side=SIDE)
    started = network.load_base(mobile_sam.state_dict())
    fresh = network.state_dict().keys() - set(started)
    assert {".".join(name.split(".")[:2]) for name in fresh} == {
        "mask_decoder.conv_s0", "mask_decoder.conv_s1", "mask_decoder.details", "image_encoder.lateral",
    }  # fmt: skip
    network.canvas = mobile_sam.canvas  # as large as the frame, as mobile_sam has it at this size
    image = views(1, (SIDE, SIDE))[0]
    low: list[Tensor | None] = [None, None]
    with torch.inference_mode():
        for places in ([(60.0, 50.0)], [(60.0, 50.0), (150.0, 170.0)]):
            given = collate_clicks([clicks(*places)])
            (ours, low[0]), (theirs, low[1]) = (
                each.prompt(each.start(image), (SIDE, SIDE), given, low_logits)
                for each, low_logits in zip((network, mobile_sam), low, strict=True)
            )
            assert theirs.std() > 0.01
            assert (ours - theirs).abs().max() < 1e-5 * theirs.std()


def test_a_frame_is_padded_to_whole_cells_alone() -> None:
    network = TINY_NETWORKS["lite"]()
    assert isinstance(network, Lite)
    image = views(1, (130, SIDE))[0]
    with torch.inference_mode():
        started = network.start(image)
        logits, low = network.prompt(started, (130, SIDE), collate_clicks([clicks((60, 50))]))
    assert started[0].shape == (1, 256, 10, 14)
    assert started[1].shape == (1, 64, 20, 28)
    assert started[2].shape == (1, 32, 40, 56)
    assert low.shape == (1, 1, 40, 56)
    assert logits.shape == (1, 1, 130, SIDE)


def test_position_codes_do_not_depend_on_the_frame_size() -> None:
    network = TINY_NETWORKS["lite"]()
    assert isinstance(network, Lite)
    places = network.prompt_encoder.pe_layer
    whole = places.grid((64, 64), CANVAS / 16)
    assert torch.equal(places.grid((5, 9), CANVAS / 16), whole[:, :, :5, :9])
    assert network.canvas == CANVAS


def test_frozen_encoder_runs_once_while_finer_maps_learn() -> None:
    network = TINY_NETWORKS["lite"]()
    assert isinstance(network, Lite)
    freeze(network.heavy_parts())
    runs: list[int] = []
    network.image_encoder.register_forward_hook(lambda *_: runs.append(1))
    image, given = views(1, (SIDE, SIDE))[0], collate_clicks([clicks((60, 50))])
    nothing = torch.zeros(1, 1, SIDE, SIDE)
    output = network(image, nothing, given)
    again = network(image, torch.sigmoid(output.mask_logits.detach()), given, **output.carry)
    again.mask_logits.square().mean().backward()
    assert len(runs) == 1
    for conv in (network.mask_decoder.conv_s0, network.mask_decoder.conv_s1):
        assert conv is not None
        assert conv.weight.grad is not None
        assert conv.weight.grad.abs().max() > 0
    assert all(parameter.grad is None for parameter in network.image_encoder.parameters())


def test_spots_are_drawn_at_valid_clicks_only() -> None:
    network = TINY_NETWORKS["lite"]()
    assert isinstance(network, Lite)
    drawn = spots(
        network.prompts((SIDE, SIDE), collate_clicks([clicks((61.5, 37.5), (201.5, 101.5)), clicks((5.5, 9.5))])),
        (56, 56),
    )
    assert drawn.shape == (2, 4, 56, 56)
    assert drawn.amin() >= 0
    for sample, kind, place in ((0, 0, (15, 9)), (0, 2, (50, 25)), (1, 0, (1, 2))):
        for width in (0, 1):
            assert divmod(int(drawn[sample, kind + width].argmax()), 56) == place
            assert drawn[sample, kind + width].amax() == 1
    assert drawn[1, 2:].amax() == 0


def test_trained_details_change_features_only_near_clicks() -> None:
    network = TINY_NETWORKS["lite"]()
    assert isinstance(network, Lite)
    details = network.mask_decoder.details
    assert isinstance(details, Details)
    torch.manual_seed(3)
    features, maps = torch.randn(1, 32, 56, 56), torch.zeros(1, 5, 56, 56)
    with torch.inference_mode():
        assert details(features, maps).abs().max() == 0
        nn.init.normal_(details.leave.weight)
        marked = maps.clone()
        marked[:, 1, 20, 20] = 1
        changed = (details(features, marked) - details(features, maps)).abs().amax(1)[0] > 0
    rows, columns = changed.nonzero(as_tuple=True)
    assert changed[20, 20]
    assert int(rows.min()) >= 8
    assert int(rows.max()) <= 32
    assert int(columns.min()) >= 8
    assert int(columns.max()) <= 32


@pytest.mark.parametrize("backbone", ["no_such_backbone", "vit_tiny_patch16_224"])
def test_backbone_without_needed_maps_is_refused(backbone: str) -> None:
    with pytest.raises(InputError, match=backbone):
        create("lite_s", backbone=backbone)


def test_lite_loads_a_backbone_of_another_task() -> None:
    import timm

    torch.manual_seed(2)
    state = timm.create_model("test_efficientnet", num_classes=3).state_dict()
    network = lite(backbone="test_efficientnet", side=SIDE)
    started = network.load_backbone(state)
    assert started
    for name in started:
        assert torch.equal(network.state_dict()[name], state[name.removeprefix("image_encoder.trunk.")])
    with pytest.raises(InputError, match="missing"):
        lite(backbone="test_efficientnet", side=SIDE).load_backbone({})


def test_lite_imports_mobile_sam_as_base_with_its_refinement(tmp_path: Path) -> None:
    whole = create("mobile_sam")
    folder = checkpoint.save(whole, tmp_path / "mobile_sam", licence="Apache-2.0")
    imported = import_base(folder, "lite_s")
    assert imported.refinement == "sam"
    assert imported.source.licence == "Apache-2.0"
    name = "image_encoder.neck.0.weight"
    assert torch.equal(imported.network.state_dict()[name], whole.state_dict()[name])
    other = checkpoint.save(TINY_NETWORKS["ritm"](), tmp_path / "ritm")
    with pytest.raises(InputError, match="mobile_sam"):
        import_base(other, "lite_s")


def test_weights_without_details_answer_as_before(tmp_path: Path) -> None:
    network = TINY_NETWORKS["lite"]()
    old = {name: value for name, value in network.state_dict().items() if ".details." not in name}
    read, _ = checkpoint.load(checkpoint.save(network, tmp_path / "old", state=old))
    image = views(1, (SIDE, SIDE))[0]
    given = collate_clicks([clicks((60, 50))])
    with torch.inference_mode():
        answers = [each.prompt(each.start(image), (SIDE, SIDE), given)[0] for each in (network, read)]  # pyright: ignore
    assert torch.equal(*answers)
    half = dict(network.state_dict())
    del half["mask_decoder.details.leave.bias"]
    with pytest.raises(InputError, match=r"details.leave.bias"):
        checkpoint.load(checkpoint.save(network, tmp_path / "half", state=half))
