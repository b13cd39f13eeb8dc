"""Docstrings as autodoc reads them: reStructuredText, where this project writes plain text with commands indented."""

import re
from typing import Any


def as_restructured_text(app: Any, what: str, name: str, subject: Any, options: Any, lines: list[str]) -> None:
    """Rewrite a docstring's lines in place: an indented block becomes literal text (an `autodoc-process-docstring`)."""
    lines[:] = literal_blocks([line if line.startswith("    ") else without_emphasis(line) for line in lines])


def without_emphasis(line: str) -> str:
    """Return a line whose asterisks are asterisks: shapes and products, where reStructuredText reads emphasis."""
    return "".join(part if part.startswith("`") else part.replace("*", r"\*") for part in re.split("(`[^`]*`)", line))


def literal_blocks(lines: list[str]) -> list[str]:
    """Return the lines with `::` before each paragraph that is indented and begins after an empty line."""
    found: list[str] = []
    literal = False
    for index, line in enumerate(lines):
        indented, blank = line.startswith("    "), not line.strip()
        if indented and not literal and (index == 0 or not lines[index - 1].strip()):
            found += ["::", ""]
            literal = True
        elif not indented and not blank:
            if literal and lines[index - 1].strip():
                found.append("")
            literal = False
        found.append(line)
    return found
