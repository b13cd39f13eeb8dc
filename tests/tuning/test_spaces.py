"""Spaces, their settings, and their parsing from the command line."""

from typing import Any

import numpy as np
import pytest

from jobs.sweep_training import train_config
from models.errors import InputError
from models.refinement import Cascade, Focus, Refinement, ZoomIn
from pipeline.tuning.parameters import Choice, Range, as_json, parse
from pipeline.tuning.search import Grid, open_search
from pipeline.tuning.settings import identity, refinement_of, shown, training_of
from pipeline.tuning.spaces import SPACES, narrowed


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("search", ["grid", "random", "optuna"])
def test_every_setting_of_every_space_can_be_built(name: str, search: str) -> None:
    space = SPACES[name]()
    found = open_search(search, space, 0 if search == "grid" else 12, 0).ask(1000)
    assert found
    for values in found:
        refinement_of(Refinement(), values)
        assert training_of(values).keys() == {key for key in values if not key.startswith("refine.")}
    assert as_json(next(iter(space.values())))["kind"] in ("Choice", "Range")


def test_settings_of_equal_behaviour_have_the_same_identity() -> None:
    base = Refinement()
    off = {"refine.cascade.steps": 0, "refine.cascade.adaptive": True, "refine.cascade.pixels": 100}
    assert identity(base, off) == identity(base, {})
    one = {"refine.cascade.steps": 1, "refine.cascade.adaptive": True, "refine.cascade.pixels": 7}
    assert refinement_of(base, one).part(Cascade) == Cascade(steps=1)
    assert identity(base, one) != identity(base, {})
    assert identity(base, {"training.optimizer.lr": 1e-3}) != identity(base, {})


def test_settings_of_several_turns_are_reset_for_a_single_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(Focus.__init__.__kwdefaults__, "growth", 1.3)  # changes the default itself
    values = {"refine.focus": {}, "refine.focus.turns": 1, "refine.focus.growth": 2.0, "refine.focus.smallest": 0.5}
    assert refinement_of(Refinement(), values).part(Focus) == Focus(turns=1)
    assert Focus(turns=1).growth == 1.3


def test_a_whole_part_can_be_a_value() -> None:
    base = Refinement()
    on = refinement_of(base, {"refine.zoom_in": {}, "refine.zoom_in.expansion": 1.2})
    assert on.part(ZoomIn) is not None
    assert on.part(ZoomIn).expansion == 1.2
    assert refinement_of(on, {"refine.zoom_in": None}).part(ZoomIn) is None


@pytest.mark.parametrize("name", ["refine.cascade.stepz", "refine.nothing", "refine.flip.much", "refine.a.b.c"])
def test_names_that_do_not_exist_are_refused(name: str) -> None:
    with pytest.raises(InputError):
        refinement_of(Refinement(), {name: 1})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1,2,4", Choice((1, 2, 4))),
        ("false", Choice((False,))),
        ("all,newest", Choice(("all", "newest"))),
        ("null,0.8", Choice((None, 0.8))),
        ("[1.0,2.0],[1.0]", Choice(([1.0, 2.0], [1.0]))),
        ("0..8", Range(0, 8)),
        ("0.1..0.5", Range(0.1, 0.5)),
        ("/data/coco", Choice(("/data/coco",))),
    ],
)
def test_parameters_are_parsed(text: str, expected: Any) -> None:
    assert parse(text) == expected


@pytest.mark.parametrize("text", ["", "a..b", "5..1"])
def test_invalid_parameters_are_refused(text: str) -> None:
    with pytest.raises(InputError):
        parse(text)


def test_ranges_know_their_grid_and_stay_inside() -> None:
    assert Range(0, 8).points() == tuple(range(9))
    assert Range(0, 500).points() == (0, 250, 500)
    assert Range(1e-4, 1e-2, log=True).points() == (1e-4, 1e-3, 1e-2)
    rng = np.random.default_rng(0)
    draws = [Range(1e-4, 1e-2, log=True).draw(rng) for _ in range(400)]
    assert min(draws) >= 1e-4
    assert max(draws) <= 1e-2
    assert 0.4 < np.mean(np.array(draws) < 1e-3) < 0.6
    assert {Range(1, 3).draw(rng) for _ in range(60)} == {1, 2, 3}


def test_a_limited_grid_samples_all_values() -> None:
    space = {"refine.cascade.steps": Range(0, 8), "refine.flip": Choice((False, True))}
    assert len(Grid(space, 0, 0).ask(100)) == 18
    found = Grid(space, 6, 1).ask(100)
    assert len(found) == 6
    assert {v["refine.flip"] for v in found} == {False, True}


def test_a_search_without_an_end_is_refused() -> None:
    for name in ("random", "optuna"):
        with pytest.raises(InputError, match="--trials"):
            open_search(name, SPACES["cfr"](), 0, 0)
    with pytest.raises(InputError, match="dotted"):
        narrowed(SPACES["cfr"](), {"steps": Choice((1,))})


def test_hidden_values_are_not_shown() -> None:
    values = {"refine.cascade.steps": 2, "refine.mask_threshold": 0.49}
    assert shown(values, {"refine.mask_threshold"}) == "cascade.steps 2"
    assert shown({}) == "default"


def test_training_settings_reach_the_training_run(tmp_path: Any) -> None:
    from jobs.config import SweepConfig
    from models import checkpoint as checkpoints
    from tests.training.tiny import tiny_network

    folder = checkpoints.save(tiny_network(), tmp_path / "start")
    config = SweepConfig(checkpoint=str(folder), reader="scenes", hold_out=0.3)
    values = {"training.icl.betas": [1.0, 2.0], "training.optimizer.lr": 1e-3, "data.copy_paste.prob": 0.25}
    found = train_config(config, values, tmp_path / "run")
    assert found.training.icl.betas == (1.0, 2.0)
    assert found.training.optimizer.lr == 1e-3
    assert found.data.copy_paste.prob == 0.25
    assert found.data.reader == "scenes"
    assert found.validation.hold_out == 0.3
    assert found.network.start_from == str(folder)
    with pytest.raises(InputError, match=r"jobs\.train"):
        train_config(config, {"training.icl.gammas": 1}, tmp_path / "run")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["refine.cascade.stepz", "1"], "stepz"),
        (["refine.cascade.steps", "-1"], "cascade"),
        (["training.icl.gammas", "1"], "jobs.train has no such setting"),
        (["steps", "1"], "dotted"),
    ],
)
def test_wrong_names_and_values_are_refused_before_ray(given: list[str], words: str, tmp_path: Any) -> None:
    from jobs.sweep import main
    from models import checkpoint as checkpoints
    from tests.training.tiny import tiny_network

    folder = checkpoints.save(tiny_network(), tmp_path / "start")
    with pytest.raises(InputError, match=words):
        main(
            ["cfr", "--checkpoint", str(folder), "--reader", "scenes", "--set", *given, "--out", str(tmp_path / "out")]
        )
    assert not (tmp_path / "out").exists()
    with pytest.raises(InputError, match="no checkpoint"):
        main(["cfr", "--checkpoint", str(tmp_path / "nowhere"), "--reader", "scenes"])
