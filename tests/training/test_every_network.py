"""Every kind of network makes a training step with the objectives that there are."""

import numpy as np
import pytest
import torch

from models.click_maps import collate_clicks
from pipeline.training.batch import TrainingBatch
from pipeline.training.config import TrainingConfig
from pipeline.training.loop import Trainer
from tests.models.tiny import HW, TINY_NETWORKS, click_list, views

pytestmark = pytest.mark.networks


@pytest.mark.parametrize("label", TINY_NETWORKS)
def test_a_training_step_changes_the_network(label: str) -> None:
    network = TINY_NETWORKS[label]()
    image, target = views(2, HW)
    rng = np.random.default_rng(0)
    clicks = collate_clicks([click_list(rng, 8, HW) for _ in range(2)])
    batch = TrainingBatch(image=image, target=(target > 0.5).float(), clicks=clicks)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    config = TrainingConfig(steps=2, batch_size=2, objective="icl_code")
    metrics = Trainer(network=network, module=network, config=config).train_step(batch)
    assert np.isfinite(metrics["loss"])
    assert metrics["grad_norm"] > 0
    changed = [name for name, tensor in network.named_parameters() if not torch.equal(tensor, before[name])]
    assert len(changed) > len(before) // 4
