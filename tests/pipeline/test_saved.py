"""A stored config compared with the current one: missing fields have their defaults, and differences are named."""

import dataclasses
import json
import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from models.refinement import Cascade, Flip, Refinement
from pipeline.saved import Settings, as_dict, differences


@dataclass(frozen=True, kw_only=True)
class Part:
    size: tuple[int, int] = (4, 6)
    rate: float = 0.5


@dataclass(frozen=True, kw_only=True)
class Whole:
    name: str
    steps: int = 3
    part: Part = field(default_factory=Part)
    maybe: Part | None = None
    options: dict[str, str] = field(default_factory=dict)
    root: str | None = None
    out: str = ""


@dataclass(frozen=True, kw_only=True)
class LaterPart(Part):
    """Part in a later version."""

    novelty: int = 7


GIVEN = Whole(name="a", maybe=Part(rate=0.25), options={"n": "1"})


def without(saved: dict[str, Any], path: str) -> dict[str, Any]:
    copy = json.loads(json.dumps(saved))
    *folders, last = path.split(".")
    place = copy
    for name in folders:
        place = place[name]
    del place[last]
    return copy


def test_a_stored_config_equals_itself() -> None:
    assert differences(as_dict(GIVEN), GIVEN) == ""
    assert differences(json.loads(json.dumps(as_dict(GIVEN))), GIVEN) == ""


@pytest.mark.parametrize("path", ["steps", "part", "part.size", "part.rate", "maybe.size", "root"])
def test_a_field_that_is_not_stored_is_its_default(path: str) -> None:
    assert differences(without(as_dict(GIVEN), path), GIVEN) == ""


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("name", 'name: given "a", not saved'),
        ("maybe.rate", "maybe.rate: given 0.25, saved 0.5"),
        ("maybe", 'maybe: given {"size": [4, 6], "rate": 0.25}, saved null'),
        ("options", 'options.n: given "1", not saved'),
        ("options.n", 'options.n: given "1", not saved'),
    ],
)
def test_a_field_that_is_not_stored_and_has_another_value_is_named(path: str, said: str) -> None:
    assert differences(without(as_dict(GIVEN), path), GIVEN) == said


def test_fields_of_a_later_version_count_as_their_defaults_at_any_depth() -> None:
    saved = as_dict(GIVEN)
    later = dataclasses.replace(GIVEN, part=LaterPart(), maybe=LaterPart(rate=0.25))
    assert differences(saved, later) == ""
    later = dataclasses.replace(GIVEN, part=LaterPart(novelty=8), maybe=LaterPart(rate=0.25))
    assert differences(saved, later) == "part.novelty: given 8, saved 7"
    assert differences({"kept": {"x": saved["part"]}}, {"kept": {"x": LaterPart()}}) == ""


def test_a_field_that_is_unknown_here_is_named() -> None:
    saved = as_dict(GIVEN)
    saved["part"]["novelty"] = 1
    assert differences(saved, GIVEN) == "part.novelty: saved 1, unknown to this version"


def test_differences_are_named_up_to_a_limit() -> None:
    saved = as_dict(dataclasses.replace(GIVEN, steps=4, part=Part(rate=0.1)))
    assert differences(saved, GIVEN) == "steps: given 3, saved 4; part.rate: given 0.5, saved 0.1"
    many = {f"n{k}": k for k in range(9)}
    said = differences({name: -1 for name in many}, many)
    assert said.startswith("n0: given 0, saved -1; n1")
    assert said.endswith("n4: given 4, saved -1; and 4 more")
    assert len(differences({"a": "x" * 500}, {"a": "y" * 500})) < 200


def test_settings_leave_out_what_may_change_and_add_what_follows() -> None:
    def settings(config: Whole) -> Settings:
        return Settings(config, without=("out", "steps"), more={"weights": "abc", "how": Refinement((Flip(),))})

    given = settings(GIVEN)
    saved = json.loads(json.dumps(given))
    assert "steps" not in saved
    assert saved["how"]["flip"] is True
    assert saved["part"] == {"size": [4, 6], "rate": 0.5}
    assert differences(saved, given) == ""
    assert differences(saved, settings(dataclasses.replace(GIVEN, out="elsewhere", steps=9))) == ""
    assert differences({**saved, "steps": 1}, given) == ""
    assert differences({**saved, "weights": "abd"}, given) == 'weights: given "abc", saved "abd"'
    del saved["how"]["mask_threshold"], saved["part"]
    assert differences(saved, given) == ""
    # They travel to the actor that keeps the journal.
    assert differences(saved, pickle.loads(pickle.dumps(given))) == ""


def test_added_and_removed_parts_are_named() -> None:
    cascade = as_dict(Refinement((Cascade(steps=2),)))
    assert differences(cascade, Refinement()).startswith("cascade: given null, saved {")
    assert differences(as_dict(Refinement()), Refinement((Cascade(steps=2),))).startswith("cascade: given {")
    assert differences(cascade, Refinement((Cascade(steps=3),))) == "cascade.steps: given 3, saved 2"


def test_values_that_are_not_configs_are_compared_as_a_whole() -> None:
    assert differences(None, {}) == "all: given {}, saved null"
    assert differences(["a"], ("a",)) == ""


def test_keys_are_neither_stored_nor_named() -> None:
    secret = dataclasses.replace(GIVEN, root="s3://key:hush@bucket/set")
    assert as_dict(secret)["root"] == "s3://bucket/set"
    assert differences(as_dict(secret), secret) == ""
    assert "hush" not in differences(as_dict(GIVEN), secret)
    assert Settings(secret)["root"] == "s3://bucket/set"
    assert Settings({"path": Path("/a")}) == {"path": "/a"}
