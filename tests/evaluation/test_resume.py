"""An interrupted evaluation resumes, and refinements share the answers to equal requests."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from models.errors import InputError
from models.interaction import Clicks
from models.predictor import Predictor
from models.refinement import build, named
from models.steps import Segment
from pipeline.evaluation.config import EvaluationConfig
from pipeline.evaluation.evaluator import choose_objects, evaluate
from pipeline.evaluation.journal import Journal, PieceResult
from pipeline.evaluation.method import Method
from pipeline.evaluation.shared_answers import SharedAnswers, content_key
from tests.evaluation.fakes import row
from tests.pipeline.fakes import FakeReader
from tests.training.tiny import tiny_network

RESULT = PieceResult(
    rows={"standard": [row("a/1", [0.5, 0.75])], "cfr_1": []}, seconds={"standard": 1.5, "cfr_1": 0.0}, refused=["x: y"]
)
SETTINGS = {"seed": 0, "names": ("a", "b")}


def test_recorded_results_are_read_back(tmp_path: Path) -> None:
    path = tmp_path / "new" / "journal.jsonl"
    journal = Journal(path, SETTINGS)
    journal.add(0, 3, RESULT)
    journal.add(1, 0, RESULT)
    assert Journal(path, SETTINGS).done == {(0, 3): RESULT, (1, 0): RESULT}
    journal.close()
    assert not path.exists()
    assert Journal(path, SETTINGS).done == {}


@pytest.mark.parametrize("cut", [1, 40])
def test_an_incomplete_line_is_dropped(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "journal.jsonl"
    journal = Journal(path, SETTINGS)
    journal.add(0, 0, RESULT)
    journal.add(0, 1, RESULT)
    path.write_text(path.read_text()[:-cut])
    again = Journal(path, SETTINGS)
    assert list(again.done) == [(0, 0)]
    again.add(0, 1, RESULT)
    assert list(Journal(path, SETTINGS).done) == [(0, 0), (0, 1)]


def test_an_incomplete_first_line_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_text('{"settings": {"se')
    assert Journal(path, SETTINGS).done == {}
    assert json.loads(path.read_text())["settings"]["seed"] == 0


def test_other_settings_are_refused_and_the_journal_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    Journal(path, SETTINGS).add(0, 0, RESULT)
    before = path.read_text()
    with pytest.raises(InputError, match="other settings"):
        Journal(path, {**SETTINGS, "seed": 1})
    assert path.read_text() == before


def test_results_of_missing_images_are_refused_by_name(tmp_path: Path) -> None:
    """The ids of a data set may change while its settings stay the same."""
    path = tmp_path / "journal.jsonl"
    Journal(path, SETTINGS).add(0, 3, RESULT)
    image = RESULT.rows["standard"][0].item
    before = path.read_text()
    Journal(path, SETTINGS).check(lambda part, piece: {"other", image} if (part, piece) == (0, 3) else ())
    for ids in ((), ("shot_0",), (image[:-1],)):
        with pytest.raises(InputError, match=rf"holds results of image {image!r}.*ids have changed.*another --out"):
            Journal(path, SETTINGS).check(lambda part, piece, ids=ids: ids)
    assert path.read_text() == before


def test_an_evaluation_refuses_a_journal_of_other_images(tmp_path: Path) -> None:
    from pipeline.evaluation.config import EvaluationScaling
    from pipeline.evaluation.ray_evaluate import Part, evaluate_on_ray

    journal = Journal(tmp_path / "journal.jsonl", SETTINGS)
    journal.add(0, 0, RESULT)
    part = Part(dataset="d", reader=FakeReader(num_items=2), config=EvaluationConfig(max_clicks=2))
    with pytest.raises(InputError, match="ids have changed"):
        evaluate_on_ray(checkpoint=None, refinements={}, parts=[part], scaling=EvaluationScaling(), journal=journal)


class Counting:
    """Answers requests and records them."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def __call__(self, requests: list[Any]) -> list[torch.Tensor]:
        self.asked += requests
        return [torch.full((1, 4, 4), float(len(self.asked))) for _ in requests]


def request(value: float, num_clicks: int = 1, prev: float = 0.0) -> Segment:
    clicks = Clicks.of([(1, k, True) for k in range(num_clicks)])
    return Segment(torch.full((3, 4, 4), value), torch.full((1, 4, 4), prev), clicks)


def test_equal_first_clicks_are_computed_once() -> None:
    counting = Counting()
    shared = SharedAnswers(counting)
    first = shared([request(0.1), request(0.2)])
    assert all(torch.equal(a, b) for a, b in zip(shared([request(0.2), request(0.1)]), first[::-1], strict=True))
    assert len(counting.asked) == 2
    assert shared.saved_seconds > 0
    shared([request(0.1, prev=0.5)])
    shared([request(0.1, num_clicks=2)])
    shared([request(0.1, num_clicks=2)])
    assert len(counting.asked) == 5, "requests with another mask and later clicks are not cached"
    assert content_key(request(0.1)) == content_key(request(0.1)) != content_key(request(0.1, prev=0.1))


def test_the_cache_of_answers_is_bounded() -> None:
    counting = Counting()
    shared = SharedAnswers(counting, max_bytes=3 * 64)
    for value in (0.1, 0.2, 0.3, 0.4):
        shared([request(value)])
    shared([request(0.4)])
    assert len(counting.asked) == 4
    shared([request(0.1)])
    assert len(counting.asked) == 5, "the oldest answer was dropped"


@pytest.mark.networks
def test_shared_answers_change_no_row() -> None:
    predictor, reader = Predictor(tiny_network()), FakeReader(num_items=3, hw=(40, 50))
    config = EvaluationConfig(max_clicks=2)
    work = choose_objects(reader.items(), config)
    shared = SharedAnswers(predictor.answer)
    for name in ("standard", "cfr_1", "flip"):
        step = build(named(name), predictor.network.traits)
        rows = [
            sorted(
                (r for r in evaluate(Method(name=name, step=step, answer=answer), reader, work, config, "fake")
                 if not isinstance(r, str)), key=lambda r: (r.item, r.object))
            for answer in (predictor.answer, shared)
        ]  # fmt: skip
        assert rows[0] == rows[1]
    assert shared.saved_seconds > 0


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(300)
def test_a_killed_evaluation_resumes_to_the_same_result(tmp_path: Path) -> None:
    """Kill the whole job (kill -9) in the middle, then run the same command again."""
    from models import checkpoint as checkpoints

    network = tiny_network()
    network.get_parameter("head.conv_seg.weight").data.mul_(20)
    checkpoint = checkpoints.save(network, tmp_path / "checkpoint")
    flags = ["--checkpoint", str(checkpoint), "--reader", "scenes", "--options", "num_images", "12", "height", "64",
             "width", "64", "--refine", "standard", "cfr_1", "--protocol.max-clicks", "3"]  # fmt: skip

    def job(out: Path) -> subprocess.Popen[bytes]:
        code = textwrap.dedent("""
            import sys
            from jobs.evaluate import main
            sys.exit(main(sys.argv[1:]))
        """)
        return subprocess.Popen([sys.executable, "-c", code, *flags, "--out", str(out)], start_new_session=True)

    assert job(tmp_path / "whole").wait() == 0
    broken, journal = job(tmp_path / "broken"), tmp_path / "broken" / "journal.jsonl"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and (not journal.exists() or journal.read_text().count("\n") < 3):
        time.sleep(0.05)
    os.killpg(broken.pid, signal.SIGKILL)
    broken.wait()
    done = journal.read_text().count("\n") - 1
    assert done >= 2
    assert not (tmp_path / "broken" / "summary.json").exists()
    assert job(tmp_path / "broken").wait() == 0
    results = [json.loads((tmp_path / name / "summary.json").read_text()) for name in ("whole", "broken")]
    timed = ("seconds", "seconds_per_click")
    assert [{k: v for k, v in s.items() if k not in timed} for s in results[0]] == [
        {k: v for k, v in s.items() if k not in timed} for s in results[1]
    ]
    import pyarrow.parquet as pq

    tables = [pq.read_table(tmp_path / name / "objects.parquet") for name in ("whole", "broken")]
    assert tables[0].equals(tables[1])
    assert not journal.exists()
