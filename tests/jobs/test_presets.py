import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from jobs.cli import as_dict, from_dict
from jobs.config import NetworkChoice, TrainConfig
from jobs.presets import PRESETS
from models.networks import NETWORKS, create
from models.refinement import named
from pipeline.clicks import POLICIES
from pipeline.data.copy_paste import COPY_PASTE_RECIPES
from pipeline.data.readers import READERS
from pipeline.evaluation.config import EvaluationConfig
from pipeline.training.loop import Trainer
from pipeline.training.objectives import OBJECTIVES
from tests.training.toys import scene_batches, toy, toy_data


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_builds_and_names_known_components(name: str) -> None:
    config = PRESETS[name]()
    assert config == PRESETS[name]()
    assert config.network.name in {"", *NETWORKS}
    assert config.data.reader in READERS
    assert config.training.objective in OBJECTIVES
    assert config.data.copy_paste.recipe in COPY_PASTE_RECIPES
    named(config.refine or None)
    assert config.training.batch_size % config.scaling.workers == 0
    assert (PRESETS[name].__doc__ or "").strip()


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_plain_values_in_json(name: str) -> None:
    plain = as_dict(PRESETS[name]())
    assert json.loads(json.dumps(plain)) == plain
    assert plain["network"]["name"] == PRESETS[name]().network.name
    assert plain["data"]["crop_hw"] == list(PRESETS[name]().data.crop_hw)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_comes_back_from_json(name: str) -> None:
    config = PRESETS[name]()
    assert from_dict(TrainConfig, json.loads(json.dumps(as_dict(config)))) == config


PUBLISHED = {
    *(f"ritm_{name}_cocolvis" for name in ("hrnet18s", "hrnet18", "hrnet32")),
    "ritm_hrnet18_sbd",
    *(f"simpleclick_vit_{size}_{data}" for size in ("xtiny", "base", "large", "huge") for data in ("sbd", "cocolvis")),
    *(f"cfr_icl_vit_{size}_{data}" for size in ("base", "huge") for data in ("sbd", "cocolvis")),
    "cfr_icl_hrnet32_cocolvis",
    *(f"emc_{base}_cocolvis" for base in ("hrnet18s", "hrnet18", "hrnet32", "segformer_b0", "segformer_b3")),
    *(f"emc_{base}_sbd" for base in ("hrnet18s", "hrnet18")),
    *(f"emc_vit_{size}_cocolvis" for size in ("base", "huge")),
    *(f"focuscut_resnet{depth}_sbd" for depth in (50, 101)),
    *(f"icmformer_{network}_{data}" for network in ("vit_base", "swin_base") for data in ("sbd", "cocolvis")),
    "icmformerpp_coco_mois",
}


def test_every_run_of_the_papers_is_a_preset() -> None:
    assert PRESETS.keys() >= PUBLISHED


@pytest.mark.networks
@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_makes_two_steps_at_toy_size(name: str) -> None:
    config = PRESETS[name]()
    network = toy(config.network.name or ("mobile_sam" if config.training.freeze_encoder else "simpleclick_vit_base"))
    training = replace(
        config.training, steps=2, batch_size=2, accumulate=min(2, config.training.accumulate), checkpoint_every=2
    )
    trainer = Trainer(network=network, module=network, config=training)
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    for batch in scene_batches(toy_data(config.data), 2):
        metrics = trainer.train_step(batch)
        assert np.isfinite(metrics["loss"])
        assert metrics["loss"] > 0
    assert trainer.step == 2
    assert any(not torch.equal(tensor, before[key]) for key, tensor in network.state_dict().items())


@pytest.mark.parametrize("name", PRESETS)
def test_a_presets_network_takes_its_crops(name: str) -> None:
    config = PRESETS[name]()
    options = config.network.options(config.data.crop_hw)
    if not config.network.name:
        pytest.skip("it takes the network and the size of its checkpoint")
    if "input_hw" in options:
        patch = NETWORKS[config.network.name].patch  # pyright: ignore[reportAttributeAccessIssue]
        assert all(side % (2 * patch) == 0 for side in options["input_hw"])
    assert all(side % 4 == 0 for side in config.data.crop_hw)


@pytest.mark.networks
@pytest.mark.parametrize("name", list(NETWORKS))
def test_every_network_takes_views_of_the_crop(name: str) -> None:
    with torch.device("meta"):
        network = create(name, **NetworkChoice(name=name).options((448, 448)))
    size = network.traits.size
    # Networks that take prompts resize what they are trained on to their own frame.
    assert not isinstance(size, tuple) or size == (448, 448) or network.traits.prompted
    assert 448 % network.traits.multiple == 0


def test_the_default_robot_is_known() -> None:
    assert EvaluationConfig().policy in POLICIES
