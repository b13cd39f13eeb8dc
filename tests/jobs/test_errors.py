"""User errors: one message that names what was given and what was expected, before anything starts."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from jobs import compare, evaluate, export, predict, train
from models import checkpoint as checkpoints
from models.errors import InputError, find_input_error
from tests.pipeline.small_data import picture, save
from tests.training.tiny import tiny_network

Main = Callable[[list[str]], int]
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the files of the cases: a checkpoint, JSON that is not COCO, an empty folder, images."""
    checkpoints.save(tiny_network(), tmp_path / "checkpoint")
    (tmp_path / "empty").mkdir()
    (tmp_path / "not_coco").mkdir()
    (tmp_path / "not_coco" / "annotations.json").write_text(json.dumps({"shapes": []}))
    (tmp_path / "not_json").mkdir()
    (tmp_path / "not_json" / "annotations.json").write_text("{")
    image = save(picture(), tmp_path / "image.png")
    (tmp_path / "broken.png").write_bytes(image.read_bytes()[:80])
    return tmp_path


SCENES = ["--data.reader", "scenes", "--data.split", "train"]
RITM = ["ritm_hrnet18s_cocolvis", *SCENES, "--scaling.workers", "1", "--scaling.no-gpu", "--network.fresh"]
TRAIN = [
    ([], "got nothing: expected one of the presets above as the first argument"),
    (["--out", "x"], "got '--out': expected one of the presets above as the first argument"),
    (["--resume"], "expected the folder of a run"),
    (["--resume", "absent"], "--resume absent: expected the folder of a run"),
    (["demo", "--training.objective", "emc"], "expected a network with a correction network"),
    (["demo", "--training.objective", "focus", "--data.copy-paste.recipe", "none"], "give --data.focus.enabled"),
    (["demo", "--training.objective", "exemplar"], "give --data.exemplar.enabled"),
    (["demo", "--scaling.workers", "3"], "batch_size 8 does not divide among 3 workers"),
    (["dem"], "unknown preset 'dem'; did you mean 'demo'"),
    (["demo", "--network.name", "simpleclick_vit_xtinny"], "unknown network.*did you mean 'simpleclick_vit_xtiny'"),
    (["demo", "--data.reader", "coc"], "unknown reader 'coc'; did you mean 'coco'"),
    (["demo", "--data.reader", "coco"], "reader 'coco' needs a root folder and got none; expected a COCO JSON"),
    (["cpu_xtiny", "--data.root", "absent"], "absent' does not exist; reader 'coco' expects a folder with"),
    (["cpu_xtiny", "--data.root", "empty"], "empty' holds.*expects a COCO JSON"),
    (["cpu_xtiny", "--data.root", "not_coco"], "is not a COCO file: expected an object with 'images'"),
    (["cpu_xtiny", "--data.root", "not_json"], "cannot be read as JSON"),
    (["cpu_xtiny", "--data.reader", "masks", "--data.root", "empty"], "expected the folders images/ [+] masks/"),
    (["demo", "--data.options", "num_images", "many"], "num_images='many'.*expected a whole number"),
    (["demo", "--data.options", "num_image", "3"], "unknown option of reader.*did you mean 'num_images'"),
    (["demo", "--data.split", "vall"], "no split 'vall'"),
    (
        ["demo", "--data.options", "num_images", "3", "--validation.hold-out", "0.01"],
        "none to validate on.*--validation.hold",
    ),
    (["demo", "--refine", "cfr"], "unknown refinement 'cfr'"),
    (["demo", "--training.objective", "ic"], "unknown objective 'ic'; did you mean 'icl'"),
    (["demo", "--training.steps", "0"], "training.steps is 0: expected a whole number >= 1"),
    (["demo", "--training.optimizer.lr", "-1"], "optimizer.lr is -1.0: expected a number > 0"),
    (["demo", "--data.crop-hw", "100", "100"], r"input_hw \(100, 100\): expected multiples of 32"),
    (["demo", "--data.copy-paste.recipe", "exclusiv"], "recipe"),
    (["demo", "--scaling.workers", "3"], "batch_size 8 does not divide among 3 workers"),
    (["demo", "--network.start-from", "absent"], "no checkpoint at .*absent: expected a folder with checkpoint.json"),
    (
        ["demo", "--network.name", "simpleclick_vit_base", "--network.start-from", "checkpoint"],
        "is a checkpoint of simpleclick_vit_xtiny: give one of simpleclick_vit_base, or --network.name",
    ),
    (["cfr_icl_vit_base", "--data.reader", "scenes"], "this preset fine-tunes a checkpoint: give --network"),
    ([*RITM, "--training.batch-size", "1"], "--training.batch-size 1 .*leaves a forward one sample.*needs at least 2"),
    (
        [*RITM, "--training.batch-size", "6", "--training.accumulate", "6"],
        "accumulate 6 leaves a forward one",
    ),
    ([*RITM, "--training.batch-size", "4", "--scaling.workers", "4"], "with 4 workers .*leaves a forward one sample"),
    (
        [*RITM, "--training.batch-size", "2", "--scaling.max-workers", "2"],
        "with 2 workers .*leaves a forward one sample",
    ),
    (
        ["focuscut_resnet50_sbd", *SCENES, "--scaling.no-gpu", "--network.fresh", "--training.batch-size", "1"],
        "leaves a forward one sample: focuscut_resnet50 pools",
    ),
    (
        ["demo", "--data.leave-out", "coco_mval"],
        "--data.leave-out coco_mval: expected READER=ROOT or",
    ),
    (["demo", "--data.leave-out", "coco_mvall=x"], "unknown reader 'coco_mvall'; did you mean 'coco_mval'"),
    (["demo", "--data.leave-out", "coco_mval=absent"], "absent' does not exist"),
    (["demo", "--data.min-object-area", "-1"], "min_object_area is -1: expected a whole number >= 0"),
    (["demo", "--network.fresh", "--out", "s3://key:secret@bucket/run"], "s3://bucket/run was given with a key"),
]

EVALUATE = [
    (["--checkpoint", "maskwright:lite_x"], "unknown model 'maskwright:lite_x'.* known: "),
    (["--checkpoint", "absent"], "no checkpoint at .*absent: expected a folder with checkpoint.json"),
    (["--checkpoint", "empty"], "no checkpoint at .*empty"),
    (["--baseline", "grabcat"], "unknown baseline 'grabcat'; did you mean 'grabcut'"),
    (["--baseline", "grabcut", "--reader", "scene"], "unknown reader 'scene'; did you mean 'scenes'"),
    (["--baseline", "grabcut", "--reader", "davis", "--root", "absent"], "absent' does not exist; reader 'masks'"),
    (["--baseline", "grabcut", "--reader", "davis", "--root", "empty"], "expected the folders img/ [+] gt/"),
    (["--baseline", "grabcut", "--reader", "coco", "--root", "not_coco"], "is not a COCO file"),
    (["--checkpoint", "checkpoint", "--refine", "cfr1"], "unknown refinement 'cfr1'; did you mean 'cfr_1'"),
    (["--checkpoint", "checkpoint", "--refine", "absent.json"], "no refinement file at absent.json"),
    (["--baseline", "grabcut", "--protocol.policy", "orakel"], "unknown policy 'orakel'; did you mean 'oracle'"),
    (["--baseline", "grabcut", "--protocol.max-clicks", "0"], "max_clicks is 0"),
    (["--baseline", "grabcut", "--protocol.target-iou", "0.5"], "none above target_iou"),
]

PREDICT = [
    (["--checkpoint", "absent", "--image", "image.png", "--clicks", "3,3,+"], "no checkpoint at absent"),
    (["--checkpoint", "checkpoint", "--image", "absent.png", "--clicks", "3,3,+"], "--image absent.png: no such file"),
    (
        ["--checkpoint", "checkpoint", "--image", "broken.png", "--clicks", "3,3,+"],
        "broken.png cannot be read",
    ),
    (["--checkpoint", "checkpoint", "--image", "image.png", "--clicks", "3;3"], "--clicks '3;3': expected Y,X,[+]"),
    (
        ["--checkpoint", "checkpoint", "--image", "image.png", "--clicks", "99,3,+"],
        "outside the image: expected 0 <= y",
    ),
    (
        ["--checkpoint", "checkpoint", "--image", "image.png", "--clicks", "3,3,+", "--out", "mask"],
        "--out mask: expected a file name that ends in .png",
    ),
]

COMPARE = [(["empty", "checkpoint"], "empty holds no evaluation: expected summary.json and objects.parquet")]

EXPORT = [
    (["--checkpoint", "absent", "--out", "onnx"], "no checkpoint at absent"),
    (["--checkpoint", "checkpoint", "--out", "not_coco"], "--out not_coco exists and is not an empty folder"),
    (["--checkpoint", "checkpoint", "--out", "image.png"], "--out image.png exists and is not an empty folder"),
    (["--checkpoint", "checkpoint", "--out", "onnx", "--input-hw", "30", "30"], r"input_hw \(30, 30\): expected multi"),
]

CASES = [
    pytest.param(main, argv, message, id=f"{name}-{' '.join(argv)}")
    for name, main, cases in (
        ("train", train.main, TRAIN),
        ("evaluate", evaluate.main, EVALUATE),
        ("predict", predict.main, PREDICT),
        ("compare", compare.main, COMPARE),
        ("export", export.main, EXPORT),
    )
    for argv, message in cases
]


@pytest.mark.networks
@pytest.mark.parametrize(("main", "argv", "message"), CASES)
def test_user_errors_name_what_was_given_and_expected(main: Main, argv: list[str], message: str, folder: Path) -> None:
    before = sorted(folder.iterdir())
    with pytest.raises(InputError, match=message):
        main(argv)
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize(
    ("main", "argv", "message"),
    [
        (train.main, ["demo", "--training.steps", "many"], "many"),
        (train.main, ["demo", "--trainin.steps", "3"], "--trainin.steps"),
        (evaluate.main, ["--baseline", "grabcut", "--protocol.max-clicks", "x"], "max-clicks"),
        (predict.main, ["--checkpoint", "checkpoint"], "image"),
        (compare.main, ["empty"], "b"),
    ],
)
def test_flags_that_cannot_be_read_end_with_code_2(
    main: Main, argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(argv)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_a_folder_that_holds_another_run_is_refused(folder: Path) -> None:
    out = folder / "run"
    out.mkdir()
    (out / "config.json").write_text(json.dumps({"run_id": "1", "config": {"training": {"steps": 5}}}))
    with pytest.raises(InputError, match=r"run holds a run with another config .*name another folder"):
        train._resume_or_start(out, "sqlite:///unused.db", "demo", {"training": {"steps": 6}, "out": "run"})
    same = {"training": {"steps": 5}, "out": "elsewhere", "scaling": {"workers": 2}, "num_cpus": 1}
    assert train._resume_or_start(out, "sqlite:///unused.db", "demo", same) == "1"


def test_a_relative_out_is_refused_inside_a_submitted_job(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    for main, argv in (
        (train.main, ["demo", "--out", "runs/x"]),
        (evaluate.main, ["--baseline", "grabcut", "--reader", "scenes", "--out", "runs/x"]),
    ):
        with pytest.raises(InputError, match="--out runs/x: expected an absolute path under `ray job submit`"):
            main(argv)


def test_help_lists_the_presets_and_succeeds(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        train.main(["--help"])
    assert ended.value.code == 0
    assert "cfr_icl_vit_huge" in capsys.readouterr().out


@pytest.mark.networks
@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["jobs.train", "demo", "--network.name", "simpleclick_vit_xtinny"], "did you mean 'simpleclick_vit_xtiny'"),
        (["jobs.evaluate", "--checkpoint", "absent", "--reader", "scenes"], "no checkpoint at"),
    ],
)
def test_a_user_error_on_the_command_line_is_one_line_and_code_2(
    command: list[str], message: str, tmp_path: Path
) -> None:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert "Traceback" not in done.stderr + done.stdout


def test_the_input_error_behind_other_errors_is_found() -> None:
    outer, between = RuntimeError("training failed"), RuntimeError("a worker failed")
    outer.__cause__, between.__cause__ = between, InputError("all 3 items of the window are broken")
    assert str(find_input_error(outer)) == "all 3 items of the window are broken"
    circle = ZeroDivisionError("ours")
    circle.__cause__ = circle
    assert find_input_error(circle) is None
