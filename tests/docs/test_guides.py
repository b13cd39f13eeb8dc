"""docs/guides, as their readers would follow them: every command is there, and every tested block runs.

A page says in a comment below its title which marks its test has: <!-- marks: ray slow -->. Ports of the tested blocks
are replaced by free ones.
"""

import re
from pathlib import Path

import pytest

from tests.docs import links
from tests.docs.blocks import COMMANDS, ROOT, blocks, outside, shell
from tests.docs.command_lines import exists, invocations, refusal
from tests.ports import free_port
from tests.programs import require

GUIDES = sorted((ROOT / "docs/guides").glob("*.md"))
PORTS = ("5000", "6379", "8000", "8001", "8080", "8265")
MARKS = re.compile(r"<!-- marks:([ \w]*)-->")
each_guide = pytest.mark.parametrize("path", GUIDES, ids=lambda path: path.name)


def run_of(path: Path) -> object:
    """A guide as a parameter, with its marks."""
    said = MARKS.search(path.read_text())
    return pytest.param(
        path, id=path.name, marks=[getattr(pytest.mark, mark) for mark in said[1].split()] if said else []
    )


@each_guide
def test_every_block_has_a_mark(path: Path) -> None:
    page = path.read_text()
    complaints = [f"line {block.line}: {said}" for block in blocks(page) if (said := block.complaint())]
    assert complaints == []
    assert [line for line in outside(page) if line.startswith("    ")] == []  # an indented block has no mark


@each_guide
def test_what_it_names_is_there(path: Path) -> None:
    page = path.read_text()
    assert links.broken(page, path.parent) == []
    assert sorted(name for name in links.paths(page) if not (ROOT / name).exists()) == []
    targets = set(re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text()))
    assert set(re.findall(r"\bmake ([a-z-]+)\b", "".join(block.text for block in blocks(page)))) <= targets


@each_guide
def test_programs_take_the_flags(path: Path) -> None:
    for block in (block for block in blocks(path.read_text()) if block.language == "bash"):
        for module, argv in invocations(block.text):
            assert exists(module), f"line {block.line}: there is no module {module}"
            assert refusal(module, argv) is None, f"line {block.line}: {module} {' '.join(argv)}"


@pytest.mark.networks
@pytest.mark.parametrize("path", [run_of(path) for path in GUIDES])
@pytest.mark.timeout(1500)
def test_the_tested_blocks_run(path: Path) -> None:
    tested = [block for block in blocks(path.read_text()) if block.mark == "tested"]
    if any("curl" in block.text for block in tested):
        require("curl")
    free = {port: str(free_port()) for port in PORTS}
    with shell() as reader:
        for block in tested:
            assert block.language in COMMANDS
            text = re.sub(rf"\b({'|'.join(PORTS)})\b", lambda found: free[found[0]], block.text)
            text = text.replace("--retry 120", "--retry 900")  # a machine that runs other tests too takes longer
            if block.language == "bash":  # where no port is given, the server takes 8000
                text = re.sub(r"(python -m serve)(?= |$)(?!.*--port)", rf"\1 --port {free['8000']}", text, flags=re.M)
            done = reader.run(block.with_text(text))
            assert done.code == 0, f"{path.name}, line {block.line}:\n{text}\n{done.output[-4000:]}"
