from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from models import rle, steps
from models.errors import InputError
from models.predictor import Predictor, open_state
from models.refinement import build, named
from pipeline.clicks import POLICIES
from pipeline.clicks.realistic import Realistic
from pipeline.data.sample import Item
from pipeline.evaluation.config import EvaluationConfig
from pipeline.evaluation.evaluator import choose_objects, evaluate
from pipeline.evaluation.method import Method
from pipeline.evaluation.object_row import ObjectRow
from pipeline.evaluation.play import play
from pipeline.evaluation.tasks.game import rng_of
from tests.evaluation.fakes import answering, no_network
from tests.pipeline.fakes import FakeReader
from tests.training.tiny import tiny_network

CONFIG = EvaluationConfig(max_clicks=3)
READER = FakeReader(num_items=4, hw=(40, 50), bad=(1,), with_refused=(2,))


def items(*sizes: int) -> list[Item]:
    return [Item(id=f"i{n}", object_ids=tuple(f"i{n}/{k}" for k in range(size))) for n, size in enumerate(sizes)]


def chosen(config: EvaluationConfig, *sizes: int) -> list[str]:
    return [object_id for _, ids in choose_objects(items(*sizes), config) for object_id in ids]


def spread(predictor: Predictor) -> None:
    """Scale a fresh network so that its probabilities lie on both sides of the threshold."""
    with torch.no_grad():
        predictor.network.get_parameter("head.conv_seg.weight").mul_(20)


def rows_of(out: list[ObjectRow | str]) -> list[ObjectRow]:
    return [row for row in out if isinstance(row, ObjectRow)]


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    predictor = Predictor(tiny_network())
    spread(predictor)
    return predictor


def method(predictor: Predictor, refinement: str, max_batch: int) -> Method:
    step = build(named(refinement), predictor.network.traits)
    return Method(name=refinement, step=step, answer=predictor.answer, max_batch=max_batch)


def test_all_objects_or_a_random_sample_are_chosen_in_order() -> None:
    everything = chosen(EvaluationConfig(), 3, 0, 4, 2)
    assert everything == ["i0/0", "i0/1", "i0/2", "i2/0", "i2/1", "i2/2", "i2/3", "i3/0", "i3/1"]
    assert chosen(EvaluationConfig(max_objects=99), 3, 0, 4, 2) == everything
    few = chosen(EvaluationConfig(max_objects=4), 3, 0, 4, 2)
    assert len(few) == 4
    assert few == [object_id for object_id in everything if object_id in few]
    assert few == chosen(EvaluationConfig(max_objects=4), 3, 0, 4, 2)
    assert len({tuple(chosen(EvaluationConfig(max_objects=4, seed=seed), 3, 0, 4, 2)) for seed in range(8)}) > 3


def test_a_data_set_without_objects_is_refused() -> None:
    with pytest.raises(InputError, match="the data set lists no objects"):
        choose_objects(items(0, 0), CONFIG)


def test_bad_items_and_objects_are_reported_and_the_others_evaluated() -> None:
    everything = np.ones((40, 50), bool)
    bare = Method(name="all", step=answering(lambda number: everything), answer=no_network)
    work = [(item, item.object_ids) for item in READER.items()]
    work[2] = (work[2][0], ("a", "object z of item0002"))
    out = list(evaluate(bare, READER, work, CONFIG, "fake"))
    rows = rows_of(out)
    assert [(row.item, row.object) for row in rows if row.item == "item0002"] == [("item0002", "a")]
    assert {row.item for row in rows} == {"item0000", "item0002", "item0003"}
    assert [text for text in out if isinstance(text, str)] == [
        "item0001: the file is cut short",
        "object z of item0002: no pixels",
    ]
    assert rows[0].dataset == "fake"
    assert rows[0].policy == "oracle"
    assert rle.decode({"size": [rows[0].height, rows[0].width], "counts": rows[0].mask}).all()


def test_objects_below_the_least_area_are_left_out() -> None:
    bare = Method(name="all", step=answering(lambda number: np.ones((40, 50), bool)), answer=no_network)
    work = choose_objects(READER.items(), CONFIG)
    areas = {}
    for ref in (sample := READER.load(READER.items()[0])).objects:
        areas[ref.id] = int((sample.object_mask(ref) & ~sample.ignore_mask).sum())
    least = sorted(areas.values())[1]
    config = EvaluationConfig(max_clicks=1, min_area=least)
    out = list(evaluate(bare, READER, work[:1], config, "fake"))
    rows = rows_of(out)
    assert {row.object for row in rows} == {name for name, area in areas.items() if area >= least}
    assert len(rows) < len(areas)
    assert len([text for text in out if isinstance(text, str) and "fewer than" in text]) == len(areas) - len(rows)


@pytest.mark.parametrize("refinement", ["standard", "flip", "zoom_in_flip_a_cfr_4"])
def test_objects_side_by_side_give_the_results_of_one_by_one(predictor: Predictor, refinement: str) -> None:
    work = choose_objects(READER.items(), CONFIG)
    one = method(predictor, refinement, 1)
    expected: dict[tuple[str, str], tuple[Any, Any, Any]] = {}
    for item, ids in work:
        if item.id == "item0001":
            continue
        sample = READER.load(item)
        for ref in sample.objects:
            assert ref.id in ids
            truth = sample.object_mask(ref) & ~sample.ignore_mask
            game = play(
                open_state(sample.image),
                one.step,
                truth,
                sample.ignore_mask,
                POLICIES["oracle"],
                rng=np.random.default_rng(0),
                max_clicks=3,
                target_iou=0.95,
                mask_threshold=0.49,
            )
            with torch.inference_mode():
                result = steps.run(game, predictor.answer)
            counts = rle.encode(result.mask)["counts"]
            expected[item.id, ref.id] = (result.clicks.rows(), list(result.ious), counts)
    assert len(expected) == 9
    assert any(max(ious) > 0 for _, ious, _ in expected.values())

    found = rows_of(list(evaluate(one, READER, work, CONFIG, "fake")))
    assert {(row.item, row.object): (row.clicks, row.ious, row.mask) for row in found} == expected

    # In batches: the same clicks; masks may differ by a few pixels at the threshold.
    batched = rows_of(list(evaluate(method(predictor, refinement, 8), READER, work, CONFIG, "fake")))
    assert {(row.item, row.object): row.clicks for row in batched} == {k: v[0] for k, v in expected.items()}
    for row in batched:
        assert row.ious == pytest.approx(expected[row.item, row.object][1], abs=0.01)


def test_random_clicks_depend_only_on_seed_and_object() -> None:
    blank = Method(name="blank", step=answering(lambda number: np.zeros((40, 50), bool)), answer=no_network)
    work = [(item, ids) for item, ids in choose_objects(READER.items(), CONFIG) if item.id != "item0001"]

    def clicks(config: EvaluationConfig, order: Any) -> dict[tuple[str, str], Any]:
        rows = rows_of(list(evaluate(blank, READER, order, config, "fake")))
        return {(row.item, row.object): row.clicks for row in rows}

    config = EvaluationConfig(max_clicks=3, policy="realistic")
    found = clicks(config, work)
    backwards = [(item, (object_id,)) for item, ids in reversed(work) for object_id in reversed(ids)]
    assert clicks(config, backwards) == found
    assert clicks(replace(config, seed=1), work) != found
    assert clicks(replace(config, realistic=Realistic(power=50, jitter=0)), work) != found
    assert rng_of(0, "a", "bc").random() != rng_of(0, "ab", "c").random()


@pytest.mark.parametrize("boundaries", [True, False])
def test_borders_are_measured_if_the_protocol_says_so(boundaries: bool) -> None:
    everything = Method(name="all", step=answering(lambda number: np.ones((40, 50), bool)), answer=no_network)
    config = EvaluationConfig(max_clicks=3, at_clicks=(1,), boundaries=boundaries)
    rows = rows_of(list(evaluate(everything, READER, choose_objects(READER.items(), CONFIG)[:1], config, "fake")))
    assert rows
    for row in rows:
        assert [value is not None for value in row.measured["biou"]] == [boundaries, False, boundaries]
        assert [value is not None for value in row.measured["assd"]] == [boundaries, False, boundaries]


def test_the_error_of_a_step_names_the_object() -> None:
    def masks(number: int) -> np.ndarray:
        raise ZeroDivisionError("the step broke")

    work = choose_objects(READER.items(), CONFIG)
    broken = Method(name="broken", step=answering(masks), answer=no_network)
    with pytest.raises(RuntimeError, match="evaluating object a of item0000 failed: the step broke"):
        list(evaluate(broken, READER, work, CONFIG, "fake"))


def test_an_unknown_robot_is_refused() -> None:
    bare = Method(name="x", step=answering(lambda number: np.ones((40, 50), bool)), answer=no_network)
    with pytest.raises(InputError, match="unknown policy 'oracel'; did you mean 'oracle'"):
        list(evaluate(bare, READER, [], EvaluationConfig(policy="oracel"), "fake"))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"max_clicks": 0}, "max_clicks is 0"),
        ({"max_objects": 0}, "max_objects is 0"),
        ({"target_iou": 0.8}, "none above target_iou"),
        ({"qualities": ()}, "qualities"),
        ({"at_clicks": (0,)}, "at_clicks"),
        ({"further_clicks": (0,)}, "further_clicks"),
    ],
)
def test_invalid_settings_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        EvaluationConfig(**values)
