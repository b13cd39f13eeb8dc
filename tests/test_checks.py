"""docs/CHECKS.md says what the tests' marks say, and each problem code in it is one of the server's."""

import re

import pytest

from serve.core.problems import CODES
from tests.checks import CHECKS, PAGE, holders, page

MEASURED = {51}
"""Checks that a benchmark measures, in place of a test."""


def test_the_page_is_what_the_marks_say() -> None:
    assert PAGE.read_text() == page(), "run `python -m tests.checks`"


def test_every_check_has_a_test() -> None:
    assert set(holders()) == set(CHECKS) - MEASURED


@pytest.mark.parametrize("number", CHECKS)
def test_every_code_has_its_status(number: int) -> None:
    for status, codes in re.findall(r"(\d{3}) ((?:`\w+`(?:, )?)+)", CHECKS[number][1]):
        for code in re.findall(r"`(\w+)`", codes):
            assert CODES[code][0] == int(status)
