"""docs/CHECKS.md is true: each check has its row, each test that it names is there, each code is one of ours."""

import ast
import re
from pathlib import Path

from serve.core.problems import CODES

ROOT = Path(__file__).parent.parent
NUMBERS = [*range(1, 50), 54, 55]
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in (ROOT / "docs/CHECKS.md").read_text().splitlines()
    if re.match(r"\| \d+ \|", line)
]


def named(cell: str) -> list[tuple[Path, str]]:
    """Files and functions that a cell names as tests."""
    pairs = re.findall(r"`([\w/]+\.py)::([\w:]+)`", cell)
    return [(ROOT / ("" if "/" in file else "tests/serve") / file, name) for file, name in pairs]


def found_in(path: Path) -> dict[str, bool]:
    """Names of a file's tests, as pytest writes them, and whether each is marked slow."""
    found: dict[str, bool] = {}

    def add(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            if isinstance(node, ast.ClassDef):
                add(node.body, f"{prefix}{node.name}::")
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                found[f"{prefix}{node.name}"] = any(".slow" in ast.unparse(mark) for mark in node.decorator_list)

    add(ast.parse(path.read_text()).body, "")
    return found


def test_every_check_has_one_row_with_a_test() -> None:
    assert [int(row[0]) for row in ROWS] == NUMBERS
    assert all(len(row) == 4 for row in ROWS), [row[0] for row in ROWS if len(row) != 4]
    assert [row[0] for row in ROWS if not named(row[3]) and "pending" not in row[2]] == []


def test_every_test_that_is_named_is_there_and_as_slow_as_told() -> None:
    for row in ROWS:
        for path, name in named(row[3]):
            tests = found_in(path) if path.is_file() else {}
            assert name in tests, f"check {row[0]}: {path.relative_to(ROOT)} has no {name}"
            assert tests[name] == (f"{name}` (slow)" in row[3]), f"check {row[0]}: {name} and its slowness"


def test_every_code_is_one_of_ours_with_its_status() -> None:
    for row in ROWS:
        for status, codes in re.findall(r"(\d{3}) ((?:`\w+`(?:, )?)+)", row[2]):
            for code in re.findall(r"`(\w+)`", codes):
                assert CODES[code][0] == int(status), f"check {row[0]}: {code}"
