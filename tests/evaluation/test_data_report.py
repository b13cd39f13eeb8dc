"""report.html of prepared data sets and of epochs holds numbers, reasons and pictures."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from models.storage import Storage
from pipeline.data.bank import bank_of_prepared, count
from pipeline.data.prepared.prepare import prepare, run_here
from pipeline.pages import data_figures as figures
from pipeline.pages.data_report import write_epoch_report, write_prepared_report
from tests.pipeline.small_data import SMALL
from tests.pipeline.test_bank import described
from tests.pipeline.test_epoch import CONFIG, READER, write


def facts(page: str) -> dict[str, str]:
    """Return the table of numbers."""
    return dict(re.findall(r"<tr><td>([^<]+)</td><td>([^<]+)</td></tr>", page))


def test_the_report_of_a_prepared_data_set(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    prepare(READER, storage, {}, run=run_here(2), items_per_part=4)
    seen: list[tuple[int, int]] = []
    assert write_prepared_report(storage, "Fakes <&>", lambda done, total: seen.append((done, total))) == "report.html"
    assert seen[-1] == (6, 6)
    page = (tmp_path / "report.html").read_text()
    assert "<title>Fakes &lt;&amp;&gt;</title>" in page
    found = facts(page)
    assert (found["images"], found["objects"], found["heights"], found["widths"]) == ("18", "54", "60", "80")
    assert found["objects per image"] == "mean 3.0, median 3, maximum 3"
    small = bank_of_prepared(storage).num_small
    assert found["objects of fewer than 1000 pixels"] == f"{small} ({small / 54:.1%})"
    assert found["refused items and objects"] == "4"
    assert re.search(r"<td>the file is cut short</td><td>1</td><td><div>item0001: the file is cut short</div>", page)
    assert page.count("<figure>") == 12 + 3
    assert "item0000: 3 objects, 60 x 80" in page
    assert "item0020: 3 objects, 60 x 80" in page
    assert "Licences" not in page
    assert "http" not in page.replace("data:image", "")


def test_categories_and_licences_are_shown_if_they_are_known(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path / "out"))
    prepare(SMALL["coco_panoptic"](tmp_path / "source"), storage, {}, run=run_here())
    write_prepared_report(storage, "Cats")
    page = (tmp_path / "out" / "report.html").read_text()
    assert facts(page)["categories"] == "1"
    assert "<figcaption>Categories</figcaption>" in page


@pytest.mark.networks
def test_the_report_of_an_epoch(tmp_path: Path) -> None:
    config = replace(CONFIG, min_object_area=700, keep_background_prob=1.0)
    storage = write(READER, tmp_path, config)
    write_epoch_report(storage, config, "Epoch 0")
    page = (tmp_path / "report.html").read_text()
    found = facts(page)
    assert found["samples"] == "21"
    assert int(found["samples without an object"]) + int(found["objects"]) == 21
    assert found["samples from images with refused objects"] == "4"
    assert found["refused items and objects"] == "4"
    headings = re.findall(r"<h2>(\w+)</h2>", page)
    assert headings[0] == "Refused"
    assert {"simple", "several"} <= set(headings)
    assert page.count('class="shots"') == len(headings) - 1


@pytest.mark.parametrize("most", [1, 40, 41, 5000])
def test_figures_can_be_drawn_for_few_and_for_many_objects(most: int) -> None:
    bank = count([described([1] * most, ["a" * 50] * most), described([], [])])
    for figure in (figures.areas_figure, figures.per_image_figure, figures.sizes_figure):
        assert figure(bank).startswith("data:image/png;base64,")
    assert figures.counts_figure(bank.top_categories()[0], "objects").startswith("data:image/png")
