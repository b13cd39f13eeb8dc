"""The code blocks of a guide: read from its Markdown, and run as its reader would run them.

The info string of a block of commands says how it is tested: "bash tested", "python tested", or "bash needs=X" for
commands that need something which a test does not have. Other blocks show output or configuration.
"""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]
COMMANDS = ("bash", "python")
SHOWN = ("text", "json", "yaml", "ini", "nginx", "xml")
NEEDS = (
    "aws",
    "checkpoint",
    "cvat",
    "docker",
    "gpu",
    "internet",
    "kubernetes",
    "label-studio",
    "machines",
    "people",
)
MARKS = ("tested", *(f"needs={what}" for what in NEEDS))
FENCE = re.compile(r"( *)(`{3,}|~{3,})(.*)")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    language: str
    mark: str
    """What follows the language in its info string."""
    text: str
    line: int
    """Number of its opening fence in the page, from 1."""

    def complaint(self) -> str | None:
        """Say what is wrong with its info string, if anything."""
        if self.language in COMMANDS:
            return None if self.mark in MARKS else f"expected one of {', '.join(MARKS)} after {self.language}"
        if self.language in SHOWN:
            return None if not self.mark else f"{self.language} {self.mark}: only {' and '.join(COMMANDS)} have marks"
        return f"{self.language or 'no language'}: expected one of {', '.join(COMMANDS + SHOWN)}"

    def with_text(self, text: str) -> "Block":
        """Return the block with another text, such as one with free ports."""
        return replace(self, text=text)


def blocks(page: str) -> list[Block]:
    """Read the fenced blocks of a Markdown page in order; one inside a list loses the list's indentation.

    Raises ValueError for a block that never ends.
    """
    found: list[Block] = []
    lines = iter(enumerate(page.splitlines(), start=1))
    for number, line in lines:
        if not (opening := FENCE.fullmatch(line)):
            continue
        indent, fence, info = opening.groups()
        language, _, mark = info.strip().partition(" ")
        text: list[str] = []
        for _, inside in lines:
            if inside.strip() == fence:
                break
            text.append(inside.removeprefix(indent) + "\n")
        else:
            raise ValueError(f"line {number}: this block never ends")
        found.append(Block(language, mark.strip(), "".join(text), number))
    return found


def outside(page: str) -> list[str]:
    """The lines of a page that are in no block."""
    inside = {n for block in blocks(page) for n in range(block.line, block.line + block.text.count("\n") + 2)}
    return [line for number, line in enumerate(page.splitlines(), start=1) if number not in inside]


@dataclass(frozen=True)
class Done:
    """What came of a block."""

    code: int
    output: str


@dataclass(frozen=True)
class Shell:
    """A shell with an empty home: variables and the working folder last from one block to the next."""

    home: Path
    work: Path
    """A folder in which the repository appears as in a clone; what blocks write there stays out of the repository."""
    environ: dict[str, str]

    def run(self, block: Block, timeout: float = 900) -> Done:
        """Run a block to its end, in which programs that it started with & go on."""
        text = block.text
        if block.language == "python":
            program = self.home / f"line-{block.line}.py"
            program.write_text(text)
            text = f"python - < {program}\n"
        variables, said = self.home / "variables", self.home / f"line-{block.line}.txt"
        script = f"set -euo pipefail -o allexport; source {variables}\n{text}\n"
        script += f"{{ export -p; echo \"cd '$PWD'\"; }} > {variables}"
        with said.open("w") as file:  # no pipe: what goes on in the background would hold it open
            done = subprocess.run(
                ["bash", "-c", script],
                cwd=self.work,
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                timeout=timeout,
            )
        return Done(done.returncode, said.read_text(errors="replace"))


@contextlib.contextmanager
def shell() -> Iterator[Shell]:
    """Open a shell; what its blocks started and have not ended is ended with it."""
    home = Path(tempfile.mkdtemp(prefix="mw", dir="/tmp"))  # a long path does not fit into the name of Ray's socket
    work = home / "maskwright"
    work.mkdir()
    for name in _in_a_clone():
        (work / name).symlink_to(ROOT / name)
    (home / "variables").touch()
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "MLFLOW_", "AWS_"))}
    environ |= {"HOME": str(home), "RAY_TMPDIR": str(home), "TMPDIR": str(home), "OMP_NUM_THREADS": "1"}
    environ |= {"PATH": f"{Path(sys.executable).parent}:{environ['PATH']}", "NO_ALBUMENTATIONS_UPDATE": "1"}
    try:
        yield Shell(home, work, environ)
    finally:
        for process in psutil.process_iter(["environ"]):
            if (process.info["environ"] or {}).get("RAY_TMPDIR") == str(home) and process.pid != os.getpid():
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        shutil.rmtree(home, ignore_errors=True)


def _in_a_clone() -> list[str]:
    """The names at the top of the repository, without what .gitignore leaves out."""
    ignored = [pattern.strip("/") for pattern in (ROOT / ".gitignore").read_text().split()]
    names = (path.name for path in ROOT.iterdir() if not path.name.startswith("."))
    return sorted(name for name in names if not any(fnmatch(name, pattern) for pattern in ignored))
