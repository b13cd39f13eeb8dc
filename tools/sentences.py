"""Draw sentences of the documentation, for a reader to judge.

    python -m tools.sentences [--seed 25] [--number 10]

Ten each of README, command-line help, error messages, HTTP.md, ARCHITECTURE.md and docstrings, drawn without choice.
"""

import argparse
import ast
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
ROOMS = "models", "pipeline", "jobs", "serve"
ERRORS = "InputError", "Problem"
JOBS = (
    "prepare",
    "augment",
    "train cpu_xtiny",
    "evaluate",
    "sweep cfr",
    "compare",
    "predict",
    "export",
    "doctor",
    "demo",
)


def of_page(path: str) -> list[str]:
    """Return the sentences of a Markdown page: no code, no tables, no headings."""
    text = re.sub(r"^```.*?^```", "", (ROOT / path).read_text(), flags=re.M | re.S)
    kept = [line for line in text.splitlines() if not line.startswith(("|", "#", "    ", "!"))]
    paragraphs = re.split(r"\n\s*\n|\n(?=[-*\d]+\.? )", "\n".join(kept))
    return [sentence for paragraph in paragraphs for sentence in sentences(paragraph)]


def sentences(paragraph: str) -> Iterator[str]:
    """Yield the sentences of a paragraph of five words or more."""
    text = " ".join(paragraph.split())
    for sentence in re.split(r"(?<=[.!?]) (?=[A-Z`*\[])", re.sub(r"^[-*] |^\d+\. ", "", text)):
        if len(sentence.split()) >= 5:
            yield sentence


def of_help() -> list[str]:
    """Return the descriptions of flags, as `--help` prints them."""
    found = []
    for command in JOBS:
        job, *preset = command.split()
        done = subprocess.run(
            [sys.executable, "-m", f"jobs.{job}", *preset, "--help"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        plain = re.sub(r"\x1b\[[0-9;]*m|[│╭╮╰╯─]", " ", done.stdout)
        for entry in re.split(r"\n(?=\s*--)", plain)[1:]:
            words = " ".join(re.sub(r"^\s*--\S+(?: [^a-z\s]\S*)*", "", entry.split("\n\n")[0]).split())
            if len(words.split()) >= 4:
                found.append(f"({command}) {words}")
    return sorted(set(found))


def trees() -> Iterator[tuple[str, ast.Module]]:
    """Yield the files of the product, parsed."""
    for path in sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py")):
        yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text())


def of_errors() -> list[str]:
    """Return the messages with which `InputError` and refusals of the server are raised."""
    found = []
    for name, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and node.args and ast.unparse(node.func) in ERRORS:
                message = next((arg for arg in node.args if isinstance(arg, ast.JoinedStr | ast.Constant)), None)
                if message is not None and len(shown := ast.unparse(message).split()) >= 5:
                    found.append(f"({name}) {' '.join(shown)}")
    return found


def of_docstrings() -> list[str]:
    """Return the first sentence of every docstring of a public name."""
    found = []
    for name, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                text = ast.get_docstring(node)
                if text and not getattr(node, "name", "").startswith("_"):
                    found.append(f"({name}) {' '.join(text.split(chr(10) * 2)[0].split())}")
    return found


def main() -> None:
    """Print the drawn sentences by source."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=25)
    parser.add_argument("--number", type=int, default=10)
    asked = parser.parse_args()
    sources = {
        "README": of_page("README.md"),
        "Help": of_help(),
        "Errors": of_errors(),
        "HTTP.md": of_page("docs/HTTP.md"),
        "ARCHITECTURE": of_page("ARCHITECTURE.md"),
        "Docstrings": of_docstrings(),
    }
    for title, found in sources.items():
        print(f"\n{title} ({asked.number} of {len(found)})\n")
        for sentence in random.Random(f"{asked.seed} {title}").sample(found, min(asked.number, len(found))):
            print(f"- {sentence}")


if __name__ == "__main__":
    main()
