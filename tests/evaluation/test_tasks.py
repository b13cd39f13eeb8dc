"""The contract that all TASKS keep, and the rules of each task."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
import torch

from models.errors import InputError
from models.predictor import Predictor
from models.refinement.state import State
from models.steps import Segment, Steps
from pipeline.clicks.exemplar_clicks import exemplar_clicks
from pipeline.data.readers.scenes import Scenes
from pipeline.data.sample import Item, Sample, pack_objects
from pipeline.evaluation import evaluator
from pipeline.evaluation.config import CATEGORY_TASKS, EvaluationConfig
from pipeline.evaluation.evaluator import choose_objects, evaluate
from pipeline.evaluation.method import Method
from pipeline.evaluation.object_row import ObjectRow
from pipeline.evaluation.results import summarize
from pipeline.evaluation.tasks import TASKS
from pipeline.evaluation.tasks.collective_effort import EXEMPLAR_CLICKS
from pipeline.evaluation.tasks.game import rng_of
from pipeline.evaluation.tasks.kinds import Kind, find_kinds
from pipeline.metrics import iou
from tests.evaluation.fakes import no_network
from tests.models.tiny import TINY_NETWORKS

HW = (60, 80)
IMAGE = np.zeros((*HW, 3), np.uint8)
NOTHING = np.zeros(HW, bool)
CONFIG = EvaluationConfig(max_clicks=6, target_iou=0.9, qualities=(0.9,), at_clicks=(1, 3))
BOXES = {
    "cup 1": (5, 20, 5, 20),
    "cup 2": (5, 20, 30, 50),
    "cup 3": (5, 20, 60, 75),
    "hat 1": (30, 50, 5, 25),
    "hat 2": (30, 50, 30, 50),
    "dog 1": (30, 50, 60, 75),
    " 1": (54, 58, 5, 40),
}


@pytest.fixture(autouse=True)
def one_session_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run one session at a time: fakes in two threads would record in any order."""
    monkeypatch.setattr(evaluator, "ThreadPoolExecutor", lambda max_workers: ThreadPoolExecutor(1))


def box(top: int, bottom: int, left: int, right: int) -> np.ndarray:
    mask = NOTHING.copy()
    mask[top:bottom, left:right] = True
    return mask


MASKS = {name: box(*sides) for name, sides in BOXES.items()}
CUPS, HATS = (MASKS[f"{kind} 1"] | MASKS[f"{kind} 2"] for kind in ("cup", "hat"))
CUPS = CUPS | MASKS["cup 3"]


@dataclass(frozen=True, kw_only=True)
class Kinds:
    """One image: three cups, two hats, a dog, and an object without a category."""

    names: tuple[str, ...] = tuple(BOXES)
    categories: bool = True

    def items(self) -> list[Item]:
        return [Item(id="picture", object_ids=self.names)]

    def load(self, item: Item) -> Sample:
        masks = [
            (name, name.split()[0] if self.categories and name != " 1" else "", MASKS[name]) for name in self.names
        ]
        return pack_objects(item.id, IMAGE, masks)


@dataclass(eq=False)
class Fake:
    """A method that answers by a function of its state and records the states that were clicked."""

    answer: Callable[[State], np.ndarray]
    states: list[State] = field(default_factory=list)

    def step(self, state: State) -> Steps[State]:
        self.states.append(state)
        return replace(state, mask_prob=torch.from_numpy(self.answer(state)).float()[None])
        yield ()

    def method(self, *, takes_exemplar: bool) -> Method:
        return Method(name="fake", step=self.step, answer=no_network, takes_exemplar=takes_exemplar)


def run(task: str, method: Method, reader: Any = None, work: Any = None, **changes: Any) -> tuple[list, list]:
    reader = reader or Kinds()
    config = replace(CONFIG, task=task, **changes)
    out = list(evaluate(method, reader, work or choose_objects(reader.items(), config), config, "kinds"))
    return [row for row in out if isinstance(row, ObjectRow)], [text for text in out if isinstance(text, str)]


def rows_by_name(rows: list[ObjectRow]) -> dict[tuple[str, str], ObjectRow]:
    assert len({(row.item, row.object) for row in rows}) == len(rows)
    return {(row.item, row.object): row for row in rows}


@pytest.fixture(scope="module", params=["simpleclick", "icmformerpp"])
def method(request: pytest.FixtureRequest) -> Method:
    predictor = Predictor(TINY_NETWORKS[request.param](), "standard")
    takes = predictor.network.traits.exemplar
    assert takes == (request.param == "icmformerpp")
    return Method(name="tiny", step=predictor.step, answer=predictor.answer, takes_exemplar=takes)


@pytest.mark.networks
@pytest.mark.parametrize("task", sorted(TASKS))
def test_every_task_keeps_the_contract(task: str, method: Method) -> None:
    reader, changes = Scenes(num_images=1, seed=3, height=100, width=120, num_objects=(8, 8)), {"max_clicks": 2}
    work = choose_objects(reader.items(), CONFIG)
    rows, left_out = run(task, method, reader, work, **changes)
    assert rows
    found = rows_by_name(rows)
    ids = {object_id for _, ids in work for object_id in ids}
    assert all(text.split(": ")[0] in ids for text in left_out)
    sample = reader.load(work[0][0])
    categories = {ref.category for ref in sample.objects}
    for row in rows:
        assert 1 <= len(row.ious) <= 2
        assert len(row.clicks) == len(row.ious) == len(row.measured["biou"]) == len(row.measured["assd"])
        assert all(0 <= value <= 1 for value in row.ious)
        assert row.category in categories
        assert (row.height, row.width) == sample.image.shape[:2]
    # In parts and backwards, as Ray's actors may evaluate them.
    one_by_one = [(item, (object_id,)) for item, object_ids in work[::-1] for object_id in object_ids[::-1]]
    again, left_again = run(task, method, reader, one_by_one, **changes)
    assert rows_by_name(again) == found
    assert sorted(left_again) == sorted(left_out)


@pytest.mark.parametrize("task", CATEGORY_TASKS)
def test_objects_without_a_group_are_reported(task: str) -> None:
    fake = Fake(lambda state: NOTHING)
    rows, left_out = run(task, fake.method(takes_exemplar=True), max_clicks=1)
    assert sorted(row.category for row in rows) == ["cup", "hat"]
    assert sorted(left_out) == [
        " 1: it has no category, but other objects of the image have one",
        "dog 1: the only object of category 'dog' in its image",
    ]
    rows, left_out = run(task, fake.method(takes_exemplar=True), Kinds(categories=False), max_clicks=1)
    assert [(row.object[:22], row.category) for row in rows] == [("all objects (exemplar ", "")]
    assert not left_out
    rows, left_out = run(task, fake.method(takes_exemplar=True), max_clicks=1, min_area=350)
    assert [row.category for row in rows] == ["hat"]
    assert sum("fewer than 350 pixels" in text for text in left_out) == 3


def test_the_exemplar_depends_only_on_seed_sample_and_category() -> None:
    def exemplars(seed: int, names: tuple[str, ...] = tuple(BOXES)) -> dict[str, str]:
        kinds, _ = find_kinds(Kinds(names=names).load(Kinds().items()[0]), (), replace(CONFIG, seed=seed))
        return {kind.category: kind.exemplar for kind in kinds}

    assert exemplars(0) == exemplars(0, tuple(reversed(BOXES)))
    assert {exemplars(seed)["cup"] for seed in range(20)} == {"cup 1", "cup 2", "cup 3"}


def test_an_unknown_task_is_refused() -> None:
    with pytest.raises(InputError, match="unknown task 'singel'; did you mean 'single'"):
        run("singel", Fake(lambda state: NOTHING).method(takes_exemplar=False))


# --- from_mask


def test_a_session_starts_from_the_spoiled_mask() -> None:
    fake = Fake(lambda state: NOTHING)
    rows, left_out = run("from_mask", fake.method(takes_exemplar=False), max_clicks=1)
    assert [row.object for row in rows] == list(BOXES)
    assert not left_out
    for state, mask in zip(fake.states, MASKS.values(), strict=True):
        assert state.mask_given
        assert state.mask_prob is not None
        start = state.mask_prob[0].numpy() > 0
        assert 0.7 < iou(start, mask, NOTHING) < 0.9
        (y, x), positive = state.clicks.yx[0].astype(int), state.clicks.positive[0]
        assert mask[y, x] == positive != start[y, x]


# --- additional_effort


def kind_of(category: str) -> Kind:
    kinds, _ = find_kinds(Kinds().load(Kinds().items()[0]), (), CONFIG)
    return next(kind for kind in kinds if kind.category == category)


def golden_clicks(kind: Kind) -> Any:
    return exemplar_clicks(
        kind.exemplar_mask, kind.others, rng_of(CONFIG.seed, "picture", kind.category, "exemplar clicks")
    )


def test_the_golden_exemplar_reaches_the_network() -> None:
    predictor = Predictor(TINY_NETWORKS["icmformerpp"](), "standard")
    requests: list[Any] = []

    def answer(asked: list[Any]) -> list[Any]:
        requests.extend(asked)
        return predictor.answer(asked)

    run("additional_effort", Method(name="x", step=predictor.step, answer=answer, takes_exemplar=True), max_clicks=2)
    looks = [request for request in requests if isinstance(request, Segment)]
    assert sorted(type(request).__name__ for request in requests) == 4 * ["Segment"] + 2 * ["Start"]
    for request in requests:
        assert request.example is not None
        assert request.example.mask.sum() > 0
        assert not request.example.sorted_by_mask
        assert len(request.example.positive) >= 1
    assert sorted(len(look.clicks) for look in looks) == [1, 1, 2, 2]


def test_negative_clicks_of_an_exemplar_are_sorted_by_the_ground_truth() -> None:
    fake = Fake(lambda state: NOTHING)
    run("additional_effort", fake.method(takes_exemplar=True), max_clicks=1)
    for state, category, union in zip(fake.states, ("cup", "hat"), (CUPS, HATS), strict=True):
        kind, example = kind_of(category), state.example
        assert example is not None
        assert state.mask_prob is None
        assert np.array_equal(kind.union, union)
        assert np.array_equal(example.mask[0].numpy() > 0, kind.exemplar_mask)
        assert not (kind.others & kind.exemplar_mask).any()
        clicks = [*example.positive.rows(), *example.true_negative.rows(), *example.pseudo_negative.rows()]
        assert sorted(clicks) == sorted(golden_clicks(kind).rows())
        assert not any(kind.others[int(y), int(x)] for y, x, _ in example.true_negative.rows())
        assert all(kind.others[int(y), int(x)] for y, x, _ in example.pseudo_negative.rows())


@pytest.mark.parametrize(("task", "answer"), [("additional_effort", NOTHING), ("collective_effort", MASKS["cup 1"])])
def test_an_exemplar_is_on_the_device_of_the_network(task: str, answer: np.ndarray) -> None:
    """The device `meta` shows tensors that were left on the CPU."""
    fake = Fake(lambda state: answer)
    run(task, replace(fake.method(takes_exemplar=True), device=torch.device("meta")), max_clicks=8)
    examples = [(state.image, state.example) for state in fake.states if state.example is not None]
    assert examples
    assert {(image.device.type, example.mask.device.type) for image, example in examples} == {("meta", "meta")}


def test_networks_without_exemplars_start_from_its_mask_and_uncounted_clicks() -> None:
    fake = Fake(lambda state: NOTHING)
    rows, _ = run("additional_effort", fake.method(takes_exemplar=False), max_clicks=3)
    assert len(rows) == 2
    for row, states in zip(rows, (fake.states[:3], fake.states[3:]), strict=True):
        kind = kind_of(row.category)
        golden = golden_clicks(kind)
        start = states[0]
        assert start.mask_given
        assert start.mask_prob is not None
        assert start.example is None
        assert np.array_equal(start.mask_prob[0].numpy() > 0, kind.exemplar_mask)
        assert row.object == f"category {row.category} (exemplar {kind.exemplar})"
        assert len(row.clicks) == len(row.ious) == 3
        assert states[-1].clicks.rows() == [*golden.rows(), *row.clicks]
        given = {(y, x) for y, x, _ in golden.rows()}
        assert not given & {(y, x) for y, x, _ in row.clicks}
        y, x, positive = row.clicks[0]
        assert positive
        assert kind.others[int(y), int(x)]
        assert row.num_honoured == 0


# --- collective_effort


def gaining(gains: list[float]) -> Callable[[State], np.ndarray]:
    """Answer with a part of the exemplar's mask by `gains`, and with an empty mask once there is an exemplar."""

    def answer(state: State) -> np.ndarray:
        if state.example is not None:
            return NOTHING
        kind = kind_of("cup")
        columns = np.flatnonzero(kind.exemplar_mask.any(axis=0))
        part = kind.exemplar_mask.copy()
        part[:, columns[round(gains[len(state.clicks) - 1] * len(columns)) :]] = False
        return part

    return answer


CUPS_ONLY = Kinds(names=("cup 1", "cup 2", "cup 3"))


@pytest.mark.parametrize(
    ("gains", "stage_1"),
    [
        ([0.2, 0.4, 0.6, 0.7, 0.8], EXEMPLAR_CLICKS),
        ([0.4, 0.4, 0.8, 0.8, 0.8], 2),
        ([0.4, 0.2, 0.8, 0.8, 0.8], 2),
        ([0.4, 1.0, 1.0, 1.0, 1.0], 2),
    ],
    ids=["five", "no gain", "loss", "target"],
)
def test_stage_one_ends_by_its_rule_and_its_clicks_count(gains: list[float], stage_1: int) -> None:
    fake = Fake(gaining(gains))
    (row,), left_out = run("collective_effort", fake.method(takes_exemplar=True), CUPS_ONLY, max_clicks=8)
    kind, second = kind_of("cup"), fake.states[stage_1:]
    assert not left_out
    assert {len(values) for values in (fake.states, row.clicks, *row.measured.values())} == {8}
    assert all(state.example is None for state in fake.states[:stage_1])
    assert [len(state.clicks) for state in fake.states] == [*range(1, stage_1 + 1), *range(1, 9 - stage_1)]
    masks = [gaining(gains)(state) for state in fake.states[:stage_1]]
    assert row.ious == [*(iou(mask, CUPS, NOTHING) for mask in masks), *[0.0] * (8 - stage_1)]
    assert [value is not None for value in row.measured["biou"]] == [number in (1, 3, 8) for number in range(1, 9)]
    assert row.clicks == [*fake.states[stage_1 - 1].clicks.rows(), *fake.states[-1].clicks.rows()]
    for state in second:
        example = state.example
        assert example is not None
        assert example.sorted_by_mask
        assert np.array_equal(example.mask[0].numpy() > 0, masks[-1])
        assert len(example.positive) == fake.states[stage_1 - 1].clicks.positive.sum()
    y, x = second[0].newest_pixel()
    assert kind.union[y, x]


def test_an_empty_mask_is_not_used_as_exemplar() -> None:
    fake = Fake(lambda state: NOTHING)
    (row,), _ = run("collective_effort", fake.method(takes_exemplar=True), CUPS_ONLY, max_clicks=3)
    assert row.ious == [0.0] * 3
    assert [len(state.clicks) for state in fake.states] == [1, 1, 2]
    assert all(state.example is None for state in fake.states)


@pytest.mark.parametrize("max_clicks", [1, 3, 5])
def test_the_clicks_of_both_stages_are_limited_together(max_clicks: int) -> None:
    fake = Fake(gaining([0.2, 0.4, 0.5, 0.6, 0.7]))
    (row,), _ = run("collective_effort", fake.method(takes_exemplar=True), CUPS_ONLY, max_clicks=max_clicks)
    assert len(row.ious) == len(row.clicks) == len(fake.states) == max_clicks
    assert row.measured["biou"][-1] is not None


def test_the_union_may_be_reached_in_either_stage() -> None:
    fake = Fake(lambda state: CUPS if state.example is not None else kind_of("cup").exemplar_mask)
    (row,), _ = run("collective_effort", fake.method(takes_exemplar=True), CUPS_ONLY)
    assert row.ious == [iou(kind_of("cup").exemplar_mask, CUPS, NOTHING), 1.0]
    assert row.num_honoured == 2
    fake = Fake(lambda state: CUPS)
    (row,), _ = run("collective_effort", fake.method(takes_exemplar=True), CUPS_ONLY)
    assert row.ious == [1.0] * len(row.ious)
    assert all(state.example is None for state in fake.states)


def test_networks_without_exemplars_segment_each_object_by_itself() -> None:
    fake = Fake(lambda state: NOTHING)
    rows, left_out = run("collective_effort", fake.method(takes_exemplar=False), max_clicks=2)
    assert [(row.object, row.category) for row in rows] == [(name, name[:3]) for name in BOXES if name[:3] in "cup hat"]
    assert len(left_out) == 2
    alone, _ = run("single", fake.method(takes_exemplar=False), max_clicks=2)
    assert [row for row in alone if row.category in ("cup", "hat")] == rows


@pytest.mark.networks
def test_two_stages_give_the_same_clicks_in_shared_forwards() -> None:
    predictor = Predictor(TINY_NETWORKS["icmformerpp"](), "standard")
    one = Method(name="x", step=predictor.step, answer=predictor.answer, takes_exemplar=True)
    alone, together = (run("collective_effort", replace(one, max_batch=size), max_clicks=3)[0] for size in (1, 4))
    assert [row.clicks for row in alone] == [row.clicks for row in together]


# --- summaries


@pytest.mark.parametrize("task", sorted(TASKS))
def test_nofi_counts_categories_in_category_tasks(task: str) -> None:
    rows, _ = run("collective_effort", Fake(lambda state: NOTHING).method(takes_exemplar=False), max_clicks=2)
    summary = summarize(rows, replace(CONFIG, task=task, max_clicks=2), 1.0)
    assert summary["nof"]["0.90"] == 5
    assert summary["nofi"]["0.90"] == (2 if task in CATEGORY_TASKS else 1)


def test_category_tasks_are_registered() -> None:
    assert set(CATEGORY_TASKS) < set(TASKS)
