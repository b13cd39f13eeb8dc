"""Races, contests and their verdicts, on a toy network with a planted optimum."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import InputError
from pipeline.pages.sweep_report import write_report
from pipeline.tuning.contest import DROPPED, FAILED, PLAYED, Contest
from pipeline.tuning.outcome import forwards, importance, standings, verdict
from pipeline.tuning.parameters import Choice, Range
from pipeline.tuning.race import RaceConfig, judge
from pipeline.tuning.search import Grid, open_search
from pipeline.tuning.settings import identity
from tests.tuning.toy import BASE, HIDDEN, bench, contest_of, run

SPACE = {"refine.mask_threshold": Choice((0.2, 0.35, 0.45, 0.5, HIDDEN, 0.7, 0.8, 0.9))}
WHOLE = RaceConfig(rungs=(1.0,))


@pytest.fixture(scope="module")
def whole() -> Contest:
    return run(contest_of(WHOLE), Grid(SPACE, 0, 0), bench(memory=0))


@pytest.fixture(scope="module")
def raced() -> Contest:
    return run(contest_of(RaceConfig()), Grid(SPACE, 0, 0), bench())


@pytest.mark.xdist_group("race")
def test_the_race_finds_the_planted_optimum_with_a_fraction_of_the_work(whole: Contest, raced: Contest) -> None:
    for contest in (whole, raced):
        best = contest.best()
        assert best is not None
        assert best.values == {"refine.mask_threshold": HIDDEN}
    share = forwards(raced)[1] / forwards(whole)[1]
    assert share <= 0.35, share
    found = standings(raced)
    assert found[0].better(raced.objective)
    assert "beats the default" in verdict(found, raced.objective, 40)
    assert {entry.status for entry in raced.entries.values()} == {PLAYED, DROPPED}
    # The default always plays everything, because all settings are compared with it.
    assert len(raced.entries[raced.default].rows()) == 40


@pytest.mark.xdist_group("race")
def test_a_race_gives_the_rows_of_a_full_run(whole: Contest, raced: Contest) -> None:
    for name, entry in raced.entries.items():
        rows = entry.rows()
        assert rows == whole.entries[name].rows()[: len(rows)]


def test_a_failed_setting_is_reported_and_the_others_continue() -> None:
    broken = identity(BASE, {"refine.mask_threshold": 0.7})
    contest = run(contest_of(RaceConfig(), 12), Grid(SPACE, 0, 0), bench(), broken=broken)
    assert contest.entries[broken].status == FAILED
    best = contest.best()
    assert best is not None
    assert best.values == {"refine.mask_threshold": HIDDEN}


def test_the_verdict_reports_that_nothing_beats_the_default() -> None:
    space = {"refine.mask_threshold": Choice((0.3, 0.3001, 0.3002))}
    contest = run(contest_of(RaceConfig(), 12), Grid(space, 0, 0), bench())
    found = standings(contest)
    said = verdict(found, contest.objective, 12)
    assert "Nothing beats the default significantly" in said or "The default is the best" in said


@pytest.mark.parametrize("name", ["random", "optuna"])
def test_searches_come_near_the_optimum_and_repeat_with_the_seed(name: str) -> None:
    space = {"refine.mask_threshold": Range(0.1, 0.95)}
    results = []
    for _ in range(2):
        contest = run(contest_of(RaceConfig(), 12), open_search(name, space, 16, 3), bench(), generation=4)
        best = contest.best()
        assert best is not None
        results.append((best.values, sorted(contest.entries)))
    assert results[0] == results[1]
    assert abs(results[0][0]["refine.mask_threshold"] - HIDDEN) < 0.12


def test_the_pareto_front_holds_the_best_setting_at_each_price() -> None:
    space = {**SPACE, "refine.cascade.steps": Choice((0, 2))}
    race = RaceConfig(rungs=(0.2, 1.0))
    contest = run(contest_of(race, 12, pareto=True), open_search("optuna_pareto", space, 12, 0), bench(), generation=6)
    front = contest.pareto_front()
    assert front
    scores, prices = [contest.score(e) for e in front], [e.seconds_per_click for e in front]
    assert prices == sorted(prices)
    assert scores == sorted(scores, reverse=True)
    best = contest.best()
    assert best is not None
    assert scores[-1] == contest.score(best)


def test_importance_separates_parameters_that_matter_from_those_that_do_not() -> None:
    space = {**SPACE, "refine.max_network_clicks": Choice((100, 200))}
    shares = importance(run(contest_of(WHOLE, 12), Grid(space, 0, 0), bench()))
    assert shares["refine.mask_threshold"] > 0.95
    assert shares["refine.max_network_clicks"] < 0.05


@pytest.mark.networks
def test_the_page_shows_all_sections(tmp_path: object) -> None:
    from pathlib import Path

    space = {**SPACE, "refine.max_network_clicks": Choice((100, None))}
    contest = run(contest_of(RaceConfig(), 12), Grid(space, 0, 0), bench())
    path = Path(str(tmp_path)) / "report.html"
    sentence = write_report(path, contest, title="Sweep", subtitle="a toy")
    page = path.read_text()
    assert sentence in page.replace("&#39;", "'")
    for text in ("The price", "All settings", "Parameter by parameter", "mask_threshold", "standard errors", "default"):
        assert text in page
    assert page.count("data:image/png") >= 4


LOSSES = st.integers(2, 12).flatmap(
    lambda num: st.dictionaries(
        st.sampled_from("abcdefgh"), st.lists(st.integers(1, 20).map(float), min_size=num, max_size=num), min_size=1
    )
)


@pytest.mark.networks
@settings(deadline=None, max_examples=150)
@given(LOSSES, st.floats(0.1, 1.0), st.booleans())
def test_a_race_never_drops_its_leader_and_limits_those_that_continue(
    losses: dict[str, list[float]], keep: float, immune: bool
) -> None:
    name = sorted(losses)[0] if immune else None
    found = judge(losses, RaceConfig(keep=keep), immune=name)
    least = min(np.mean(row) for row in losses.values())
    assert any(np.mean(losses[on]) == least for on in found.on)
    assert set(found.on) | set(found.dropped) == set(losses)
    assert not set(found.on) & set(found.dropped)
    assert name is None or name in found.on
    # More settings may continue only if they are as good as the leader.
    worse = [on for on in found.on if on != name and np.mean(losses[on]) > least]
    assert len(worse) <= max(1, int(np.ceil(keep * len(losses))))


def test_a_small_steady_difference_outweighs_a_large_spread() -> None:
    rng = np.random.default_rng(0)
    hard = rng.integers(1, 20, 30).astype(float)
    verdicts = judge({"leader": list(hard), "worse": list(hard + 1.0)}, RaceConfig(keep=1.0))
    assert verdicts.dropped.keys() == {"worse"}
    noisy = list(hard + rng.permutation(np.repeat([-4.0, 4.5], 15)))
    assert not judge({"leader": list(hard), "noisy": noisy}, RaceConfig(keep=1.0)).dropped


def test_with_costs_an_expensive_setting_cannot_drop_a_cheap_one() -> None:
    losses = {"expensive": [1.0] * 10, "cheap": [3.0] * 10, "bad": [5.0] * 10}
    costs = {"expensive": 2.0, "cheap": 1.0, "bad": 1.5}
    assert judge(losses, RaceConfig(keep=1.0), costs=costs).dropped.keys() == {"bad"}


@pytest.mark.parametrize("fields", [{"rungs": (0.5, 0.2, 1.0)}, {"rungs": (0.5,)}, {"keep": 0.0}, {"least": 1}])
def test_invalid_races_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(InputError, match="race"):
        RaceConfig(**fields)  # pyright: ignore[reportArgumentType]


def test_the_sizes_of_rungs_rise() -> None:
    assert RaceConfig().sizes(24) == [3, 5, 10, 24]
    assert RaceConfig().sizes(4) == [3, 4]
    assert RaceConfig().sizes(2) == [2]
