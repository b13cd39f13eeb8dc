import re
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.errors import InputError
from models.interaction import Clicks
from pipeline.drawing.overlays import NEGATIVE, POSITIVE, TINT, overlay
from pipeline.evaluation.config import EvaluationConfig
from pipeline.evaluation.object_row import Key, ObjectRow
from pipeline.evaluation.results import summarize
from pipeline.pages.report import write_report
from tests.evaluation.fakes import row, with_measured
from tests.pipeline.fakes import FakeReader

READER = FakeReader(num_items=4, hw=(12, 10), bad=(3,))
CONFIG = EvaluationConfig(max_clicks=4, target_iou=0.95, qualities=(0.5, 0.95), at_clicks=(1,))
EVIL = "<script>alert(1)</script>"


class Page(HTMLParser):
    """Collects what a page would fetch, its texts and the cells of its tables."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.text: list[str] = []
        self.tables: list[list[list[str]]] = []
        self.best: list[str] = []
        self._cell = self._is_best = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data")]
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self._cell, self._is_best = True, ("class", "best") in attrs
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self._cell = False

    def handle_data(self, data: str) -> None:
        self.text.append(data.strip())
        if self._cell:
            self.tables[-1][-1][-1] += data
            if self._is_best:
                self.best.append(data)


def rows(name: str, gain: float, dataset: str = "scenes", policy: str = "oracle") -> list[ObjectRow]:
    return [
        row(f"item{n:04d}/{k}", [0.2 + gain, 0.4 + 0.1 * n + gain], name, dataset, policy)
        for n in range(4)
        for k in "ab"
    ]


def page_of(
    path: Path,
    groups: Sequence[Sequence[ObjectRow]],
    shown: Key | None = None,
    config: EvaluationConfig = CONFIG,
    **more: Any,
) -> str:
    """Write the report of these groups, each of one data set, refinement and robot user, and read it."""
    write_report(
        path,
        title=f"{EVIL} on scenes",
        subtitle="8 objects & more",
        rows=[row for group in groups for row in group],
        summaries=[summarize(group, config, 1.0) for group in groups],
        readers={"scenes": READER},
        shown=shown or groups[0][0].key,
        **more,
    )
    return path.read_text()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    return page_of(
        tmp_path_factory.mktemp("report") / "deep" / "report.html",
        [rows("standard", 0.0), rows(EVIL, 0.1)],
        num_overlays=2,
        history=[{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0}],
    )


def test_the_page_fetches_nothing(page: str) -> None:
    parsed = Page(page)
    assert parsed.sources
    assert all(source.startswith("data:image/") for source in parsed.sources)
    assert not {"script", "link", "iframe"} & set(parsed.tags)
    assert not re.search(r"https?://|url\(|@import", page)


def test_the_page_holds_the_numbers_of_the_tables(page: str) -> None:
    parsed = Page(page)
    results, failures = parsed.tables
    summary = summarize(rows("standard", 0.0), CONFIG, 1.0)
    assert results[0] == ["predictor", "IoU&1", "NoC@50", "NoC@95", "honoured", "s / click"]
    assert results[1] == ["scenes: 8 objects"]
    noc = [f"{summary['noc'][q]:.2f}" for q in ("0.50", "0.95")]
    assert results[2] == ["standard", "0.200", *noc, "0.0%", "0.06"]
    assert [line[0] for line in results[2:]] == ["standard", EVIL]
    # 0.5, 0.6 and 0.7 are reached at click 2 of 4; nothing reaches 0.95
    assert failures[0] == ["predictor", "NoF@50", "≥4@50", "NoFI@50", "NoF@95", "≥4@95", "NoFI@95"]
    assert failures[2] == ["standard", "2", "2", "1", "8", "8", "4"]
    assert failures[3] == [EVIL, "0", "0", "0", "8", "8", "4"]
    assert {"8 objects & more", "Training"} <= set(parsed.text)
    assert parsed.best == ["0.300", "2.00", "0", "0", "0"]


def test_names_are_escaped(page: str) -> None:
    assert EVIL not in page
    assert sum(EVIL in text for text in Page(page).text) >= 2
    assert "&lt;script&gt;" in page


def test_best_median_and_worst_objects_are_shown_and_bad_items_named(page: str) -> None:
    text = Page(page).text
    for title in ("Best", "Median", "Worst", "Training"):
        assert title in text
    captions = [line for line in text if " after 1 click" in line or "cut short" in line]
    assert len(captions) == 6
    assert captions[0] == captions[1] == "item0003: the file is cut short"
    assert captions[-1].startswith("item0000/")
    assert page.count("data:image/jpeg") == 4
    assert page.count("data:image/png") == 4  # curves, histogram, price, loss


@pytest.mark.networks
def test_the_best_is_marked_for_each_data_set_and_robot_user(tmp_path: Path) -> None:
    groups = [
        *(rows("standard", 0.0), rows("zoom_in", 0.1), rows("standard", 0.3, policy="dios_random")),
        *(rows("standard", 0.4, "berkeley"), rows("zoom_in", 0.1, "berkeley")),
    ]
    text = page_of(tmp_path / "report.html", groups, ("scenes", "zoom_in", "oracle"), num_overlays=1)
    parsed = Page(text)
    results = parsed.tables[0]
    assert [line[:2] for line in results[1:]] == [
        ["scenes: 8 objects"],
        *(["standard, oracle", "0.200"], ["zoom_in, oracle", "0.300"], ["standard, dios_random", "0.500"]),
        ["berkeley: 8 objects"],
        *(["standard, oracle", "0.600"], ["zoom_in, oracle", "0.300"]),
    ]
    assert "0.500" not in parsed.best  # the only result of its robot user
    assert {"0.300", "0.600"} <= set(parsed.best)
    assert text.count("data:image/png") == 6  # a curve, a histogram and the times per click for each data set
    assert {"berkeley", "berkeley, IoU 0.95"} <= set(parsed.text)
    assert any(line.startswith("scenes, zoom_in, oracle, ordered by") for line in parsed.text)
    assert "item0000/b: IoU 0.30 after 1 click, 0.50 after 2" in parsed.text


def test_borders_and_counts_of_refinements_are_shown_if_there_are_any(tmp_path: Path, page: str) -> None:
    counted = [
        replace(
            with_measured(r, biou=[0.5, 0.75], assd=[3.0, None]),
            num_honoured=1,
            counts={"cascade_passes": 3, "focus_distance": d},
        )
        for r, d in zip(rows("cfr", 0.0), (0, 10, 20, 0, 0, 0, 0, 0), strict=True)
    ]
    plain = [replace(r, counts={"cascade_passes": 0, "focus_views": 0}) for r in rows("standard", 0.1)]
    config = replace(CONFIG, at_clicks=(1, 2))
    tables = Page(page_of(tmp_path / "report.html", [counted, plain], config=config)).tables
    assert len(tables) == 3
    assert tables[0][0][1:] == [
        "IoU&1",
        "IoU&2",
        "NoC@50",
        "NoC@95",
        "BIoU&1",
        "BIoU&2",
        "ASSD&1",
        "honoured",
        "s / click",
    ]
    assert tables[0][2][5:9] == ["0.500", "0.750", "3.00", "50.0%"]
    assert tables[0][3][5:9] == ["–", "–", "–", "0.0%"]
    assert tables[2] == [
        ["predictor", "clicks", "cascade passes", "mean reach of focus clicks"],
        ["scenes"],
        ["cfr", "16", "24 (1.50 / click)", "15 px"],
    ]
    assert "What refinements did" not in Page(page).text


def test_classes_are_shown_and_rare_ones_combined(tmp_path: Path) -> None:
    group = [row(f"item0000/{n}", [0.5], category="cup") for n in range(3)]
    group += [row(f"item0001/{n}", [0.25], category=name) for n, name in enumerate(("bowl", "bowl", "fork", ""))]
    classes = Page(page_of(tmp_path / "report.html", [group])).tables[-1]
    assert classes == [
        ["class", "objects", "IoU&1", "NoC@50", "NoC@95"],
        ["cup", "3", "0.500", "1.00", "4.00"],
        ["others (3 classes)", "4", "0.250", "4.00", "4.00"],
    ]


def test_at_most_twenty_classes_are_shown(tmp_path: Path) -> None:
    group = [row(f"item0000/{n}-{k}", [0.5], category=f"c{n:02d}") for n in range(25) for k in range(3)]
    classes = Page(page_of(tmp_path / "report.html", [group], num_overlays=0)).tables[-1][1:]
    assert len(classes) == 20
    assert classes[18][:2] == ["c18", "3"]
    assert classes[19][:2] == ["others (6 classes)", "18"]


@pytest.mark.networks
def test_time_per_click_is_shown_only_for_several_predictors(tmp_path: Path) -> None:
    alone = page_of(tmp_path / "alone.html", [rows("standard", 0.0)])
    two = page_of(tmp_path / "two.html", [rows("standard", 0.0), rows("zoom_in", 0.1)])
    heading = "Time per click"
    assert heading in two
    assert heading not in alone


def test_a_page_can_be_made_for_one_object_and_no_history(tmp_path: Path) -> None:
    page = page_of(tmp_path / "report.html", [[row("item0000/a", [0.7])]])
    text = Page(page).text
    assert not {"Training", "By class", "Best"} & set(text)
    assert "item0000/a: IoU 0.70 after 1 click" in text
    assert page.count("data:image/jpeg") == 1


def test_pictures_need_a_reader_of_the_same_images(tmp_path: Path) -> None:
    group = [row("item0000/a", [0.7], dataset="berkeley")]
    assert "data:image/jpeg" not in page_of(tmp_path / "report.html", [group])
    text = page_of(tmp_path / "report.html", [[row("gone/a", [0.7]), replace(row("item0001/a", [0.6]), height=11)]])
    assert "gone is not among the images of this data set" in text
    assert "item0001 has 12 x 10 pixels, but 11 x 10 when evaluated" in text
    assert "data:image/jpeg" not in text


def test_results_without_rows_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no rows of scenes, flip, oracle: there are rows of scenes, standard, oracle"):
        page_of(tmp_path / "report.html", [rows("standard", 0.0)], ("scenes", "flip", "oracle"))


@pytest.mark.networks
def test_many_predictors_and_odd_names_can_be_drawn(tmp_path: Path) -> None:
    groups = [rows(name, 0.01 * n) for n, name in enumerate(["_private", "$x_{$", *(f"cfr_{n}" for n in range(9))])]
    text = Page(page_of(tmp_path / "report.html", groups, num_overlays=0)).text
    assert "scenes, IoU 0.95, the first 8" in text


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
