"""The documentation's pictures are those of the scripts that draw them, and pages show them."""

from tools.drawings import PICTURES, SOURCES, mark
from tools.pictures.__main__ import PICTURES as DRAWN
from tools.words import files, in_line


def test_drawings_are_those_of_their_sources() -> None:
    sources = sorted(SOURCES.glob("*.dot"))
    assert sources
    for source in sources:
        picture = PICTURES / f"{source.stem}.svg"
        assert picture.read_text().startswith(mark(source)), f"run `python -m tools.drawings`: {source.name} changed"


def test_every_picture_is_drawn_by_a_script_and_shown_on_a_page() -> None:
    assert {path.stem for path in PICTURES.glob("*.jpg")} == set(DRAWN)
    pages = "".join(path.read_text() for path in files() if path.suffix == ".md")
    assert [path.name for path in PICTURES.iterdir() if f"pictures/{path.name}" not in pages] == []


def test_words_are_found_in_prose_and_in_names_but_not_inside_others() -> None:
    assert [finding.split(":")[0] for finding in in_line("as_it_was_told by Nobody")] == ['"told"', '"nobody"']
    assert list(in_line("retold, Tolduso, endearing")) == []
    assert list(in_line("see docs/" + "NOWHERE.md")) == ['"docs/' + 'NOWHERE.md" does not exist']
