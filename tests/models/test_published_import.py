import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from models import checkpoint
from models.errors import InputError
from models.networks import NETWORKS, create
from models.networks.base import Network
from models.networks.emc import EmcSegFormerConfig, EmcVitConfig
from models.networks.focuscut import FocusCutConfig
from models.networks.icmformer import ICMFormerConfig
from models.networks.ritm import RitmConfig
from models.networks.sam import SamConfig
from models.networks.simpleclick import SimpleClickConfig
from models.published.importing import fresh, fresh_groups, import_backbone, import_base, import_model
from models.published.recognise import PublishedConfig, claimed, config_of, fitting
from tests.models.authors import authors_config, authors_state
from tests.models.tiny import TINY, TINY_FOCUSCUT, TINY_HRNET, TINY_SAM, TINY_SEGFORMER

pytestmark = pytest.mark.networks

VIT: dict[str, Any] = {**TINY}
TINY_REGISTERED: dict[str, Any] = {
    "ritm_hrnet4": RitmConfig(**TINY_HRNET),
    "ritm_hrnet6": RitmConfig(width=6, ocr_width=8, small=True),
    "simpleclick_vit_a": SimpleClickConfig(**VIT),
    "simpleclick_vit_b": SimpleClickConfig(**{**VIT, "dim": 48}),
    "icmformer_vit_a": ICMFormerConfig(**VIT),
    "emc_vit_a": EmcVitConfig(**VIT, correction_width=8),
    "emc_segformer_a": EmcSegFormerConfig(**TINY_SEGFORMER, correction_width=8),
    "focuscut_resnet8": FocusCutConfig(**TINY_FOCUSCUT),
    "sam_vit_a": SamConfig(**TINY_SAM),
    "sam_vit_b": SamConfig(**{**TINY_SAM, "dim": 48}),
}
VIT_CLASS = "is_plainvit_model.PlainVitModel"


@pytest.fixture(autouse=True)
def _tiny_networks() -> Iterator[None]:
    """Replace the registered networks, which are full-size, by small ones."""
    kept = dict(NETWORKS)
    NETWORKS.clear()
    NETWORKS.update(TINY_REGISTERED)
    yield
    NETWORKS.clear()
    NETWORKS.update(kept)


@functools.cache
def original(name: str) -> Network:
    """Return the network of a name, shared by tests that only read it."""
    return fresh(name, seed=7)


def published_by(name: str) -> dict[str, Tensor]:
    return authors_state(original(name))


def save(content: Any, path: Path) -> Path:
    torch.save(content, path)
    return path


def vit_config(dim: int, **params: Any) -> dict[str, Any]:
    shape = {"embed_dim": dim, "depth": 4, "num_heads": 2, "patch_size": [16, 16], "img_size": [224, 224]}
    heads = {"head_params": {"channels": 16, "upsample": "x1"}, "neck_params": {"in_dim": dim}}
    return authors_config(VIT_CLASS, backbone_params=shape, **{**heads, **params})


@pytest.mark.parametrize("name", [name for name in TINY_REGISTERED if not name.startswith("emc_vit")])
def test_published_model_loads_every_tensor(name: str, tmp_path: Path) -> None:
    imported = import_model(save({"state_dict": published_by(name)}, tmp_path / "x.pth"), name)
    loaded = imported.network.state_dict()
    assert all(torch.equal(tensor, loaded[key]) for key, tensor in original(name).state_dict().items())
    assert imported.report is not None
    assert imported.report.num_loaded == len(loaded)
    assert imported.report.missing_dead == ()
    assert imported.source.file == "x.pth"
    assert len(imported.source.sha256) == 64
    assert not imported.network.training


@pytest.mark.check(20)
def test_safetensors_and_pth_load_equal_weights(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    state = published_by("ritm_hrnet4")
    save_file(state, tmp_path / "x.safetensors")
    of_both = [
        import_model(path, "ritm_hrnet4").network.state_dict()
        for path in (tmp_path / "x.safetensors", save(state, tmp_path / "x.pth"))
    ]
    assert all(torch.equal(of_both[0][key], of_both[1][key]) for key in of_both[0])


@pytest.mark.parametrize(
    ("name", "licence"),
    [
        ("ritm_hrnet4", "MIT"),
        ("simpleclick_vit_a", "CC BY-NC 4.0 (non-commercial) if it is CFR-ICL's"),
        ("icmformer_vit_a", "see the LICENSE file of its project"),
        ("emc_segformer_a", "NVIDIA's non-commercial licence"),
        ("focuscut_resnet8", "CC BY-NC 4.0"),
        ("sam_vit_a", "Apache-2.0"),
    ],
)
def test_the_licence_is_that_of_the_family(name: str, licence: str, tmp_path: Path) -> None:
    imported = import_model(save(published_by(name), tmp_path / "x.pth"), name)
    assert licence in imported.source.licence


def test_the_config_in_the_file_is_recorded_and_agrees(tmp_path: Path) -> None:
    state = published_by("simpleclick_vit_a")
    imported = import_model(
        save({"state_dict": state, "config": vit_config(32)}, tmp_path / "x.pth"), "simpleclick_vit_a"
    )
    assert imported.source.published_class == f"isegm.model.{VIT_CLASS}"


@pytest.mark.parametrize("with_config", [True, False])
@pytest.mark.parametrize(
    ("holds", "config", "asked"),
    [
        ("ritm_hrnet6", authors_config("is_hrnet_model.HRNetModel", width=6, ocr_width=8, small=True), "ritm_hrnet4"),
        ("simpleclick_vit_b", vit_config(48), "simpleclick_vit_a"),
        ("simpleclick_vit_a", vit_config(32), "ritm_hrnet4"),
        ("icmformer_vit_a", None, "simpleclick_vit_a"),
        ("simpleclick_vit_a", vit_config(32), "emc_vit_a"),
        ("sam_vit_b", None, "sam_vit_a"),
        ("sam_vit_a", None, "ritm_hrnet4"),
    ],
)
def test_another_network_is_named(holds: str, config: Any, asked: str, with_config: bool, tmp_path: Path) -> None:
    content = {"state_dict": published_by(holds)} | ({"config": config} if with_config and config else {})
    with pytest.raises(InputError, match=f"x.pth holds {holds}: pass --network {holds}") as caught:
        import_model(save(content, tmp_path / "x.pth"), asked)
    assert ("--as base to build emc_vit_a on it" in str(caught.value)) == (asked == "emc_vit_a")


def test_a_shape_that_no_registered_network_has_is_said(tmp_path: Path) -> None:
    config = authors_config("is_hrnet_model.HRNetModel", width=48, ocr_width=8, small=True)
    content = {"state_dict": published_by("ritm_hrnet4"), "config": config}
    with pytest.raises(InputError, match=r"HRNetModel with width=48, ocr_width=8, small=True: no registered network"):
        import_model(save(content, tmp_path / "x.pth"), "ritm_hrnet4")


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"norm_radius": 3}, "norm_radius = 3"),
        ({"use_disks": False}, "use_disks = False"),
        ({"random_split": True}, "random_split = True"),
        ({"head_params": {"channels": 16, "upsample": "x2"}}, "head_params.upsample = 'x2'"),
    ],
)
def test_unsupported_behaviour_in_a_config_is_refused(params: dict[str, Any], said: str, tmp_path: Path) -> None:
    content = {"state_dict": published_by("simpleclick_vit_a"), "config": vit_config(32, **params)}
    with pytest.raises(InputError, match=f"config has {said}: network simpleclick_vit_a supports only"):
        import_model(save(content, tmp_path / "x.pth"), "simpleclick_vit_a")


@pytest.mark.parametrize(
    "config", [None, 3, {"class": 3}, {"class": "a.Unheard"}, {"class": "b.HRNetModel", "params": [1]}]
)
def test_configs_of_other_forms_do_not_matter(config: Any, tmp_path: Path) -> None:
    content = {"state_dict": published_by("ritm_hrnet4"), "config": config}
    assert import_model(save(content, tmp_path / "x.pth"), "ritm_hrnet4").report is not None


def test_file_that_fits_no_network_names_wrong_tensors(tmp_path: Path) -> None:
    state = published_by("ritm_hrnet4")
    del state["feature_extractor.cls_head.bias"]
    with pytest.raises(InputError, match=r"x\.pth: this published checkpoint does not fit.*\n.*cls_head\.bias"):
        import_model(save(state, tmp_path / "x.pth"), "ritm_hrnet4")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda t: t * float("nan"), "has values that are not finite"),
        (lambda t: t + float("inf"), "has values that are not finite"),
        (lambda t: (100 * t).to(torch.int8), r"is torch\.int8, expected torch\.float32"),
        (lambda t: t.to(torch.complex64), r"is torch\.complex64, expected torch\.float32"),
        (lambda t: t.to("meta"), "has a shape but no values"),
        (lambda t: t.to_sparse(), r"has layout torch\.sparse_coo"),
    ],
)
def test_tensors_that_hold_no_weights_are_named(spoil: Callable[[Tensor], Tensor], said: str, tmp_path: Path) -> None:
    key = "feature_extractor.cls_head.bias"
    state = published_by("ritm_hrnet4") | {key: spoil(published_by("ritm_hrnet4")[key])}
    with pytest.raises(InputError, match=rf"1 tensors hold no weights: {key} {said}"):
        import_model(save(state, tmp_path / "x.pth"), "ritm_hrnet4")


def test_weights_in_half_precision_are_loaded(tmp_path: Path) -> None:
    state = {key: t.half() if t.is_floating_point() else t for key, t in published_by("ritm_hrnet4").items()}
    loaded = import_model(save(state, tmp_path / "x.pth"), "ritm_hrnet4").network.state_dict()
    assert all(torch.equal(state[key].float(), tensor.float()) for key, tensor in loaded.items())


def test_plain_weights_take_precedence_over_an_average(tmp_path: Path) -> None:
    state = published_by("ritm_hrnet4")
    average = {key: t + 1 for key, t in state.items()}
    imported = import_model(save({**state, "ema": average}, tmp_path / "x.pth"), "ritm_hrnet4")
    loaded = imported.network.state_dict()
    assert all(torch.equal(loaded[key], t) for key, t in original("ritm_hrnet4").state_dict().items())
    deep = save({"checkpoint": {"model": {"state_dict": state}}, "epoch": torch.ones(1)}, tmp_path / "y.pth")
    assert import_model(deep, "ritm_hrnet4").source.place == "checkpoint.model.state_dict"


@pytest.mark.parametrize("shape", [(3,), (1, 0, 32), (2, 5, 7, 1), (1, 1, 32)])
def test_a_broken_positional_embedding_is_a_misfit(shape: tuple[int, ...], tmp_path: Path) -> None:
    state = published_by("simpleclick_vit_a") | {"backbone.pos_embed": torch.zeros(shape)}
    with pytest.raises(InputError, match=r"pos_embed"):
        import_model(save(state, tmp_path / "x.pth"), "simpleclick_vit_a")


def test_ambiguous_classes_are_resolved_by_shapes() -> None:
    """SimpleClick's and iCMFormer's plain ViTs may share a class and every parameter."""
    config = config_of({"config": vit_config(32)})
    assert config is not None
    assert claimed(config) == ["simpleclick_vit_a", "icmformer_vit_a"]
    assert fitting(published_by("icmformer_vit_a")) == ["icmformer_vit_a"]
    assert claimed(PublishedConfig(class_name="isegm.model.unheard.Of")) is None


def vit_backbone(dim: int = 32, grid: int = 14) -> dict[str, Tensor]:
    """Return a MAE ViT: our tensors under its names, a class token, a final norm."""
    part = create("simpleclick_vit_a", dim=dim, input_hw=(16 * grid, 16 * grid)).get_submodule("backbone").state_dict()
    slot = torch.zeros(1, 1, dim)
    part["pos_embed"] = torch.cat([slot, part["pos_embed"]], 1)
    return {**part, "cls_token": slot, "norm.weight": torch.ones(dim), "norm.bias": torch.zeros(dim)}


def mit_backbone() -> dict[str, Tensor]:
    part = original("emc_segformer_a").get_submodule("feature_extractor.backbone").state_dict()
    state = {key: tensor for key, tensor in part.items() if "side" not in key}
    return {**state, "head.weight": torch.zeros(1000, 32)}


def hrnet_backbone() -> dict[str, Tensor]:
    from models.networks.hrnet import BODY

    part = original("ritm_hrnet4").get_submodule("feature_extractor").state_dict()
    state = {key: tensor for key, tensor in part.items() if key.split(".")[0] in BODY}
    return {**state, "classifier.weight": torch.zeros(1000, 4), "incre_modules.0.0.conv1.weight": torch.zeros(3)}


def resnet_backbone() -> dict[str, Tensor]:
    part = original("focuscut_resnet8").get_submodule("backbone").state_dict()
    names = {"0.0": "conv1", "0.1": "bn1"}
    state = {}
    for key, tensor in part.items():
        for ours, theirs in names.items():
            key = key.replace(f"layers.{ours}.", f"{theirs}.")
        state[key.replace("layers.", "layer")] = tensor
    return {**state, "conv1.weight": state["conv1.weight"][:, :3].contiguous(), "fc.weight": torch.zeros(9, 256)}


BACKBONES: list[tuple[str, Callable[[], dict[str, Tensor]], str, set[str]]] = [
    ("simpleclick_vit_a", vit_backbone, "ViT", {"head", "neck", "patch_embed_coords"}),
    ("emc_vit_a", vit_backbone, "ViT", {"base.head", "base.neck", "base.patch_embed_coords", "refiner"}),
    (
        "emc_segformer_a",
        mit_backbone,
        "MiT",
        {"feature_extractor.backbone.patch_embed_side1", "feature_extractor.decode_head", "refiner"},
    ),
    (
        "ritm_hrnet4",
        hrnet_backbone,
        "HRNet",
        {"maps_transform"}
        | {f"feature_extractor.{part}" for part in ("aux_head", "cls_head", "conv3x3_ocr", "ocr_distri_head")},
    ),
    ("focuscut_resnet8", resnet_backbone, "ResNet", {"my_aspp", "my_decoder", "pred_decoder"}),
]


@pytest.mark.parametrize(("name", "backbone", "kind", "stay_fresh"), BACKBONES, ids=[row[0] for row in BACKBONES])
def test_a_backbone_starts_a_network(
    name: str, backbone: Callable[[], dict[str, Tensor]], kind: str, stay_fresh: set[str], tmp_path: Path
) -> None:
    path = save(backbone(), tmp_path / "x.pth")
    imported = import_backbone(path, name, seed=3)
    state, seeded = imported.network.state_dict(), fresh(name, seed=3).state_dict()
    groups = fresh_groups(imported.network, imported.started)
    assert groups.keys() == stay_fresh
    assert len(imported.started) + sum(groups.values()) == len(state)
    assert all(torch.equal(state[key], seeded[key]) for key in state.keys() - set(imported.started))
    drawn = [key for key in imported.started if state[key].dim() > 1 and "pos_embed" not in key]
    assert not [key for key in drawn if torch.equal(state[key], seeded[key])]
    with pytest.raises(InputError, match=rf"x\.pth holds a backbone \({kind}\).*pass --as backbone to start {name}"):
        import_model(path, name)


@pytest.mark.parametrize(("name", "backbone"), [(row[0], row[1]) for row in BACKBONES])
@pytest.mark.parametrize("prefix", ["backbone.", "module.backbone."])
def test_backbones_may_have_a_prefix(
    name: str, backbone: Callable[[], dict[str, Tensor]], prefix: str, tmp_path: Path
) -> None:
    state = backbone()
    plain, below = (
        import_backbone(save(named, tmp_path / "x.pth"), name).network.state_dict()
        for named in (state, {f"{prefix}{key}": tensor for key, tensor in state.items()})
    )
    assert all(torch.equal(plain[key], below[key]) for key in plain)


def test_hrnet_files_without_batch_counts_load(tmp_path: Path) -> None:
    state = {key: tensor for key, tensor in hrnet_backbone().items() if not key.endswith("num_batches_tracked")}
    imported = import_backbone(save(state, tmp_path / "x.pth"), "ritm_hrnet4")
    assert torch.equal(imported.network.state_dict()["feature_extractor.bn1.weight"], state["bn1.weight"])


@pytest.mark.parametrize(("name", "backbone"), [(row[0], row[1]) for row in BACKBONES])
def test_a_backbone_that_lacks_a_tensor_is_refused(
    name: str, backbone: Callable[[], dict[str, Tensor]], tmp_path: Path
) -> None:
    state = backbone()
    lost = next(key for key in state if key.endswith("norm1.weight") or "layer1.0.bn1.weight" in key)
    del state[lost]
    with pytest.raises(InputError, match=r"x\.pth holds a \w+: .*\n  1 tensors missing: [\w.]+"):
        import_backbone(save(state, tmp_path / "x.pth"), name)


def test_backbone_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds a ResNet: these weights do not fit the ViT"):
        import_backbone(save(resnet_backbone(), tmp_path / "x.pth"), "simpleclick_vit_a")
    with pytest.raises(InputError, match=r"holds a ViT: these weights do not fit the HRNet"):
        import_backbone(save(vit_backbone(), tmp_path / "x.pth"), "ritm_hrnet4")


@pytest.mark.parametrize("name", ["ritm_hrnet4", "simpleclick_vit_a"])
def test_import_backbone_refuses_a_whole_model(name: str, tmp_path: Path) -> None:
    path = save({"state_dict": published_by(name)}, tmp_path / "x.pth")
    with pytest.raises(InputError, match=rf"whole click-to-mask model \({name}\).*leave out --as backbone"):
        import_backbone(path, name)


def test_a_network_without_a_backbone_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from models.networks.ritm import Ritm

    monkeypatch.delattr(Ritm, "load_backbone")
    with pytest.raises(InputError, match="network ritm_hrnet4 has no backbone that can load pre-trained weights"):
        import_backbone(save(hrnet_backbone(), tmp_path / "x.pth"), "ritm_hrnet4")


@pytest.mark.parametrize("ours", [True, False])
def test_a_fine_tuned_network_becomes_a_base(ours: bool, tmp_path: Path) -> None:
    base = fresh("simpleclick_vit_a", seed=5)
    if ours:
        path = checkpoint.save(base, tmp_path / "checkpoint", licence="mine")
    else:
        path = save({"state_dict": authors_state(base)}, tmp_path / "x.pth")
    imported = import_base(path, "emc_vit_a", seed=3)
    state, seeded = imported.network.state_dict(), fresh("emc_vit_a", seed=3).state_dict()
    assert all(torch.equal(state[f"base.{key}"], tensor) for key, tensor in base.state_dict().items())
    assert fresh_groups(imported.network, imported.started).keys() == {"refiner"}
    assert all(torch.equal(state[key], seeded[key]) for key in state if key.startswith("refiner."))
    assert imported.source.licence == ("mine" if ours else "MIT if the file is SimpleClick's, CC BY-NC 4.0 "
                                       "(non-commercial) if it is CFR-ICL's")  # fmt: skip


def test_import_base_refuses_other_networks(tmp_path: Path) -> None:
    path = save(published_by("simpleclick_vit_b"), tmp_path / "x.pth")
    with pytest.raises(InputError, match=r"holds simpleclick_vit_b: the base of emc_vit_a is simpleclick_vit_a$"):
        import_base(path, "emc_vit_a")
    with pytest.raises(InputError, match="ritm_hrnet4 has no base network: use --as base only for emc_vit"):
        import_base(path, "ritm_hrnet4")
    with pytest.raises(InputError, match="pass --as backbone to start emc_vit_a from it"):
        import_base(save(vit_backbone(), tmp_path / "y.pth"), "emc_vit_a")
    folder = checkpoint.save(fresh("ritm_hrnet4"), tmp_path / "ours")
    with pytest.raises(InputError, match="is a checkpoint of network 'ritm_hrnet4': expected 'simpleclick_vit_a'"):
        import_base(folder, "emc_vit_a")


def test_import_refuses_a_maskwright_checkpoint(tmp_path: Path) -> None:
    folder = checkpoint.save(fresh("ritm_hrnet4"), tmp_path / "ours")
    for path in (folder, folder / checkpoint.WEIGHTS):
        with pytest.raises(InputError, match="ours is a Maskwright checkpoint already: use the folder itself"):
            import_model(path, "ritm_hrnet4")


def test_seed_sets_fresh_weights_and_keeps_the_random_state() -> None:
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    one, two, other = (fresh("ritm_hrnet4", seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert not torch.equal(one["maps_transform.0.weight"], other["maps_transform.0.weight"])
