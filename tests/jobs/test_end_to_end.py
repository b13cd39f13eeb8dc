"""Train, evaluate, compare and predict from their command lines on tiny scenes, and the files that each writes."""

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest

from jobs import compare, evaluate, predict, tracking, train
from models import checkpoint as checkpoints
from models.errors import InputError
from models.refinement import named
from pipeline.data.readers import open_reader

SMALL = ["num_images", "6", "height", "64", "width", "64"]
TRAIN = [
    "demo",
    *("--data.options", *SMALL),
    *("--data.crop-hw", "32", "32"),
    *("--data.window-size", "4"),
    *("--data.min-object-area", "20"),
    *("--training.steps", "3"),
    *("--training.batch-size", "4"),
    *("--training.checkpoint-every", "2"),
    *("--training.log-every", "1"),
    *("--scaling.cpus-per-worker", "0.5"),
    *("--scaling.data-actors", "1"),
    *("--scaling.cpus-per-data-actor", "0.3"),
    *("--refine", "cfr_1"),
    *("--register", "tiny-scenes"),
    *("--experiment", "tiny"),
    "--system-metrics",
]


@pytest.mark.ray
@pytest.mark.timeout(400)
def test_the_jobs_end_to_end(
    ray_cluster: None, tmp_path: Path, mlflow_uri: str, capsys: pytest.CaptureFixture[str]
) -> None:
    # train
    assert train.main([*TRAIN, "--out", "run"]) == 0
    said = capsys.readouterr().out
    run = tmp_path / "run"
    assert f"checkpoint  {run / 'checkpoint'}" in said
    assert "step 3/3  loss " in said
    assert {path.name for path in (run / "checkpoint").iterdir()} == {checkpoints.WEIGHTS, checkpoints.DESCRIPTION}
    description = checkpoints.describe(run / "checkpoint")
    assert description["network"] == "simpleclick_vit_xtiny"
    assert description["config"]["input_hw"] == [32, 32]
    run_id = json.loads((run / "config.json").read_text())["run_id"]
    info = dict(description["info"])
    assert named(info.pop("refinement")) == named("cfr_1")
    assert info == {"preset": "demo", "run_id": run_id, "step": 3, "refused": 0}
    assert json.loads((run / "refused.json").read_text()) == {}

    # MLflow has rank 0's metrics, the parameters and the model.
    client = tracking.client(mlflow_uri)
    tracked = client.get_run(run_id)
    assert tracked.info.status == "FINISHED"
    assert tracked.data.params["training.steps"] == "3"
    assert client.get_experiment(tracked.info.experiment_id).name == "tiny"
    assert [entry.dataset.name for entry in tracked.inputs.dataset_inputs] == ["scenes"]
    assert "system/cpu_utilization_percentage" in tracked.data.metrics
    losses = client.get_metric_history(run_id, "train/loss")
    assert [entry.step for entry in losses] == [1, 2, 3]
    history = [json.loads(line) for line in (run / "ray" / "history.jsonl").read_text().splitlines()]
    assert [entry.value for entry in losses] == [entry["loss"] for entry in history]
    assert client.get_model_version_by_alias("tiny-scenes", tracking.ALIAS).run_id == run_id

    # Another config in the same folder is refused.
    with pytest.raises(InputError, match="holds a run with another config"):
        train.main([*TRAIN, "--out", "run", "--training.steps", "4"])

    # evaluate two refinements and a baseline
    argv = ["--checkpoint", "run/checkpoint", "--reader", "scenes", "--split", "val", "--options", *SMALL]
    argv += ["--refine", "standard", "cfr_1", "--baseline", "grabcut", "--out", "evaluated", "--num-overlays", "1"]
    argv += ["--protocol.max-clicks", "2", "--protocol.max-objects", "5"]
    argv += ["--scaling.actors", "1", "--scaling.num-cpus", "0.5"]
    capsys.readouterr()
    assert evaluate.main(argv) == 0
    said = capsys.readouterr().out
    out = tmp_path / "evaluated"
    written = {"summary.json", "objects.parquet", "objects.csv", "clicks.csv", "report.html"}
    assert {path.name for path in out.iterdir()} == written
    summaries = json.loads((out / "summary.json").read_text())
    assert [summary["refinement"] for summary in summaries] == ["grabcut", "standard", "cfr_1"]
    for summary in summaries:
        assert {"dataset", "policy", "objects", "noc", "nof", "iou_at", "seconds", "clicks"} <= summary.keys()
        assert summary["objects"] == 5
        assert summary["noc"].keys() == {"0.85", "0.90", "0.95"}
        assert 1 <= summary["noc"]["0.90"] <= 2
    assert "NoC@90" in said
    assert "report  " in said
    rows = pq.read_table(out / "objects.parquet").to_pylist()
    assert len(rows) == 15
    assert all(1 <= len(row["ious"]) == len(row["clicks"]) <= 2 for row in rows)
    page = (out / "report.html").read_text()
    assert "http" not in page.replace("data:image", "")
    (evaluated, *_) = client.search_runs(
        [client.get_experiment_by_name(tracking.EXPERIMENT).experiment_id],
        filter_string="tags.mlflow.runName = 'evaluate'",
    )
    assert evaluated.data.metrics["cfr_1/noc_90"] == summaries[2]["noc"]["0.90"]
    logged = {entry.path for entry in client.list_artifacts(evaluated.info.run_id, "evaluation")}
    assert logged == {f"evaluation/{name}" for name in written}

    # compare
    assert compare.main(["evaluated", "evaluated", "--refine-a", "standard", "--refine-b", "cfr_1"]) == 0
    said = capsys.readouterr().out
    assert "IoU&1" in said
    assert "NoC@95" in said
    assert "5 objects, paired bootstrap" in said
    with pytest.raises(InputError, match="holds grabcut, standard, cfr_1: choose one with --refine-a"):
        compare.main(["evaluated", "evaluated"])
    with pytest.raises(InputError, match="holds no 'zoom_in'"):
        compare.main(["evaluated", "evaluated", "--refine-a", "zoom_in", "--refine-b", "cfr_1"])

    # predict
    reader = open_reader("scenes", None, "test", dict(zip(SMALL[::2], SMALL[1::2], strict=True)))
    cv2.imwrite("scene.png", reader.load(reader.items()[0]).image[..., ::-1])
    clicks = ["--clicks", "30,30,+", "2,2,-"]
    assert predict.main(["--checkpoint", "run/checkpoint", "--image", "scene.png", *clicks, "--out", "m/mask.png"]) == 0
    mask = cv2.imread("m/mask.png", cv2.IMREAD_UNCHANGED)
    assert mask is not None
    assert mask.shape == (64, 64)
    assert set(np.unique(mask)) <= {0, 255}
    assert f"{int((mask > 0).sum())} pixels -> m/mask.png" in capsys.readouterr().out
    assert (tmp_path / "m" / "mask_overlay.jpg").is_file()


@pytest.mark.check(13)
@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(240)
def test_a_data_set_of_broken_images_ends_with_one_message(
    ray_cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from jobs.cli import run_job

    for folder in ("images", "masks"):
        (tmp_path / "data" / folder).mkdir(parents=True)
        (tmp_path / "data" / folder / "a.png").write_bytes(b"not an image")
    argv = ["prog", *TRAIN[: TRAIN.index("--refine")], "--data.reader", "masks", "--data.root", "data"]
    argv.remove("--data.options")
    argv = [text for text in argv if text not in SMALL]
    monkeypatch.setattr("sys.argv", [*argv, "--scaling.max-failures", "0", "--out", "run"])
    with pytest.raises(SystemExit) as ended:
        run_job(train.main)
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert re.match(r"error: none of the 1 items of window \d+ can be used: expected at least one image", said)
    assert len(said.splitlines()) == 1
    assert "a: mask a.png: the file is no" in said
