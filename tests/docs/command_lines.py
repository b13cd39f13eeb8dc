"""The command lines of a guide: which programs of the repository they start, and whether those take the flags."""

import importlib
import re
import shlex
import sys
from collections.abc import Sequence
from unittest import mock

import tyro

from models.errors import InputError
from tests.docs.blocks import ROOT

PUNCTUATION = "();<>|&\n"
HERE_DOCUMENT = re.compile(r"<<-?\s*(['\"]?)(\w+)\1(.*\n)(?:.*\n)*?\s*\2$", re.MULTILINE)
OURS = ("benchmarks", "jobs", "models", "pipeline", "serve", "tests")


def invocations(script: str) -> list[tuple[str, list[str]]]:
    """Read every `python -m MODULE ARGUMENTS` of a shell script, also behind the `--` of another command."""
    script = HERE_DOCUMENT.sub(r"\3", script.replace("\\\n", " "))
    lexer = shlex.shlex(re.sub(r"(?m)(^|\s)#.*$", "", script), posix=True, punctuation_chars=PUNCTUATION)
    lexer.commenters, lexer.whitespace, lexer.whitespace_split = "", " \t", True
    words = list(lexer)
    found: list[tuple[str, list[str]]] = []
    for at in range(len(words) - 2):
        if words[at].endswith(("python", "python3")) and words[at + 1] == "-m":
            rest = words[at + 3 :]
            end = next((number for number, word in enumerate(rest) if set(word) <= set(PUNCTUATION)), len(rest))
            if rest[end : end + 1] in ([">"], [">>"]) and rest[end - 1 : end] == ["2"]:
                end -= 1  # which stream is redirected
            found.append((words[at + 2], rest[:end]))
    return found


def exists(module: str) -> bool:
    """Tell whether a program is there; one of another project is taken to be."""
    path = ROOT.joinpath(*module.split("."))
    if module.split(".")[0] not in OURS:
        return True
    return path.with_suffix(".py").is_file() or (path / "__main__.py").is_file()


class Taken(Exception):
    """The flags were parsed: nothing else of the program is to run."""


def refusal(module: str, argv: Sequence[str]) -> str | None:
    """Say why a job or the server refuses its flags, by its own parser; None if it takes them.

    What has no typed flags (`serve.access`), or gets them from a run (`--resume`), is not looked at.
    """
    if module != "serve" and not module.startswith("jobs."):
        return None
    if module == "jobs.train_alone" or (argv and argv[0].split("=")[0] == "--resume"):
        return None
    folder = ROOT.joinpath(*module.split(".")).is_dir()
    program = importlib.import_module(f"{module}.__main__" if folder else module)
    real = tyro.cli

    def parse_only(*given: object, **options: object) -> None:
        real(*given, **options)  # pyright: ignore
        raise Taken

    with mock.patch("tyro.cli", parse_only), mock.patch.object(sys, "argv", [module, *argv]):
        try:
            program.main() if module == "serve" else program.main(argv)
        except Taken:
            return None
        except InputError as error:
            return str(error)
        except SystemExit as stop:
            return f"it ends with {stop.code}" if stop.code else None
    return None
