import json
from pathlib import Path

import numpy as np
import pytest

from jobs import compare as job
from models.errors import InputError
from pipeline.evaluation.compare import Difference, compare, paired_bootstrap, table
from pipeline.evaluation.config import EvaluationConfig
from pipeline.evaluation.measures import MEASURES
from pipeline.evaluation.object_row import ObjectRow
from pipeline.evaluation.results import summarize, write
from pipeline.pages.compare_report import write_comparison
from tests.evaluation.fakes import row, with_measured
from tests.evaluation.test_report import Page
from tests.pipeline.fakes import FakeReader

CONFIG = EvaluationConfig(max_clicks=4, target_iou=0.95, qualities=(0.5, 0.9), at_clicks=(1, 2))
READER = FakeReader(num_items=4, hw=(12, 10), bad=(3,))


def rows(quality: np.ndarray, name: str) -> list[ObjectRow]:
    return [row(f"i{n}/0", [0.5 * q, q], name) for n, q in enumerate(quality.tolist())]


def by_metric(differences: list[Difference]) -> dict[str, Difference]:
    return {difference.metric: difference for difference in differences}


def test_an_interval_covers_the_true_mean_at_its_level() -> None:
    covered = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        a = rng.normal(0.5, 1.0, 60)
        low, high = paired_bootstrap(a, a + rng.normal(0.2, 0.5, 60), rng, repeats=400)
        covered += low < 0.2 < high
    assert 51 <= covered <= 60


def test_an_interval_depends_on_pairs_and_not_on_the_spread_of_objects() -> None:
    rng = np.random.default_rng(0)
    a = rng.uniform(0, 1, 40)
    low, high = paired_bootstrap(a, a + 0.01 + rng.normal(0, 0.01, 40), rng, repeats=500)
    assert 0 < low < 0.01 < high < 0.02


def test_a_planted_gain_is_shown_and_noise_is_not() -> None:
    rng = np.random.default_rng(1)
    quality = rng.uniform(0.5, 0.8, 50)
    same = np.clip(quality + rng.normal(0, 0.05, 50), 0, 1)
    better = quality + 0.1 + rng.normal(0, 0.02, 50)
    quiet = by_metric(compare(rows(quality, "a"), rows(same, "b"), at_clicks=(1, 2), qualities=(), max_clicks=5))
    loud = by_metric(compare(rows(quality, "a"), rows(better, "b"), at_clicks=(1, 2), qualities=(0.75,), max_clicks=5))
    assert quiet["IoU&2"].low < 0 < quiet["IoU&2"].high
    assert quiet["IoU&2"].verdict == "no difference shown"
    assert loud["IoU&2"].verdict == "higher"
    assert loud["IoU&2"].low < 0.1 < loud["IoU&2"].high
    assert loud["NoC@75"].verdict == "lower"
    assert loud["NoC@75"].num_objects == 50
    assert loud["IoU&1"].mean_b - loud["IoU&1"].mean_a == pytest.approx(np.mean(0.5 * (better - quality)), abs=1e-6)


def test_a_comparison_does_not_depend_on_the_order_of_rows() -> None:
    quality = np.random.default_rng(2).uniform(0, 1, 20)
    a, b = rows(quality, "a"), rows(quality**2, "b")
    assert compare(a, b) == compare(a[::-1], b[5:] + b[:5])


def test_sessions_that_stopped_keep_their_last_iou() -> None:
    a = [row("i0/0", [0.9]), row("i1/0", [0.2, 0.4, 0.6])]
    b = [row("i0/0", [0.1, 0.95]), row("i1/0", [0.8])]
    found = by_metric(compare(a, b, at_clicks=(3,), qualities=(0.85,), max_clicks=10))
    assert found["IoU&3"].mean_a == pytest.approx((0.9 + 0.6) / 2)
    assert found["IoU&3"].mean_b == pytest.approx((0.95 + 0.8) / 2)
    assert (found["NoC@85"].mean_a, found["NoC@85"].mean_b) == ((1 + 10) / 2, (2 + 10) / 2)


def test_different_objects_are_refused_by_name() -> None:
    a = [row(f"i{n}/0", [0.5]) for n in range(3)]
    with pytest.raises(InputError, match=r"different objects \(2 are only in one of them, such as .*i2/0.*max-objects"):
        compare(a, [*a[:2], row("i9/0", [0.5])])
    with pytest.raises(InputError, match="at least 2 pairs"):
        compare(a[:1], a[:1])


def test_the_table_has_a_line_per_metric() -> None:
    quality = np.linspace(0.3, 0.9, 12)
    text = table(compare(rows(quality, "a"), rows(quality + 0.05, "b"), qualities=(0.5,)))
    lines = text.splitlines()
    assert [line.split()[0] for line in lines[1:-1]] == ["IoU&1", "IoU&5", "NoC@50"]
    assert "+0.050" in lines[2]
    assert lines[2].endswith("higher")
    assert lines[-1].startswith("12 objects")


def test_borders_are_compared_on_objects_measured_in_both() -> None:
    a = [with_measured(row(f"i{n}/0", [0.5, 0.6]), biou=[0.1, 0.25 * n], assd=[4.0, None]) for n in range(4)]
    b = [with_measured(each, biou=[None, 0.25 * n + 0.125], assd=[2.0 + n, 1.0]) for n, each in enumerate(a)]
    b[0] = with_measured(b[0], biou=[])
    found = by_metric(compare(a, b, at_clicks=(1, 2), qualities=()))
    assert set(found) == {"IoU&1", "IoU&2", "BIoU&2", "ASSD&1"}
    assert (found["BIoU&2"].num_objects, found["ASSD&1"].num_objects) == (3, 4)
    assert (found["BIoU&2"].mean_a, found["BIoU&2"].mean_b) == (0.5, 0.625)
    assert (found["BIoU&2"].low, found["BIoU&2"].high) == pytest.approx((0.125, 0.125))
    assert (found["ASSD&1"].mean_a, found["ASSD&1"].mean_b) == (4.0, 3.5)
    lines = table(list(found.values())).splitlines()
    assert lines[3].endswith("higher (3 objects)")
    assert lines[-1].startswith("4 objects")


@pytest.mark.parametrize(
    ("metric", "name", "at", "low", "high", "better"),
    [
        ("IoU&1", "iou", 1, 0.1, 0.2, "B"),
        ("BIoU&1", "biou", 1, -0.2, -0.1, "A"),
        ("NoC@90", "noc", 0.9, -2.0, -1.0, "B"),
        ("ASSD&5", "assd", 5, 1.0, 2.0, "A"),
        ("NoC@90", "noc", 0.9, -1.0, 1.0, ""),
    ],
)
def test_lower_is_better_for_clicks_and_distances(
    metric: str, name: str, at: float, low: float, high: float, better: str
) -> None:
    found = Difference(measure=MEASURES[name], at=at, mean_a=0.0, mean_b=0.0, low=low, high=high, num_objects=2)
    assert (found.metric, found.better) == (metric, better)


def changed() -> tuple[list[ObjectRow], list[ObjectRow]]:
    a = [row("item0000/a", [0.2, 0.92]), row("item0001/a", [0.3, 0.4, 0.5, 0.6]), row("item0002/a", [0.91])]
    b = [row("item0000/a", [0.2, 0.3, 0.4, 0.5]), row("item0001/a", [0.3, 0.95]), row("item0002/a", [0.91])]
    return [*a, row("item0003/a", [0.8, 0.91])], [*b, row("item0003/a", [0.92])]


@pytest.mark.networks
def test_the_page_shows_the_table_and_what_changed_most(tmp_path: Path) -> None:
    a, b = changed()
    differences = compare(a, b, at_clicks=(1,), qualities=(0.9,), max_clicks=4)
    options = {"names": ("<i>first</i>", "second"), "quality": 0.9, "max_clicks": 4}
    write_comparison(tmp_path / "new", differences, a, b, **options, reader=READER, num_overlays=2)
    text = (tmp_path / "new" / "compare.html").read_text()
    page = Page(text)
    assert all(source.startswith("data:image/") for source in page.sources)
    assert "<i>" not in text
    (lines,) = page.tables
    assert [line[0] for line in lines] == ["metric", "IoU&1", "NoC@90"]
    assert lines[1][1:4] == ["0.553", "0.583", "+0.030"]
    assert lines[2][1:4] == ["2.250", "2.000", "-0.250"]
    assert lines[2][5:] == ["none shown", "4"]
    sentence = "B takes fewer clicks than A on 2 objects, more on 1, and the same number on 1."
    assert any(line.startswith(sentence) for line in page.text)
    titles = [line for line in page.text if "mean IoU over clicks" in line]
    assert titles == [
        "item0001/a: mean IoU over clicks 0.45 → 0.79, IoU 0.90 at click never → 2",
        "item0003/a: mean IoU over clicks 0.88 → 0.92, IoU 0.90 at click 2 → 1",
        "item0000/a: mean IoU over clicks 0.74 → 0.35, IoU 0.90 at click 2 → never",
    ]
    assert [line for line in page.text if line.startswith(("A: IoU", "B: IoU"))] == [
        *("A: IoU 0.60 after 4", "B: IoU 0.95 after 2", "A: IoU 0.92 after 2", "B: IoU 0.50 after 4"),
    ]
    assert page.text.count("item0003: the file is cut short") == 2
    said = json.loads((tmp_path / "new" / "compare.json").read_text())
    assert (said["a"], said["quality"]) == ("<i>first</i>", 0.9)
    assert [d["metric"] for d in said["differences"]] == ["IoU&1", "NoC@90"]
    assert said["differences"][1]["verdict"] == "no difference shown"
    assert [(o["object"], o["clicks_a"], o["clicks_b"]) for o in said["objects"]] == [
        *(("item0001/a", None, 2), ("item0003/a", 2, 1), ("item0002/a", 1, 1), ("item0000/a", 2, None)),
    ]


def test_a_reader_of_other_images_is_refused_and_pictures_are_optional(tmp_path: Path) -> None:
    a, b = changed()
    differences = compare(a, b, at_clicks=(1,), qualities=(), max_clicks=4)
    with pytest.raises(InputError, match=r"no 'item0002' \(2 images of the evaluations are missing\)"):
        write_comparison(
            tmp_path, differences, a, b, names=("a", "b"), quality=None, max_clicks=4, reader=FakeReader(num_items=2)
        )
    assert not list(tmp_path.iterdir())
    write_comparison(tmp_path, differences, a, b, names=("a", "b"), quality=None, max_clicks=4)
    assert "data:image" not in (tmp_path / "compare.html").read_text()


@pytest.fixture
def several(tmp_path: Path) -> Path:
    """Write an evaluation of two data sets, two robot users and two refinements."""
    every, summaries = [], []
    for dataset in ("grabcut", "davis"):
        for policy in ("oracle", "dios_random"):
            for gain, refinement in enumerate(("standard", "zoom_in")):
                ious = [0.1 + 0.1 * gain, 0.6 + 0.1 * gain]
                part = [row(f"item{n:04d}/a", ious, refinement, dataset, policy) for n in range(3)]
                every += part
                summaries.append(summarize(part, CONFIG, 1.0))
    write(tmp_path / "several", every, summaries)
    return tmp_path / "several"


def test_the_job_selects_one_of_several_results(several: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = [str(several), str(several), "--refine-a", "standard", "--refine-b", "zoom_in"]
    argv += ["--dataset", "davis", "--policy", "oracle", "--out", str(several.parent / "out")]
    assert job.main(argv) == 0
    said = capsys.readouterr().out
    assert "zoom_in on davis, robot user oracle" in said
    assert "3 objects, paired bootstrap" in said
    assert (several.parent / "out" / "compare.html").is_file()
    assert json.loads((several.parent / "out" / "compare.json").read_text())["quality"] == 0.9


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "several holds grabcut, davis: choose one with --dataset"),
        (["--dataset", "coco"], "several holds no 'coco': choose one of grabcut, davis with --dataset"),
        (["--dataset", "davis"], "several holds oracle, dios_random: choose one with --policy"),
        (["--dataset", "davis", "--policy", "realistic"], "holds no 'realistic': choose one of oracle, dios_random"),
        (
            ["--dataset", "davis", "--policy", "oracle"],
            "holds standard, zoom_in: choose one with --refine-a / --refine-b",
        ),
        (["--reader", "scenes"], "--reader scenes adds pictures to compare.html: give --out DIR as well"),
        (["--out", "out", "--root", "data"], "give --reader NAME as well"),
        (["--out", "out", "--reader", "scene"], "unknown reader 'scene'; did you mean 'scenes'"),
        (["--at-clicks", "0"], "expected numbers of clicks >= 1"),
    ],
)
def test_the_job_reports_ambiguous_and_unknown_selections(several: Path, argv: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        job.main([str(several), str(several), *argv])
