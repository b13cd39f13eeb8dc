"""A refinement part, a timm network, a measure and a face that are defined only in this file work everywhere.

Each is registered by one line; nothing else in the repository knows of them.
"""

import gc
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from models import checkpoint
from models.click_maps import ClickBatch, disk_maps
from models.networks import NETWORKS, create
from models.networks.base import Network, Output, Traits, upsample
from models.networks.blocks import by_name, outermost
from models.parameters import Range
from models.predictor import Predictor
from models.records import AtLeast
from models.refinement import PARTS, REFINEMENTS, Refinement, named, to_dict
from models.refinement.matrix import columns, table
from models.refinement.part import Inside, Part, Slot
from models.refinement.state import State, Step
from models.steps import Steps
from pipeline.data.config import DataConfig
from pipeline.data.readers import open_reader
from pipeline.evaluation.config import EvaluationConfig
from pipeline.evaluation.measures import MEASURES, per_click
from pipeline.evaluation.method import Method
from pipeline.evaluation.object_row import ObjectRow
from pipeline.training.config import OptimizerConfig, TrainingConfig
from tests.training.toys import scene_batches, toy_data
from tests.training.workers import in_two_processes, trainer_of

pytestmark = pytest.mark.networks


@dataclass(frozen=True, kw_only=True)
class Twice(Part):
    """Repeats the step `more` times at every click."""

    name = "twice"
    slot = Slot.REPEAT
    sweep: ClassVar = {"more": Range(0, 3)}

    more: Annotated[int, AtLeast(0)] = 1

    def click(self, step: Step, inside: Inside) -> Step:
        def repeated(state: State) -> Steps[State]:
            for _ in range(self.more + 1):
                state = yield from step(state)
            return state

        return repeated


@dataclass(frozen=True, kw_only=True)
class SmallConfig:
    backbone: str = "resnet10t"

    def build(self) -> "Small":
        return Small(self)


class Small(Network):
    """A timm backbone on image, previous mask and clicks, and a head on its map of stride 8."""

    traits = Traits(size=None, zoom_size=None)

    def __init__(self, config: SmallConfig) -> None:
        super().__init__()
        self.config = config
        import timm  # after models.torchvision_ops, which the networks import

        self.trunk: Any = timm.create_model(config.backbone, features_only=True, out_indices=(2,), in_chans=6)
        self.head = nn.Conv2d(self.trunk.feature_info.channels()[-1], 1, 1)

    def forward(self, image: Tensor, prev_mask: Tensor, clicks: ClickBatch) -> Output:
        hw = (image.shape[2], image.shape[3])
        seen = torch.cat([self.normalise(image), prev_mask, disk_maps(clicks, hw)], 1)
        return Output(upsample(self.head(self.trunk(seen)[0]), hw))

    def blocks(self) -> Sequence[nn.Module]:
        return outermost(self.trunk, by_name)


def left_out(mask: np.ndarray, object_mask: np.ndarray, ignore_mask: np.ndarray) -> float:
    return float((object_mask & ~mask).sum())


def add_hello(app: Any, *_: Any) -> None:
    @app.get("/hello")
    def hello() -> str:
        """Say hello."""
        return "hello"


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    from serve.faces import registry
    from serve.http import app as http

    register(monkeypatch.setitem)
    monkeypatch.setattr(http, "FACES", (*registry.FACES, add_hello))


def register(put: Callable[[Any, str, Any], None]) -> None:
    """Register each with one line, as the registries do."""
    put(PARTS, "twice", Twice)
    put(REFINEMENTS, "twice", Refinement((Twice(),)))
    put(NETWORKS, "small_resnet10t", SmallConfig())
    put(MEASURES, "left_out", per_click("left_out", "Left out", left_out, better="lower", form=".0f"))


@pytest.fixture
def small() -> Network:
    torch.manual_seed(0)
    return create("small_resnet10t").eval()


def test_the_matrix_has_the_part_and_the_network() -> None:
    made = table(columns())
    assert "| small |" in made.splitlines()[0]
    assert next(line for line in made.splitlines() if line.startswith("| twice |")).count("yes") == len(columns())


def test_the_part_is_named_written_and_swept() -> None:
    from pipeline.tuning.objective import objective
    from pipeline.tuning.spaces import spaces

    twice = named("zoom_in+twice")
    assert [part.name for part in twice.parts] == ["zoom_in", "twice"]
    assert to_dict(twice)["twice"] == {"more": 1}
    assert named(to_dict(twice)) == twice
    assert spaces()["twice"]()["refine.twice.more"] == Range(0, 3)
    assert objective("left_out") is not None


def test_a_checkpoint_of_the_network_recommends_the_part(small: Network, tmp_path: Path) -> None:
    checkpoint.save(small, tmp_path / "made", refinement=to_dict(named("twice")))
    predictor = Predictor(tmp_path / "made")
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    once = Predictor(tmp_path / "made", "standard").open(image).click(30, 30)
    assert not np.array_equal(predictor.open(image).click(30, 30), once)


def test_an_evaluation_shows_the_measure(small: Network, tmp_path: Path) -> None:
    from jobs.evaluate import flat_metrics
    from pipeline.evaluation import results
    from pipeline.evaluation.evaluator import choose_objects, evaluate
    from pipeline.pages.report import write_report

    config = EvaluationConfig(max_clicks=2, qualities=(0.9,), at_clicks=(1,), boundaries=False, max_objects=3)
    reader, predictor = open_reader("scenes", options={"num_images": "2"}), Predictor(small, "twice")
    method = Method(name="twice", step=predictor.step, answer=predictor.answer)
    rows = [row for row in evaluate(method, reader, choose_objects(reader.items(), config), config, "scenes")]
    assert all(isinstance(row, ObjectRow) and row.measured["left_out"][0] is not None for row in rows)
    summary = results.summarize(rows, config, 1.0)
    assert "Left out&1" in results.table([summary])
    assert "left_out_at_1" in flat_metrics(summary)
    results.write(tmp_path, rows, [summary])
    shown = (summary["dataset"], summary["refinement"], summary["policy"])
    settings = {"title": "t", "subtitle": "s", "readers": {"scenes": reader}, "shown": shown}
    write_report(tmp_path / "report.html", rows=rows, summaries=[summary], **settings)
    assert "Left out&amp;1" in (tmp_path / "report.html").read_text()
    assert "left_out_after_1" in (tmp_path / "objects.csv").read_text()


def test_the_server_offers_the_part_and_has_the_face(small: Network) -> None:
    from fastapi.testclient import TestClient

    from serve.core.options import Options
    from serve.engine.engine import Engine
    from serve.http import app as http

    app = http.create_app(Engine(Predictor(small)), Options())
    with TestClient(app, "http://localhost") as client:
        assert "twice" in client.get("/v1/models").json()["models"][0]["refinements"]
        assert client.get("/hello").json() == "hello"
        assert "/hello" in json.dumps(client.get("/openapi.json").json())


CONFIG = TrainingConfig(
    steps=1, batch_size=2, objective="ritm", optimizer=OptimizerConfig(lr=1e-2, name="sgd", max_grad_norm=1.0)
)


def steps_of(rank: int, folder: Path) -> None:
    """Make one step under DDP and one under FSDP, and save the resulting weights."""
    from tests.training.test_sharing import state_of

    register(lambda registry, name, value: registry.update({name: value}))
    for kind in ("ddp", "fsdp"):
        torch.manual_seed(0)
        trainer = trainer_of(kind, 0, CONFIG, create("small_resnet10t"))
        (batch,) = scene_batches(toy_data(DataConfig(reader="scenes")), 1)
        trainer.train_step(batch)
        state = state_of(trainer)
        if not rank:
            torch.save(state, folder / f"{kind}.pt")
        del trainer
    # The threads that exchange gradients must end before the process group does, in both processes.
    gc.collect()
    dist.barrier()


@pytest.mark.networks
@pytest.mark.timeout(300)
def test_the_network_trains_under_ddp_and_fsdp(tmp_path: Path) -> None:
    in_two_processes(steps_of, tmp_path)
    ddp, fsdp = (torch.load(tmp_path / f"{kind}.pt") for kind in ("ddp", "fsdp"))
    torch.manual_seed(0)
    start = create("small_resnet10t").state_dict()
    assert any(not torch.equal(start[name], value) for name, value in ddp.items())
    for name, value in ddp.items():
        assert torch.allclose(fsdp[name].float(), value.float(), rtol=1e-3, atol=5e-5), name
