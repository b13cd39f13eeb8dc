import json

import pytest
import torch

from jobs.cli import as_dict
from jobs.config import NetworkChoice
from jobs.presets import PRESETS
from models.networks import NETWORKS, create
from models.refinement import named
from pipeline.clicks import POLICIES
from pipeline.data.copy_paste import COPY_PASTE_RECIPES
from pipeline.data.readers import READERS
from pipeline.evaluation.config import EvaluationConfig
from pipeline.training.objectives import OBJECTIVES


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_builds_and_names_what_is_known(name: str) -> None:
    config = PRESETS[name]()
    assert config == PRESETS[name]()
    assert config.network.name in {"", *NETWORKS}
    assert config.data.reader in READERS
    assert config.training.objective in OBJECTIVES
    assert config.data.copy_paste.recipe in COPY_PASTE_RECIPES
    named(config.refine)
    assert config.training.batch_size % config.scaling.workers == 0
    assert (PRESETS[name].__doc__ or "").strip()


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_plain_values_in_json(name: str) -> None:
    plain = as_dict(PRESETS[name]())
    assert json.loads(json.dumps(plain)) == plain
    assert plain["network"]["name"] == PRESETS[name]().network.name
    assert plain["data"]["crop_hw"] == list(PRESETS[name]().data.crop_hw)


@pytest.mark.parametrize("name", PRESETS)
def test_a_presets_network_takes_its_crops(name: str) -> None:
    config = PRESETS[name]()
    options = config.network.options(config.data.crop_hw)
    if not config.network.name:
        pytest.skip("it takes the network and the size of its checkpoint")
    sides = options["input_hw"]
    patch = NETWORKS[config.network.name].patch
    assert all(side % (2 * patch) == 0 for side in sides)


@pytest.mark.networks
@pytest.mark.parametrize("name", list(NETWORKS))
def test_every_network_takes_views_of_the_crop(name: str) -> None:
    with torch.device("meta"):
        network = create(name, **NetworkChoice(name=name).options((448, 448)))
    size = network.traits.size
    assert not isinstance(size, tuple) or size == (448, 448)
    assert 448 % network.traits.multiple == 0


def test_the_default_robot_is_known() -> None:
    assert EvaluationConfig().policy in POLICIES
