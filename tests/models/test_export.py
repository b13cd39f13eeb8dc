"""ONNX files answer as torch does; data-dependent code has another form in a graph, with the same values."""

from pathlib import Path

import pytest
import torch

from models import export
from models.click_maps import ClickBatch, squared_distances
from models.export import verify
from models.geometry import expand
from models.networks.base import Network
from models.networks.exemplar_guide import crop_all, mask_boxes
from models.networks.templates import best_cells
from tests.models.tiny import HW, TINY, TINY_HRNET, TINY_NETWORKS, example, seeded, tiny_network, views

pytestmark = pytest.mark.networks

CLICKS = ["clicks_yx", "clicks_positive", "clicks_valid"]
LEFT_OUT = {"emc hrnet": {"prev_mask"}, "emc segformer": {"prev_mask"}}
"""Inputs of the encoder that are left out. All other graphs leave out only `clicks_first`."""


def assert_answers_like_torch(network: Network, folder: Path) -> dict[str, list[str]]:
    """Write, check and read back every graph; returns the names of the inputs."""
    import onnx

    used = {}
    for graph in export.graphs(network):
        path = folder / f"{graph.name}.onnx"
        used[graph.name] = export.write(graph, path)
        for check in export.check(graph, path):
            assert check.difference is not None
            assert not check.failed, check
        model = onnx.load(path)
        onnx.checker.check_model(model)
        assert {opset.version for opset in model.opset_import if opset.domain == ""} == {export.OPSET}
        ports = {port.name: port for port in (*graph.inputs, *graph.outputs)}
        assert [value.name for value in model.graph.input] == used[graph.name]
        assert [value.name for value in model.graph.output] == [port.name for port in graph.outputs]
        for value in (*model.graph.input, *model.graph.output):
            dims = tuple(dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim)
            assert dims == ports[value.name].shape
    return used


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(TINY_NETWORKS))
def test_onnxruntime_answers_as_torch(name: str, tmp_path: Path) -> None:
    network = TINY_NETWORKS[name]()
    used = assert_answers_like_torch(network, tmp_path)
    if network.traits.prompted:
        maps = ["image_embeddings", "high_res_0", "high_res_1"][: 3 if name in ("sam2", "lite") else 1]
        rest = ["point_coords", "point_labels", "mask_input", "has_mask_input", "orig_im_size"]
        assert used == {"encoder": ["input"], "decoder": [*maps, *rest]}
    elif not network.traits.split:
        assert set(used) == ({"network", "focus_view"} if name == "focuscut apart" else {"network"})
        assert used["network"][:5] == ["image", "prev_mask", *CLICKS]
        exemplar = ["mask", "positive_yx", "positive_valid", "true_negative_yx", "true_negative_valid"]
        assert used["network"][5:] == ([f"exemplar_{part}" for part in exemplar] if network.traits.exemplar else [])
    else:
        expected = ["image", "prev_mask", *CLICKS, "clicks_first"]
        assert used["encoder"] == [port for port in expected if port not in LEFT_OUT.get(name, ())]
        assert used["correction"] == ["image", "features", "low_logits", *CLICKS]


@pytest.mark.slow
@pytest.mark.parametrize(
    "network",
    [
        lambda: seeded("emc_vit_base", **TINY, correction_width=8, template_selection=False),
        lambda: seeded("emc_hrnet18s", **TINY_HRNET, correction_width=8, attention=False, first_click=False),
        lambda: tiny_network(
            name="icmformerpp_vit_base", exemplar_negative="pseudo_and_true", exemplar_positive="first",
            fusion="self_attention", exemplar_image="masked",
        ),
        lambda: tiny_network(input_hw=(224, 448)),
    ],
    ids=["clicked templates", "no attention", "exemplar's other switches", "oblong"],
)  # fmt: skip
def test_switches_of_the_configs_are_exported(network, tmp_path: Path) -> None:
    assert_answers_like_torch(network(), tmp_path)


@pytest.mark.slow
def test_file_with_other_weights_fails_the_check(tmp_path: Path) -> None:
    network = tiny_network(input_hw=(32, 32))
    assert assert_answers_like_torch(network, tmp_path) == {"network": ["image", "prev_mask", *CLICKS]}
    with torch.no_grad():
        network.get_parameter("head.conv_seg.bias").add_(1.0)
    assert all(check.failed for check in export.check(export.graphs(network)[0], tmp_path / "network.onnx"))


def test_distances_are_the_same_bits_in_a_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    yx = torch.rand(3, 7, 2, generator=generator) * 140 - 20
    positive, valid = (torch.rand(3, 7, generator=generator) < share for share in (0.5, 0.8))
    valid[2] = False
    clicks = ClickBatch(yx, positive, valid, torch.zeros_like(valid))
    eager = [squared_distances(clicks, (90, 121)), squared_distances(clicks, (90, 121), drawn=valid)]
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert torch.equal(squared_distances(clicks, (90, 121)), eager[0])
    assert torch.equal(squared_distances(clicks, (90, 121), drawn=valid), eager[1])


@pytest.mark.parametrize("template_selection", [True, False])
def test_correction_is_the_same_bits_in_a_graph(template_selection: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    network = seeded("emc_vit_base", **TINY, correction_width=8, template_selection=template_selection)
    _, graph = export.graphs(network)
    inputs = graph.draw(export.Sizes(batch=2, clicks=4, hw=HW), torch.Generator().manual_seed(0))
    inputs[4][0] = True  # a sample without negative clicks
    with torch.no_grad():
        eager = graph.module(*inputs)
        monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
        traced = graph.module(*inputs)
    assert all(torch.equal(a, b) for a, b in zip(eager, traced, strict=True))


def test_crops_of_the_exemplar_are_the_same_in_a_graph() -> None:
    hw = (112, 160)
    boxes = [(3, 100, 10, 20), (0, 0, 0, 0), (111, 111, 159, 159), (20, 90, 0, 159), None]
    mask = torch.zeros(len(boxes), 1, *hw)
    for row, box in enumerate(boxes):
        if box is not None:
            mask[row, 0, box[0] : box[1] + 1, box[2] : box[3] + 1] = 1
    image, scales = views(len(boxes), hw)[0], (0.8, 1.0, 1.2)
    network = tiny_network(name="icmformerpp_vit_base")
    guide = network.get_submodule("guide")
    crops, found = crop_all(image, mask, scales, 128)
    assert found.tolist() == [box is not None for box in boxes]
    for row, box in enumerate(mask_boxes(mask)):
        for number, scale in enumerate(scales):
            if box is not None:
                expected = guide.crop(image[row], expand(box, scale, 1, hw))
                torch.testing.assert_close(crops[row, number], expected, rtol=0, atol=1e-6)


def test_a_guide_is_the_same_in_a_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    network = tiny_network(name="icmformerpp_vit_base")
    guide, image, exemplar = network.get_submodule("guide"), views(3, HW)[0], example(3, HW)
    exemplar.mask[1] = 0
    with torch.no_grad():
        features = guide.features(image)
        eager = guide(features, image, exemplar.mask, (14, 14))
        monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
        traced = guide(features, image, exemplar.mask, (14, 14))
    assert not traced[1].any()
    torch.testing.assert_close(traced, eager, rtol=1e-4, atol=1e-4)


def test_equal_scores_are_ordered_by_cell() -> None:
    scores = torch.tensor([[0.5, 2.0, 0.5, 2.0, 0.5, 1.0]]).repeat(1, 2000)
    assert best_cells(scores, 5).tolist() == [[1, 3, 7, 9, 13]]
    generator = torch.Generator().manual_seed(0)
    scores = 3 * torch.rand(2, 90_000, generator=generator)
    by_sorting = scores.sort(descending=True, stable=True).indices[:, :96]
    assert torch.equal(best_cells(scores, 96), by_sorting)


def test_disagreement_with_torch_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    (graph,) = export.graphs(tiny_network(input_hw=(32, 32)))
    monkeypatch.setattr(verify, "open_session", lambda path: None)
    with torch.no_grad():
        spread = graph.module(*graph.draw(verify.cases(graph)[0], torch.Generator().manual_seed(0))).std()
    for off, failed in ((0.0, False), (5e-4, False), (5e-3, True), (float("nan"), True)):
        monkeypatch.setattr(verify, "run", lambda _, graph, inputs, off=off: [graph.module(*inputs) + off * spread])
        with torch.no_grad():
            assert [check.failed for check in export.check(graph, Path("unused"))] == [failed] * 3, off


class Ambiguous(torch.nn.Module):
    """Answers by a difference that exists in double but not in float32."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.where(x + 1e-9 > x, x, -x)


def test_cases_decided_by_rounding_are_not_comparable(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = export.Graph(
        name="network", module=Ambiguous(), inputs=(), outputs=(), multiple=1, hw=(4, 4),
        draw=lambda sizes, generator: (1 + torch.rand(sizes.batch, 8, generator=generator),),
    )  # fmt: skip
    monkeypatch.setattr(verify, "open_session", lambda path: None)
    monkeypatch.setattr(verify, "run", lambda session, graph, inputs: [inputs[0]])
    assert [check.difference for check in export.check(graph, Path("unused"))] == [None] * 3


def test_check_fails_above_the_allowed_difference() -> None:
    sizes = export.Sizes(batch=1, clicks=1, hw=(4, 4))
    assert not export.Check(sizes=sizes, difference=4e-3, allowed=5e-3).failed
    assert export.Check(sizes=sizes, difference=4e-3).failed
    assert export.Check(sizes=sizes, difference=float("nan")).failed
    assert not export.Check(sizes=sizes, difference=None).failed
