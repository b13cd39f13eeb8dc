"""Records check their values, name the expected type, and can be read from JSON."""

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import InputError
from models.records import Above, AtLeast, AtMost, Below, Count, Factor, Fraction, Record, Rising, expected, fits, read


@dataclass(frozen=True, kw_only=True)
class Inner(Record):
    called = "inner"

    rate: Factor = 0.5
    size: int | tuple[int, int] | None = None


@dataclass(frozen=True, kw_only=True)
class Outer(Record):
    steps: Count = 3
    share: Annotated[float, AtLeast(0), Below(1)] = 0.0
    prob: Fraction = 1.0
    how: Literal["all", "newest"] = "all"
    on: bool = False
    scale: Annotated[tuple[Factor, Factor], Rising()] | None = None
    words: tuple[str, ...] = ()
    inner: Inner = field(default_factory=Inner)
    other: Inner | None = None


@pytest.mark.parametrize(
    ("plain", "message"),
    [
        ({"steps": -1}, "steps is -1: expected a whole number >= 0"),
        ({"steps": 1.5}, "steps is 1.5: expected a whole number >= 0"),
        ({"steps": True}, "steps is True: expected a whole number >= 0"),
        ({"share": 1}, "share is 1: expected a number >= 0 and < 1"),
        ({"share": float("nan")}, "share is nan: expected a number >= 0 and < 1"),
        ({"prob": "1"}, "prob is '1': expected a number >= 0 and <= 1"),
        ({"how": "some"}, "how is 'some': expected all or newest"),
        ({"how": "newst"}, "how is 'newst': expected all or newest; did you mean 'newest'?"),
        ({"on": 1}, "on is 1: expected true or false"),
        ({"scale": [0.5]}, "scale is (0.5,): expected a list (a number > 0, a number > 0) in rising order or none"),
        ({"scale": [2, 1]}, "in rising order"),
        ({"words": ["a", 3]}, "words is ('a', 3): expected a list (each a text)"),
        ({"inner": {"rate": 0}}, "inner.rate is 0: expected a number > 0"),
        ({"inner": {"size": [1, 2, 3]}}, "inner.size is (1, 2, 3): expected a whole number or a list"),
        ({"inner": 3}, "Outer.inner is 3: expected an object with its settings"),
        ({"inner": {"rates": 3}}, "unknown setting of Outer.inner 'rates'; did you mean 'rate'?"),
        ({"stepz": 3}, "unknown setting of Outer 'stepz'; did you mean 'steps'?"),
        ([1], "Outer is [1]: expected an object with its settings"),
    ],
)
def test_invalid_values_are_refused_with_the_expected_type(plain: Any, message: str) -> None:
    with pytest.raises(InputError) as caught:
        read(Outer, plain)
    assert message in str(caught.value)


@pytest.mark.networks
@given(
    st.builds(
        Outer,
        steps=st.integers(0, 9),
        share=st.floats(0, 0.9),
        how=st.sampled_from(["all", "newest"]),
        scale=st.none() | st.tuples(st.floats(0.1, 1), st.floats(1, 2)),
        words=st.lists(st.text()).map(tuple),
        inner=st.builds(Inner, size=st.none() | st.integers() | st.tuples(st.integers(), st.integers())),
        other=st.none() | st.builds(Inner),
    )
)
def test_a_record_comes_back_from_json(record: Outer) -> None:
    assert read(Outer, json.loads(json.dumps(dataclasses.asdict(record)))) == record


def test_field_without_default_is_required() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Needy(Record):
        out: str
        steps: Count = 1

    with pytest.raises(InputError, match="Needy lacks out: add it"):
        read(Needy, {"steps": 2})


def test_numpy_numbers_are_accepted() -> None:
    made = Outer(steps=np.int64(2), share=np.float32(0.5), scale=(np.float64(0.5), 1))
    assert made == Outer(steps=2, share=0.5, scale=(0.5, 1))
    assert json.loads(json.dumps(dataclasses.asdict(made)))["steps"] == 2


def test_bounds_accept_none_only_for_optional_types() -> None:
    assert fits(Annotated[int | None, AtLeast(0)], None)
    assert not fits(Annotated[int, AtLeast(0)], None)


@pytest.mark.parametrize(
    ("hint", "words"),
    [
        (Annotated[int, AtLeast(1)] | None, "a whole number >= 1 or none"),
        (Annotated[float, Above(0), AtMost(1)], "a number > 0 and <= 1"),
        (Literal["a", "b", "c"], "a, b or c"),
    ],
)
def test_types_in_words(hint: Any, words: str) -> None:
    assert expected(hint) == words
    assert not fits(hint, -1)
