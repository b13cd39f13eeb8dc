"""The paths and links of a page."""

import re
from pathlib import Path

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
PATH = re.compile(r"(?<![\w/.:$-])(?:benchmarks|deploy|docs|jobs|models|pipeline|serve|tests)/[\w./-]*[\w/]")
HEADING = re.compile(r"(?m)^#+ +(.+?) *$")


def slug(heading: str) -> str:
    """The anchor that GitHub and MyST give a heading."""
    plain = re.sub(r"[^\w\- ]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower())
    return plain.replace(" ", "-")


def anchors(page: str) -> set[str]:
    """The anchors of a page's headings."""
    return {slug(heading) for heading in HEADING.findall(re.sub(r"(?ms)^ *```.*?^ *```", "", page))}


def broken(page: str, folder: Path) -> list[str]:
    """The relative links of a page in `folder` that lead to no file, or to no heading of one."""
    return [link for link in LINK.findall(page) if not re.match(r"[a-z]+:", link) and not _leads(link, page, folder)]


def _leads(link: str, page: str, folder: Path) -> bool:
    place, _, anchor = link.partition("#")
    target = folder / place
    if place and not target.exists():
        return False
    return not anchor or anchor in anchors(target.read_text() if place else page)


def paths(page: str) -> set[str]:
    """What a page names that looks like a path of the repository."""
    return set(PATH.findall(page))
