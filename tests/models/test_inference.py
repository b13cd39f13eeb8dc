"""Networks prepared for inference are only faster."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch

from models import checkpoint
from models.click_maps import ClickBatch, collate_clicks
from models.errors import InputError
from models.inference import prepare
from models.networks.base import Network
from models.predictor import Predictor
from tests.models.tiny import HW, TINY_NETWORKS, click_list, more, photo, tiny_network, views

pytestmark = pytest.mark.networks


@pytest.fixture(scope="module", params=TINY_NETWORKS)
def network(request: pytest.FixtureRequest) -> Network:
    return TINY_NETWORKS[request.param]()


def test_a_prepared_network_answers_the_same_without_batch_norms(network: Network) -> None:
    image, prev_mask = (view.double() for view in views(2, HW))
    clicks = collate_clicks([click_list(np.random.default_rng(0), num, HW) for num in (1, 4)])
    # In double precision, a remaining difference is one of arithmetic and not of rounding.
    network = copy.deepcopy(network).double()
    ready = prepare(copy.deepcopy(network))
    assert not [name for name, module in ready.named_modules() if isinstance(module, torch.nn.BatchNorm2d)]
    with torch.inference_mode():
        exact = network(image, prev_mask, clicks, **more(network, 2)).mask_logits
        found = ready(image, prev_mask, clicks, **more(network, 2)).mask_logits
    assert (found - exact).abs().max() <= 1e-9 * exact.std()


def test_prepared_network_on_a_cpu_answers_the_same_twice(network: Network) -> None:
    """In float32, where oneDNN is called directly; twice, since its calls write in place and keep packed weights."""
    image, prev_mask = views(2, HW)
    clicks = collate_clicks([click_list(np.random.default_rng(0), num, HW) for num in (1, 4)])
    single = ClickBatch(*(part[:1] for part in (clicks.yx, clicks.positive, clicks.valid, clicks.first)))
    ready = prepare(copy.deepcopy(network))
    with torch.inference_mode():
        exact = network(image, prev_mask, clicks, **more(network, 2))
        for _ in range(2):
            found = ready(image, prev_mask, clicks, **more(network, 2))
            ours, theirs = (out.mask_logits if out.base_logits is None else out.base_logits for out in (found, exact))
            assert (ours - theirs).abs().max() <= 2e-3 * theirs.std()
            if not network.traits.exemplar:  # one image takes another path than a batch
                alone = ready(image[:1], prev_mask[:1], single)
                ours = alone.mask_logits if alone.base_logits is None else alone.base_logits
                assert (ours - theirs[:1]).abs().max() <= 2e-3 * theirs.std()


def test_bf16_network_keeps_matrices_in_bfloat16(network: Network) -> None:
    ready = prepare(copy.deepcopy(network), bf16=True)
    kinds = {parameter.dtype for parameter in ready.parameters()}
    assert kinds == {torch.bfloat16, torch.float32}
    image, prev_mask = views(1, HW)
    clicks = collate_clicks([click_list(np.random.default_rng(0), 2, HW)])
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        logits = ready(image, prev_mask, clicks, **more(network, 1)).mask_logits
    assert torch.isfinite(logits).all()


def test_a_prepared_network_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="prepared for inference"):
        checkpoint.save(prepare(tiny_network()), tmp_path)


def test_predictor_prepares_checkpoints_but_not_given_networks(tmp_path: Path) -> None:
    network = tiny_network()
    folder = checkpoint.save(network, tmp_path)
    image, _ = photo(HW)
    answers = []
    for predictor in (Predictor(network), Predictor(folder), Predictor(folder, precision="bf16")):
        answers.append(predictor.open(image).click(y=100, x=110))
        assert predictor.network.prepared == ["", "fp32", "bf16"][len(answers) - 1]
    np.testing.assert_allclose(answers[1], answers[0], atol=1e-5)
    assert np.abs(answers[2] - answers[0]).mean() < 0.02
    assert not np.array_equal(answers[2], answers[0])
