"""Check the repository's English: words that readers stumble over, and references that lead nowhere.

    python -m tools.words        # part of `make check`; status 1 and a line for each finding

Prose, identifiers and names of tests are read alike in one respect: an underscore separates words.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent

HUNTED = {
    "told": "reported, given, passed or named",
    "nobody": "no one, or turn the sentence around",
    "whoever": "name the person",
    "anew": "again",
    "alike": "in the same way, both, equally",
    "dear": "expensive",
    "of (its|their|his|her) own": "own, or separate",
    "contestants?": "method",
    "what no": "say what is independent of what",
    "a ray of others": "a cluster that you did not start",
    "goes? on where": "resumes",
    "spec [0-9x]|(in|of|by|see) (the|this) spec|project spec": "the paper's section, or docs/PAPERS.md",
    "(the|our) (plan|design) (says|said|asks|asked|had|wants|wanted)": "a decision in ARCHITECTURE.md",
    "whereby|thereof|whence|hitherto|herein|wherein": "a plainer word",
    "is begun|was begun|are begun": "starts, started",
}
"""Words and phrases (regular expressions, whole words, any case) and what to write."""

ALLOWED = {
    "LICENSE": "",
    "tests/docs/test_pictures.py": "told",
    "tools/words.py": "",
}
"""Uses that stay: files (or beginnings of paths) and a pattern that the line must have ("": any line)."""

PAGE = re.compile(r"(?<![\w/.-])docs/[\w/-]+\.(?:md|yml|json|jpg|png|svg)")
"""References to pages and pictures of the documentation, wherever they are written."""

GENERATED = {"docs/api/http.md"}
"""Pages that `make docs` writes, which a fresh clone does not have."""

KINDS = {".py", ".md", ".js", ".html", ".css", ".yaml", ".yml", ".toml", ""}


def main() -> int:
    """Print a line for each finding and return the status."""
    findings = [finding for path in files() for finding in in_file(path)]
    for finding in findings:
        print(finding)
    if findings:
        print(f"{len(findings)} findings. Rewrite them, or add a use that has to stay to ALLOWED in tools/words.py.")
    return int(bool(findings))


def files() -> Iterator[Path]:
    """Yield the text files that git knows, by name."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in sorted(listed.stdout.split("\0")):
        path = ROOT / name
        if name and path.suffix in KINDS and path.is_file() and not path.is_symlink():
            yield path


def in_file(path: Path) -> Iterator[str]:
    """Yield what is found in a file, as `path:line: text`."""
    name = path.relative_to(ROOT).as_posix()
    for number, line in enumerate(path.read_text(errors="ignore").splitlines(), 1):
        for text in in_line(line):
            if not any(name.startswith(prefix) and re.search(use, line) for prefix, use in ALLOWED.items()):
                yield f"{name}:{number}: {text}"


def in_line(line: str) -> Iterator[str]:
    """Yield what is found in a line: hunted words with what to write, and pages that do not exist."""
    words = line.replace("_", " ").lower()
    for pattern, advice in HUNTED.items():
        for match in re.finditer(rf"(?<![a-z])(?:{pattern})(?![a-z])", words):
            yield f'"{match[0]}": write {advice}'
    for match in PAGE.finditer(line):
        if match[0] not in GENERATED and not (ROOT / match[0]).exists():
            yield f'"{match[0]}" does not exist'


if __name__ == "__main__":
    sys.exit(main())
