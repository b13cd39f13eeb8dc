"""Names in any script are drawn if an installed font has their letters, otherwise written in the page; never boxes."""

import base64
import io
import json
import re
import warnings
from collections.abc import Iterator
from dataclasses import replace
from html import unescape
from pathlib import Path

import cv2
import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from PIL import Image

from models.storage import Storage
from pipeline.data.prepared.prepare import prepare, run_here
from pipeline.data.readers import open_reader
from pipeline.drawing import fonts
from pipeline.drawing.sheet import Group, Shot, draw_sheet
from pipeline.evaluation.config import EvaluationConfig
from pipeline.evaluation.results import summarize
from pipeline.pages.data_figures import _shortened, counts_figure
from pipeline.pages.data_report import write_prepared_report
from pipeline.pages.report import write_report
from tests.evaluation.fakes import row

APPLE, CRATE = "苹果", "りんご箱"


def made_font(path: Path, letters: str, family: str) -> str:
    """Make a font that draws each of these letters as a black square."""
    pen = TTGlyphPen(None)
    pen.moveTo((100, 0))
    for corner in ((900, 0), (900, 800), (100, 800)):
        pen.lineTo(corner)
    pen.closePath()
    square, names = pen.glyph(), [f"glyph{ord(letter)}" for letter in letters]
    build = FontBuilder(1000, isTTF=True)
    build.setupGlyphOrder([".notdef", *names])
    build.setupCharacterMap({ord(letter): name for letter, name in zip(letters, names, strict=True)})
    build.setupGlyf({".notdef": TTGlyphPen(None).glyph(), **dict.fromkeys(names, square)})
    build.setupHorizontalMetrics(dict.fromkeys([".notdef", *names], (1000, 100)))
    build.setupHorizontalHeader(ascent=800, descent=-200)
    build.setupNameTable({"familyName": family, "styleName": "Regular"})
    build.setupOS2()
    build.setupPost()
    build.save(path)
    return str(path)


@pytest.fixture(params=["no font", "a font"])
def installed(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Simulate a machine without fonts for Chinese, and one with them, where Japanese is in another file."""
    found = []
    if request.param == "a font":
        found = [made_font(tmp_path / "a.ttf", APPLE, "Squares A"), made_font(tmp_path / "b.ttf", CRATE, "Squares B")]
    (tmp_path / "broken.ttf").write_bytes(b"no font")
    monkeypatch.setattr(fonts, "installed", lambda: (str(tmp_path / "broken.ttf"), *found))
    fonts.drawn.cache_clear()
    yield found
    fonts.drawn.cache_clear()


def pixels(uri: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))).convert("L"))


def test_letters_of_the_default_font_need_no_other_font(installed: list[str]) -> None:
    names = ["cat", "яблоко", "μήλο", "تفاحة", "תפוח", "naïve café", "a\u200db\ufe0f", "$x$", ""]
    assert fonts.labels(names) == (names, ())
    assert all(fonts.drawn(name) == (name, (fonts.OWN,)) for name in names)


def test_other_letters_are_drawn_or_have_a_key(installed: list[str]) -> None:
    names = ["cat", APPLE, f"{CRATE} of {APPLE}", "\U0001f34e", "tab\there", "\udce9"]
    shown, key = fonts.labels(names)
    if installed:
        assert shown == [*names[:3], "(4)", "(5)", "(6)"]
        assert fonts.drawn(names[2])[1] == (fonts.OWN, "Squares A", "Squares B")
    else:
        assert shown == ["cat", "(2)", "(3)", "(4)", "(5)", "(6)"]
        assert key[0] == f"(2) {APPLE}"
    assert key[-3:] == ("(4) \U0001f34e", "(5) tab\there", "(6) \udce9")


def test_figures_draw_no_boxes_and_raise_no_warnings(installed: list[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn, plain = (pixels(counts_figure([(name, 3), ("cat", 2)], "objects")) for name in (APPLE, "??"))
    assert np.array_equal(drawn.shape, plain.shape)
    left = drawn[:, : drawn.shape[1] // 3] < 40
    assert (left.sum() > 400) == bool(installed), "two squares, or two question marks"
    assert np.array_equal(drawn, plain) != bool(installed)


def test_letters_are_read_from_a_font_and_none_from_a_missing_file(tmp_path: Path) -> None:
    path = made_font(tmp_path / "c.ttf", APPLE, "Squares")
    assert fonts.letters(path) == {ord(letter) for letter in APPLE}
    assert fonts.letters(str(tmp_path / "absent.ttf")) == frozenset()


def chinese(folder: Path) -> str:
    """Write a COCO data set with Chinese categories."""
    names = ["cat", APPLE, "яблоко"]
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    assert cv2.imwrite(str(folder / "a.png"), image)
    boxes = [
        {"id": n, "image_id": 1, "category_id": n, "iscrowd": 0, "area": 200, "bbox": [20 * n, 5, 10, 20],
         "segmentation": [[20 * n, 5, 20 * n + 10, 5, 20 * n + 10, 25, 20 * n, 25]]}
        for n in (1, 2, 3)
    ]  # fmt: skip
    content = {
        "images": [{"id": 1, "file_name": "a.png", "height": 60, "width": 80}],
        "annotations": boxes,
        "categories": [{"id": n, "name": name} for n, name in enumerate(names, start=1)],
    }
    (folder / "annotations.json").write_text(json.dumps(content))
    return str(folder)


def test_the_report_of_a_data_set_has_every_name(installed: list[str], tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    storage = Storage(str(tmp_path / "out"))
    prepare(open_reader("coco", chinese(tmp_path / "data")), storage, {}, run=run_here())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_prepared_report(storage, APPLE)
    page = unescape((tmp_path / "out" / "report.html").read_text())
    assert re.search(rf'alt="Categories: [^"]*{APPLE} 1', page)
    assert (f"<br>(3) {APPLE}" in page) != bool(installed)
    assert "<br>(2)" not in page


@pytest.mark.networks
def test_the_report_of_an_evaluation_has_every_name(installed: list[str], tmp_path: Path) -> None:
    config = EvaluationConfig(max_clicks=4, target_iou=0.95, qualities=(0.5, 0.95), at_clicks=(1,))
    names = ["standard", f"{APPLE} 2"]
    rows = [row(f"{APPLE}/1", [0.3, 0.6], refinement=name, dataset=APPLE, category=CRATE) for name in names]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_report(
            tmp_path / "report.html",
            title=APPLE,
            subtitle="",
            rows=rows,
            summaries=[summarize([each], config, 1.0) for each in rows],
            readers={},
            shown=(APPLE, "standard", "oracle"),
        )
    page = unescape((tmp_path / "report.html").read_text())
    keys = 0 if installed else 3  # of the curves, of the histograms, and of the times per click
    assert page.count(f"<br>(2) {APPLE} 2") == keys
    assert f"<td>{APPLE} 2</td>" in page


def test_sheets_write_the_letters_that_fonts_have(installed: list[str]) -> None:
    def sheet(line: str) -> np.ndarray:
        return draw_sheet([Group(heading="a", note="", shots=[replace(shot, lines=(line,))])])

    shot = Shot(picture=np.full((40, 180, 3), 200, np.uint8), lines=())
    written = sheet(APPLE)
    assert (written.min(-1) < 60).sum() > (150 if installed else 0)
    assert np.array_equal(written, sheet("\U0001f34e\U0001f34e")) != bool(installed), "without a font both show ??"
    sheet("a\nb")
    sheet("\U0001f34e" * 300)


def test_long_names_are_cut_by_their_width() -> None:
    assert _shortened("a" * 32) == "a" * 32
    assert _shortened("a" * 33) == "a" * 29 + "..."
    assert _shortened("果" * 16) == "果" * 16
    assert _shortened("果" * 17) == "果" * 14 + "..."
    assert _shortened("") == ""
