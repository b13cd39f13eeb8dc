"""Training in one process makes the same stream and steps, and an interrupted run resumes as if it had not stopped."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from models import checkpoint
from pipeline.data.config import DataConfig
from pipeline.data.readers import open_reader
from pipeline.training import alone
from pipeline.training.config import IclConfig, OptimizerConfig, ScalingConfig, TrainingConfig
from pipeline.training.job import HISTORY, Job
from tests.training.toys import HW, toy

DATA = DataConfig(reader="scenes", crop_hw=HW, window_size=4, min_object_area=20, keep_background_prob=0)
TRAINING = TrainingConfig(
    steps=6,
    batch_size=3,
    checkpoint_every=2,
    log_every=1,
    pictures_every=0,
    ema=0.9,
    icl=IclConfig(betas=(1.0,), more_clicks=2),
    optimizer=OptimizerConfig(lr=1e-3),
)


@pytest.fixture
def job(tmp_path: Path) -> Job:
    start = checkpoint.save(toy("simpleclick_vit_base"), tmp_path / "start")
    (tmp_path / "run").mkdir()
    return Job(
        network="simpleclick_vit_base",
        network_options={},
        start_from=str(start),
        data=DATA,
        training=TRAINING,
        scaling=ScalingConfig(),
        storage=str(tmp_path / "run"),
        info={"preset": "toy"},
    )


def train(job: Job, loaders: int = 0) -> Path:
    torch.manual_seed(0)
    reader = open_reader("scenes", options={"num_images": "10", "height": "80", "width": "80"})
    return alone.train(job, reader, reader.items(), loaders=loaders)


@pytest.mark.networks
def test_an_interrupted_run_resumes_to_the_same_weights(job: Job, tmp_path: Path) -> None:
    whole = train(job)
    (tmp_path / "other").mkdir()

    class Stopped(Exception):
        pass

    def stop(step: int, metrics: dict[str, float]) -> None:
        if step == 3:
            raise Stopped

    other = replace(job, storage=str(tmp_path / "other"))
    with pytest.raises(Stopped):
        train(replace(other, log=stop))
    assert alone.newest(tmp_path / "other") == tmp_path / "other" / "checkpoints" / "0000002"
    again = train(other)
    left, right = (checkpoint.load(folder)[0].state_dict() for folder in (whole, again))
    assert left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) for name in left)
    assert checkpoint.describe(again)["info"]["step"] == TRAINING.steps
    assert (tmp_path / "other" / HISTORY).read_text().count("\n") == 3 - 1 + 4


def test_several_loaders_keep_the_order_of_the_windows(job: Job) -> None:
    reader = open_reader("scenes", options={"num_images": "10", "height": "80", "width": "80"})
    windows = alone.Windows(reader, reader.items(), DATA, 1)
    here = [window["index"].tolist() for window, _ in zip(windows, range(4), strict=False)]
    loaded = torch.utils.data.DataLoader(windows, batch_size=None, num_workers=2)
    there = [window["index"].tolist() for window, _ in zip(loaded, range(4), strict=False)]
    assert here == there
    assert here[0][0] > 0


def test_only_the_newest_checkpoints_are_kept(job: Job) -> None:
    last = train(job)
    assert [folder.name for folder in sorted(last.parent.iterdir())] == ["0000004", "0000006"]
