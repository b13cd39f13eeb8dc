"""EMC-Click: what each half sees, and its ablations."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from models import checkpoint
from models.click_maps import collate_clicks, squared_distances
from models.errors import InputError
from models.interaction import Clicks
from models.networks import NETWORKS
from models.networks.base import SplitNetwork, upsample
from models.networks.correction import CorrectionConfig, MaskCorrection
from models.networks.emc import EmcSegFormer, EmcVit
from tests.models.tiny import HW, TINY, TINY_HRNET, TINY_SEGFORMER, permuted, seeded, views

pytestmark = pytest.mark.networks

SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "hrnet": ("emc_hrnet18s", TINY_HRNET),
    "segformer": ("emc_segformer_b0", TINY_SEGFORMER),
    "vit": ("emc_vit_base", TINY),
}
ABLATIONS = (
    "first_click",
    "correlation",
    "attention",
    "template_selection",
    "correlation_negatives",
    "attention_negatives",
)


@functools.cache
def emc(kind: str, without: str | None = None) -> SplitNetwork:
    """Return a small network; without one of its parts, it has the whole network's weights where they fit."""
    name, shape = SHAPES[kind]
    network = seeded(name, **shape, correction_width=8, **({} if without is None else {without: False}))
    if without is not None:
        whole, own = emc(kind).state_dict(), network.state_dict()
        network.load_state_dict(
            {k: whole[k] if k in whole and whole[k].shape == v.shape else v for k, v in own.items()}
        )
    assert isinstance(network, SplitNetwork)
    return network


@pytest.fixture(params=SHAPES)
def network(request: pytest.FixtureRequest) -> SplitNetwork:
    return emc(request.param)


@pytest.fixture(params=[(kind, part) for kind in SHAPES for part in ABLATIONS], ids=lambda p: f"{p[0]} without {p[1]}")
def ablation(request: pytest.FixtureRequest) -> tuple[SplitNetwork, SplitNetwork]:
    """Return a network without one part, and the whole network."""
    kind, part = request.param
    return emc(kind, part), emc(kind)


def size(network: SplitNetwork) -> tuple[int, int]:
    """Return a size of views that the network takes, small if possible."""
    return HW if isinstance(network, EmcVit) else (96, 80)


def mixed(num: int) -> list[Clicks]:
    """Return click lists of several lengths; some lack one sign, and the first click of the third is negative."""
    rows = [
        [(60, 70, 1), (30, 50, 0), (20, 10, 1), (80, 40, 0)],
        [(50, 60, 1), (70, 75, 1), (80, 20, 1), (12, 21, 0), (30, 30, 1)],
        [(90, 33, 0), (10.5, 20.25, 1)],
        [(40, 40, 1)],
    ]
    return [Clicks.of(row) for row in rows[:num]]


def test_every_optional_part_has_an_ablation() -> None:
    parts = {field.name for field in dataclasses.fields(CorrectionConfig) if field.type in (bool, "bool")}
    assert parts == set(ABLATIONS)
    registered = {type(config) for config in NETWORKS.values() if isinstance(config, CorrectionConfig)}
    assert {type(emc(kind).config) for kind in SHAPES} == registered


class TestAblations:
    def test_every_parameter_that_is_built_learns(self, ablation: tuple[SplitNetwork, SplitNetwork]) -> None:
        network, _ = ablation
        image, prev_mask = views(2, size(network))
        network.train()
        state = {key: tensor.clone() for key, tensor in network.state_dict().items()}
        try:
            output = network(image, prev_mask, collate_clicks(mixed(2)))
            logits = [output.mask_logits, output.aux_logits, output.base_logits]
            torch.stack([part.square().mean() for part in logits if part is not None]).sum().backward()
            for name, parameter in network.named_parameters():
                assert parameter.grad is not None, f"{name} has no gradient: it is built for nothing"
                assert torch.isfinite(parameter.grad).all(), name
        finally:
            network.zero_grad(set_to_none=True)
            network.load_state_dict(state)
            network.eval()

    def test_part_changes_the_answer(self, ablation: tuple[SplitNetwork, SplitNetwork]) -> None:
        network, whole = ablation
        image, prev_mask = views(2, size(network))
        clicks = collate_clicks(mixed(2))
        with torch.inference_mode():
            change = (network(image, prev_mask, clicks).mask_logits - whole(image, prev_mask, clicks).mask_logits).abs()
        assert change.amax((1, 2, 3)).min() > 1e-4

    def test_part_adds_no_weights(self, ablation: tuple[SplitNetwork, SplitNetwork]) -> None:
        network, whole = ablation
        assert network.state_dict().keys() <= whole.state_dict().keys()

    def test_ablation_survives_saving(self, ablation: tuple[SplitNetwork, SplitNetwork], tmp_path: Path) -> None:
        network, _ = ablation
        loaded, _ = checkpoint.load(checkpoint.save(network, tmp_path))
        assert loaded.config == network.config
        image, prev_mask = views(1, size(network))
        clicks = collate_clicks(mixed(1))
        with torch.inference_mode():
            expected = network(image, prev_mask, clicks).mask_logits
            assert torch.equal(loaded(image, prev_mask, clicks).mask_logits, expected)

    def test_padding_row_order_and_neighbours_do_not_matter(self, ablation: tuple[SplitNetwork, SplitNetwork]) -> None:
        check_rows_and_neighbours(ablation[0])


def check_rows_and_neighbours(network: SplitNetwork) -> None:
    """Compare samples with different numbers of clicks of each sign, in one batch and one by one.

    This runs in float64, where differences beyond rounding show.
    """
    lists = mixed(4)
    image, prev_mask = (part.double() for part in views(4, size(network)))
    batch = collate_clicks(lists)
    try:
        network.double()
        with torch.inference_mode():
            together = network(image, prev_mask, batch).mask_logits
            order = torch.from_numpy(np.random.default_rng(1).permutation(batch.yx.shape[1]))
            assert torch.equal(network(image, prev_mask, permuted(batch, order)).mask_logits, together)
            for i, clicks in enumerate(lists):
                alone = network(image[i : i + 1], prev_mask[i : i + 1], collate_clicks([clicks])).mask_logits
                torch.testing.assert_close(alone[0], together[i], rtol=1e-9, atol=1e-9)
    finally:
        network.float()


def test_a_batch_equals_its_samples(network: SplitNetwork) -> None:
    check_rows_and_neighbours(network)


def encode(network: SplitNetwork, clicks: Clicks, prev_mask: float = 0.0) -> tuple[Tensor, Tensor]:
    image, _ = views(1, size(network))
    with torch.inference_mode():
        encoded = network.encode(image, torch.full_like(image[:, :1], prev_mask), collate_clicks([clicks]))
    return encoded.features, encoded.low_logits


def same(a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


class TestHeavyHalf:
    def test_heavy_half_sees_only_the_first_click(self, network: SplitNetwork) -> None:
        first = encode(network, Clicks.of([(60, 70, True)]))
        assert same(first, encode(network, Clicks.of([(60, 70, True), (90, 20, False), (70, 15, True)])))
        assert not same(first, encode(network, Clicks.of([(15, 70, True)])))
        assert not same(first, encode(network, Clicks.none()))

    def test_negative_first_click_draws_nothing(self, network: SplitNetwork) -> None:
        """The ViT is an exception, since it takes SimpleClick's three maps."""
        negative = encode(network, Clicks.of([(60, 70, False), (90, 20, True)]))
        assert same(negative, encode(network, Clicks.none())) != isinstance(network, EmcVit)
        assert same(negative, encode(network, Clicks.of([(60, 70, False)])))

    def test_first_clicks_of_several_objects_are_seen(self, network: SplitNetwork) -> None:
        """Objects that form one target have one first click each."""
        image, prev_mask = views(1, size(network))
        clicks = collate_clicks([Clicks.of([(60, 70, True), (70, 15, True)])])
        both = dataclasses.replace(clicks, first=clicks.valid.clone())
        with torch.inference_mode():
            assert not torch.equal(
                network.encode(image, prev_mask, both).low_logits, network.encode(image, prev_mask, clicks).low_logits
            )

    def test_only_the_vit_takes_the_previous_mask(self, network: SplitNetwork) -> None:
        clicks = Clicks.of([(60, 70, True)])
        unchanged = same(encode(network, clicks, 0.0), encode(network, clicks, 0.8))
        assert unchanged != isinstance(network, EmcVit)
        assert network.traits.prev_mask == ("unused" if unchanged else "probability")

    @pytest.mark.parametrize("kind", SHAPES)
    def test_heavy_half_without_first_click_sees_no_click(self, kind: str) -> None:
        network = emc(kind, "first_click")
        blank = encode(network, Clicks.none())
        for clicks in mixed(4):
            assert same(blank, encode(network, clicks))
        image, prev_mask = views(1, size(network))
        with torch.inference_mode():
            answers = [network(image, prev_mask, collate_clicks([clicks])).mask_logits for clicks in mixed(2)]
        assert not torch.equal(*answers), "the light half does see them"

    def test_segformer_may_start_before_the_first_click(self) -> None:
        network = emc("segformer")
        assert isinstance(network, EmcSegFormer)
        image, prev_mask = views(2, size(network))
        clicks = collate_clicks(mixed(2))
        with torch.inference_mode():
            started = network.encode(image, prev_mask, clicks, started=network.start(image))
            at_once = network.encode(image, prev_mask, clicks)
        assert torch.equal(started.features, at_once.features)
        assert torch.equal(started.low_logits, at_once.low_logits)


class TestLightHalf:
    def test_forward_is_encode_and_correct(self, network: SplitNetwork) -> None:
        image, prev_mask = views(2, size(network))
        clicks = collate_clicks(mixed(2))
        with torch.inference_mode():
            encoded = network.encode(image, prev_mask, clicks)
            logits, low_logits = network.correct(image, encoded.features, encoded.low_logits, clicks)
            output = network(image, prev_mask, clicks)
        hw = size(network)
        quarter = (hw[0] // 4, hw[1] // 4)
        assert torch.equal(output.mask_logits, logits)
        assert torch.equal(upsample(low_logits, hw), logits)
        assert output.base_logits is not None
        assert torch.equal(output.base_logits, upsample(encoded.low_logits, hw))
        assert encoded.features.shape[2:] == encoded.low_logits.shape[2:] == low_logits.shape[2:] == quarter

    def test_a_correction_builds_on_the_one_before(self, network: SplitNetwork) -> None:
        """The cached logits matter, new ones are returned, and the old ones do not change (undo)."""
        image, prev_mask = views(1, size(network))
        clicks = collate_clicks(mixed(1))
        with torch.inference_mode():
            encoded = network.encode(image, prev_mask, clicks)
            cached = [encoded.features.clone(), encoded.low_logits.clone()]
            first, low_logits = network.correct(image, encoded.features, encoded.low_logits, clicks)
            second, _ = network.correct(image, encoded.features, low_logits, clicks)
            again, _ = network.correct(image, encoded.features, encoded.low_logits, clicks)
        assert (second - first).abs().max() > 1e-4
        assert torch.equal(again, first)
        assert torch.equal(encoded.features, cached[0])
        assert torch.equal(encoded.low_logits, cached[1])

    def test_correction_sees_every_click(self, network: SplitNetwork) -> None:
        image, prev_mask = views(1, size(network))
        with torch.inference_mode():
            encoded = network.encode(image, prev_mask, collate_clicks([Clicks.of([(60, 70, True)])]))
            answers = [
                network.correct(image, encoded.features, encoded.low_logits, collate_clicks([Clicks.of(rows)]))[0]
                for rows in (
                    [(60, 70, True)],
                    [(60, 70, True), (70, 15, True)],
                    [(60, 70, True), (70, 15, False)],
                    [(70, 15, True)],
                )
            ]
        for i, answer in enumerate(answers):
            assert all((answer - other).abs().max() > 1e-4 for other in answers[:i])

    def test_a_sign_without_clicks_is_not_attended_to(self) -> None:
        """Without template selection, a sign has the cells of its clicks, and none without clicks."""
        torch.manual_seed(0)
        parts: dict[str, Any] = {"correction_width": 8, "correlation": False, "template_selection": False}
        both = MaskCorrection(CorrectionConfig(**parts), 4).eval()
        positive = MaskCorrection(CorrectionConfig(**parts, attention_negatives=False), 4).eval()
        positive.load_state_dict(both.state_dict())
        x = torch.randn(4, 8, 6, 6)
        clicks = collate_clicks([Clicks.of(row) for row in ([(8, 8, 1)], [(8, 8, 1), (20, 3, 0)], [(8, 8, 0)], [])])
        with torch.inference_mode():
            chosen = both.templates(x, clicks, squared_distances(clicks, (24, 24)))
            attended, less = both.attend(x, chosen), positive.attend(x, chosen)
        equal = (attended - less).abs().amax((1, 2, 3)) < 1e-6
        assert equal.tolist() == [True, False, False, True]
        assert torch.equal(less[2], x[2])
        assert torch.equal(attended[3], x[3])

    @pytest.mark.parametrize("kind", ["hrnet", "segformer"])
    @pytest.mark.parametrize("hw", [(66, 64), (64, 70), (65, 65)])
    def test_a_view_of_an_odd_size_is_refused(self, kind: str, hw: tuple[int, int]) -> None:
        network, (image, prev_mask) = emc(kind), views(1, hw)
        clicks, nothing = collate_clicks(mixed(1)), torch.zeros(1, 1, 16, 16)
        calls: list[Callable[[], Any]] = [
            lambda: network(image, prev_mask, clicks),
            lambda: network.encode(image, prev_mask, clicks),
            lambda: network.correct(image, nothing, nothing, clicks),
        ]
        for call in calls:
            with pytest.raises(InputError, match=rf"the view is \({hw[0]}, {hw[1]}\).*multiples of 4"):
                call()

    def test_a_view_with_fewer_cells_than_templates_is_refused(self) -> None:
        with pytest.raises(InputError, match=r"the view is 4 x 8 pixels: .* at least 8 cells"):
            emc("hrnet")(*views(1, (4, 8)), collate_clicks(mixed(1)))
