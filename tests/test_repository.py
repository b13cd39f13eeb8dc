"""The commands of the README exist, as do the headings of docs/PAPERS.md that the code refers to."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def test_readme_commands_exist() -> None:
    readme = (ROOT / "README.md").read_text()
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    asked = set(re.findall(r"\bmake ([a-z-]+)\b", readme))
    assert {"demo", "test"} <= asked <= targets
    modules = set(re.findall(r"python -m ([\w.]+)", readme))
    assert len(modules) >= 3
    for module in modules - {"pytest", "pip", "venv"}:
        path = ROOT / Path(*module.split("."))
        assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), module


def paths_of_the_tree() -> list[str]:
    """Return the paths that ARCHITECTURE.md's tree names, each from the repository's root."""
    tree = re.search(r"## The tree\n\n```text\n(.*?)```", (ROOT / "ARCHITECTURE.md").read_text(), re.S)
    assert tree is not None
    paths, folder = [], ""
    for line in tree.group(1).splitlines():
        name = line.split()[0]
        paths.append(folder + name if line.startswith(" ") else name)
        if not line.startswith(" "):
            folder = name
    return paths


def test_the_tree_names_existing_paths() -> None:
    assert [path for path in paths_of_the_tree() if not (ROOT / path).exists()] == []


def test_the_tree_has_every_folder() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    folders = {
        "/".join(path.split("/")[:depth]) + "/" for path in listed for depth in (1, 2) if path.count("/") >= depth
    }
    of_the_product = ("models/", "pipeline/", "jobs/", "serve/", "deploy/")
    wanted = {path for path in folders if path.startswith(of_the_product) or path.count("/") == 1}
    assert {path for path in wanted if path[0] != "."} - set(paths_of_the_tree()) == set()


def test_readme_presets_exist() -> None:
    from jobs.presets import PRESETS

    named = set(re.findall(r"jobs\.train ([a-z_]+)", (ROOT / "README.md").read_text()))
    assert named
    assert named <= set(PRESETS)


class TestPapers:
    """docs/PAPERS.md is where the code says: "docs/PAPERS.md, HEADING"."""

    PAPERS = (ROOT / "docs/PAPERS.md").read_text()

    def test_every_reference_names_a_heading(self) -> None:
        headings = re.findall(r"^##+ (.+)$", self.PAPERS, re.M)
        known = re.compile(f"({'|'.join(map(re.escape, headings))})(?=[).,;`]|$)")
        found = 0
        for path in (path for kind in ("py", "md") for path in ROOT.glob(f"[!.]*/**/*.{kind}")):
            on_one_line = re.sub(r"\s+", " ", path.read_text())
            for reference in on_one_line.split("docs/PAPERS.md, ")[1:] if path != Path(__file__) else ():
                assert known.match(reference), f"{path.relative_to(ROOT)}: docs/PAPERS.md, {reference[:60]}"
                found += 1
        assert found > 20

    def test_every_file_that_it_names_is_there(self) -> None:
        for part in re.split(r"\n\n|\n(?=\|)", self.PAPERS):
            folder = ROOT
            for name in re.findall(r"`([\w/]+(?:\.py|/))`", part):
                path = ROOT / name if "/" in name else folder / name  # a bare name: beside the file before it
                folder = path.parent
                assert path.exists(), f"docs/PAPERS.md: no {path.relative_to(ROOT)}"


@pytest.mark.networks  # not in the quick part: a process each
@pytest.mark.parametrize(
    "module",
    [
        "jobs.prepare",
        "jobs.augment",
        "jobs.train",
        "jobs.evaluate",
        "jobs.sweep",
        "jobs.compare",
        "jobs.predict",
        "jobs.import_checkpoint",
        "jobs.export",
        "jobs.backup",
        "jobs.demo",
        "jobs.doctor",
        "serve",
    ],
)
def test_help_works_everywhere(module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", module, "--help"], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "--" in done.stdout or "PRESET" in done.stdout
