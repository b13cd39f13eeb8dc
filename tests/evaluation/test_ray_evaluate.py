from pathlib import Path
from typing import Any

import pytest

from models import checkpoint as checkpoints
from models.errors import InputError
from models.predictor import Predictor
from models.refinement import Refinement, build, named
from pipeline.data.readers import open_reader
from pipeline.data.sample import Item
from pipeline.evaluation import ray_evaluate
from pipeline.evaluation.config import EvaluationConfig, EvaluationScaling
from pipeline.evaluation.evaluator import choose_objects, evaluate
from pipeline.evaluation.method import Method
from pipeline.evaluation.object_row import ObjectRow
from pipeline.evaluation.ray_evaluate import Part, _pieces, evaluate_on_ray
from tests.evaluation.fakes import DyingReader
from tests.pipeline.fakes import FakeReader
from tests.training.tiny import tiny_network

READER = open_reader("scenes", options={"num_images": "4", "height": "64", "width": "64"})
CONFIG = EvaluationConfig(max_clicks=2, max_objects=9)
SCALING = EvaluationScaling(actors=2, num_cpus=0.4)
REFINEMENTS: dict[str, Refinement] = {"standard": named("standard"), "cfr_1": named("cfr_1")}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    network = tiny_network()
    network.get_parameter("head.conv_seg.weight").data.mul_(20)
    return checkpoints.save(network, tmp_path_factory.mktemp("evaluated") / "checkpoint")


def here(checkpoint: Path) -> dict[str, list[ObjectRow]]:
    predictor = Predictor(checkpoint)
    rows = {}
    for name, refinement in REFINEMENTS.items():
        step = build(refinement, predictor.network.traits)
        method = Method(name=name, step=step, answer=predictor.answer)
        out = evaluate(method, READER, choose_objects(READER.items(), CONFIG), CONFIG, "scenes")
        rows[name] = sorted((row for row in out if isinstance(row, ObjectRow)), key=lambda row: row.object)
    return rows


@pytest.mark.ray
@pytest.mark.timeout(240)
def test_actors_give_the_rows_of_one_process_even_if_one_dies(
    ray_cluster: None, checkpoint: Path, tmp_path: Path
) -> None:
    marker = tmp_path / "died"
    reader = DyingReader(reader=READER, item_id=READER.items()[2].id, marker=str(marker))
    shown: list[tuple[str, int, int]] = []
    (result,) = evaluate_on_ray(
        checkpoint=str(checkpoint),
        refinements=REFINEMENTS,
        baselines=["grabcut"],
        parts=[Part(dataset="scenes", reader=reader, config=CONFIG)],
        scaling=SCALING,
        progress=lambda part, done, total: shown.append((part.dataset, done, total)),
    )
    rows, seconds, refused = result.rows, result.seconds, result.refused
    assert marker.is_file()
    assert list(rows) == ["grabcut", "standard", "cfr_1"]
    expected = here(checkpoint)
    for name, group in expected.items():
        assert len(group) == 9
        assert sorted(rows[name], key=lambda row: row.object) == group
    assert [row.object for row in rows["standard"]] == [row.object for row in rows["grabcut"]]
    assert refused == []
    assert min(seconds.values()) > 0
    assert shown[-1] == ("scenes", 9, 9)


@pytest.mark.ray
@pytest.mark.timeout(120)
def test_bad_items_are_reported_once_and_no_result_is_an_error(ray_cluster: None) -> None:
    def baseline(reader: Any) -> Any:
        return evaluate_on_ray(
            checkpoint=None,
            refinements={},
            baselines=["grabcut"],
            parts=[Part(dataset="fake", reader=reader, config=EvaluationConfig(max_clicks=1))],
            scaling=EvaluationScaling(actors=1, num_cpus=0.2),
        )

    (result,) = baseline(FakeReader(num_items=3, bad=(1,)))
    assert {row.item for row in result.rows["grabcut"]} == {"item0000", "item0002"}
    assert result.refused == ["item0001: the file is cut short"]
    with pytest.raises(InputError, match="fake: no object could be evaluated; reasons: item0000: the file"):
        baseline(FakeReader(num_items=1, bad=(0,)))


@pytest.mark.ray
@pytest.mark.timeout(120)
def test_damaged_weights_are_an_input_error_in_actors(ray_cluster: None, tmp_path: Path) -> None:
    folder = checkpoints.save(tiny_network(), tmp_path / "damaged")
    (folder / checkpoints.WEIGHTS).write_bytes(b"oops")
    with pytest.raises(InputError, match=r"weights\.safetensors cannot be read") as raised:
        evaluate_on_ray(
            checkpoint=str(folder),
            refinements=REFINEMENTS,
            parts=[Part(dataset="scenes", reader=READER, config=CONFIG)],
            scaling=EvaluationScaling(actors=1, num_cpus=0.2),
        )
    assert "Traceback" not in str(raised.value)


@pytest.mark.ray
@pytest.mark.timeout(120)
def test_an_actor_that_dies_repeatedly_ends_the_evaluation_with_one_message(
    ray_cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_evaluate, "RESTARTS", 0)
    reader = DyingReader(reader=READER, item_id=READER.items()[0].id, marker=str(tmp_path / "died"))
    with pytest.raises(InputError, match=r"^an evaluation actor died repeatedly[^\n]*to resume$"):
        evaluate_on_ray(
            checkpoint=None,
            refinements={},
            baselines=["grabcut"],
            parts=[Part(dataset="scenes", reader=reader, config=CONFIG)],
            scaling=EvaluationScaling(actors=1, num_cpus=0.2),
        )


def test_an_unknown_baseline_is_refused_before_anything_starts() -> None:
    with pytest.raises(InputError, match="unknown baseline 'grabcat'; did you mean 'grabcut'"):
        evaluate_on_ray(
            checkpoint=None,
            refinements={},
            baselines=["grabcat"],
            parts=[Part(dataset="scenes", reader=READER, config=CONFIG)],
            scaling=SCALING,
        )


@pytest.mark.parametrize("size", [1, 2, 3, 32])
def test_pieces_hold_every_object_once_in_order(size: int) -> None:
    items = [Item(id=f"i{n}", object_ids=tuple(f"i{n}/{k}" for k in range(num))) for n, num in enumerate((1, 5, 2, 1))]
    work = [(item, item.object_ids) for item in items]
    pieces = _pieces(work, size)
    assert [o for piece in pieces for _, ids in piece for o in ids] == [o for _, ids in work for o in ids]
    assert all(sum(len(ids) for _, ids in piece) <= 2 * size - 1 for piece in pieces)
    assert all(piece for piece in pieces)
