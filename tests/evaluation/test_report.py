import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from models.interaction import Clicks
from pipeline.evaluation.config import EvaluationConfig
from pipeline.evaluation.overlays import NEGATIVE, POSITIVE, TINT, overlay
from pipeline.evaluation.report import write_report
from pipeline.evaluation.report_tables import class_table, results_table
from pipeline.evaluation.results import ObjectRow, summarize
from tests.evaluation.fakes import row
from tests.pipeline.fakes import FakeReader

READER = FakeReader(num_items=4, hw=(12, 10), bad=(3,))
CONFIG = EvaluationConfig(max_clicks=4, target_iou=0.95, qualities=(0.5, 0.95), at_clicks=(1,))
EVIL = "<script>alert(1)</script>"


class Page(HTMLParser):
    """Collects what a page would fetch, its cells and its captions."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data")]

    def handle_data(self, data: str) -> None:
        self.text.append(data.strip())


def rows(name: str, gain: float) -> list[ObjectRow]:
    made = [row(f"item{n:04d}/{k}", [0.2 + gain, 0.4 + 0.1 * n + gain], name) for n in range(4) for k in "ab"]
    done = {"cascade_passes": 3, "focus_views": 0}
    return [replace(r, category="cat" if r.object.endswith("a") else "dog", counts=done) for r in made]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    groups = {"standard": rows("standard", 0.0), EVIL: rows(EVIL, 0.1)}
    path = tmp_path_factory.mktemp("report") / "deep" / "report.html"
    write_report(
        path,
        title=f"{EVIL} on scenes",
        subtitle="8 objects & more",
        rows=[row for group in groups.values() for row in group],
        summaries=[summarize(group, CONFIG, 1.0) for group in groups.values()],
        readers={"scenes": READER},
        shown=("scenes", "standard", "oracle"),
        num_overlays=2,
        history=[{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0}],
    )
    return path.read_text()


def test_the_page_fetches_nothing(page: str) -> None:
    parsed = Page(page)
    assert parsed.sources
    assert all(source.startswith("data:image/") or source == "" for source in parsed.sources)
    assert not {"script", "link", "iframe"} & set(parsed.tags)
    assert not re.search(r"https?://|url\(|@import", page)


def test_the_page_holds_the_tables_figures(page: str) -> None:
    text = Page(page).text
    summary = summarize(rows("standard", 0.0), CONFIG, 1.0)
    assert f"{summary['iou_at']['1']:.3f}" in text
    assert f"{summary['noc']['0.50']:.2f}" in text
    assert {"IoU&1", "NoC@50", "NoC@95", "NoF@95", "standard", "scenes", "8 objects & more"} <= set(text)
    assert page.count('class="best"') >= 2


def test_the_page_says_what_refinements_did_and_how_classes_fared(page: str) -> None:
    text = Page(page).text
    assert {"What the refinements did", "extra cascade passes", "24"} <= set(text)
    assert "close-ups" not in text
    assert {"By class: scenes, standard", "cat", "dog"} <= set(text)


def test_rare_classes_are_counted_together() -> None:
    group = [replace(row(f"a/{k}", [0.5]), category=name) for k, name in enumerate(["x"] * 3 + ["y", "z", ""])]
    table = class_table(group, 0.9, 4)
    assert table is not None
    assert [(line[0][0], line[1][0]) for line in table.lines] == [("x", "3"), ("others", "3")]
    assert class_table([row("a/1", [0.5])], 0.9, 4) is None


def test_the_best_is_bold_among_its_own_data_set_only() -> None:
    groups = [rows("worse", 0.0), rows("better", 0.1), [replace(r, dataset="other") for r in rows("alone", 0.3)]]
    table = results_table([summarize(group, CONFIG, 1.0) for group in groups])
    column = table.head.index("IoU&1")
    assert [line[column][1] for line in table.lines] == [False, True, False]
    assert not any(line[table.head.index("s / click")][1] for line in table.lines)


def test_names_cannot_write_html(page: str) -> None:
    assert EVIL not in page
    assert sum(EVIL in text for text in Page(page).text) >= 2
    assert "&lt;script&gt;" in page


def test_the_best_the_median_and_the_worst_are_shown_and_bad_items_are_named(page: str) -> None:
    text = Page(page).text
    for title in ("Best", "Median", "Worst", "Training"):
        assert title in text
    captions = [line for line in text if " after 1 click" in line or "cut short" in line]
    assert len(captions) == 6
    assert captions[0] == captions[1] == "item0003: the file is cut short"
    assert captions[-1].startswith("item0000/")
    assert page.count("data:image/jpeg") == 4
    assert page.count("data:image/png") == 3


def test_an_evaluation_of_one_object_and_no_history_has_a_page_too(tmp_path: Path) -> None:
    group = [row("item0000/a", [0.7])]
    write_report(
        tmp_path / "report.html",
        title="one",
        subtitle="",
        rows=group,
        summaries=[summarize(group, CONFIG, 1.0)],
        readers={"scenes": READER},
        shown=("scenes", "standard", "oracle"),
    )
    page = (tmp_path / "report.html").read_text()
    assert "Training" not in Page(page).text
    assert "IoU 0.70 after 1 click, 0.70 after 1" in page


def test_an_overlay_tints_the_mask_and_numbers_the_clicks() -> None:
    image = np.full((100, 200, 3), 200, np.uint8)
    mask = np.zeros((100, 200), bool)
    mask[10:90, 10:90] = True
    clicks = Clicks.of([(50, 50, True), (50, 150, False)])
    picture = overlay(image, mask, None, clicks, longest_side=400)
    assert picture.shape == (200, 400, 3)
    assert picture.dtype == np.uint8
    assert np.allclose(picture[40, 40], 0.5 * 200 + 0.5 * np.array(TINT), atol=1)
    assert (picture[180, 390] == 200).all()
    assert (picture[101, 96] == POSITIVE).all()
    assert (picture[101, 296] == NEGATIVE).all()
    assert (image == 200).all()


def test_an_overlay_outlines_the_truth_and_shrinks_large_images() -> None:
    truth = np.zeros((1000, 800), bool)
    truth[200:800, 200:600] = True
    picture = overlay(np.full((1000, 800, 3), 90, np.uint8), np.zeros_like(truth), truth, Clicks.none())
    assert picture.shape == (480, 384, 3)
    assert picture[:, 100:280].max() > 200
    assert picture[:, 100:280].min() < 60
    assert (picture[240, 192] == 90).all()
