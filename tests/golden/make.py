"""Makes golden state: `python -m tests.golden.make FOLDER`, some minutes, in a checkout of the version to record.

What it writes is read by later versions; it is made once for a version, and never again.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from models import checkpoint as checkpoints
from models import rle
from models.networks import NETWORKS
from models.networks.base import Network
from models.networks.simpleclick import SimpleClickConfig
from models.predictor import Predictor
from models.refinement import Cascade, Flip, Focus, ProgressiveMerge, Refinement, Split, SquareZoom, ZoomIn, to_dict
from pipeline.data import rle as data_rle
from pipeline.data.prepared.prepare import run_here
from pipeline.data.readers import open_reader
from tests.golden import commands, lists
from tests.golden.networks import SCENES, TINY, clicked, create_seeded, recalled
from tests.golden.sessions import make_sessions
from tests.models.authors import authors_state

CLICKS = [(30, 40, True), (55, 80, True), (8, 100, False)]
"""y, x, positive: what every refinement is asked on scene.png."""


def main(out: Path) -> None:
    """Make all of it."""
    out = out.absolute()
    assert not out.exists(), f"{out} is there: golden state is never made again"
    with tempfile.TemporaryDirectory() as work, contextlib.chdir(work):
        os.environ["PYTHONPATH"] = str(Path(__file__).parents[2])  # for processes that are started in there
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{work}/mlflow.db"
        for step in (make_checkpoints, sessions, make_run, make_evaluation, make_sweep, make_prepared, make_lists):
            print(step.__name__, flush=True)
            step(out, Path(work))


def make_checkpoints(out: Path, work: Path) -> None:
    """A checkpoint for each form in which a refinement is kept, and the masks that each gives."""
    folder = out / "checkpoints"
    network, heavy = clicked(), clicked("emc_vit_base", correction_width=4)
    everything = Refinement(
        (Flip(), ZoomIn(expansion=1.6, min_crop_size=32), Cascade(steps=3, adaptive=True, on_first_clicks=None)),
        max_network_clicks=2,
        mask_threshold=0.3,
    )
    close = Refinement((SquareZoom(), Focus(turns=2), ProgressiveMerge()), mask_threshold=0.4)
    checkpoints.save(network, folder / "none")
    checkpoints.save(network, folder / "name", refinement="zoom_in")
    checkpoints.save(network, folder / "sum", refinement="zoom_in+a_cfr_2")
    checkpoints.save(network, folder / "dict", refinement=to_dict(everything), preset="demo", step=8)
    checkpoints.save(network, folder / "recommended", refinement="standard")
    checkpoints.recommend(folder / "recommended", to_dict(close))
    halves = Refinement((Split(encode="every_click", base_steps=1),))
    checkpoints.save(heavy, folder / "split", refinement=to_dict(halves))
    checkpoints.save(recalled(), folder / "exemplar", refinement="standard")
    make_imported(network, folder / "imported", work)
    reader = open_reader("scenes", options={"num_images": "2", **SCENES})
    Image.fromarray(reader.load(reader.items()[1]).image).save(out / "scene.png", optimize=True)
    answers = {path.name: masks_of(path, out / "scene.png") for path in sorted(folder.iterdir())}
    (out / "checkpoints.json").write_text(json.dumps({"clicks": CLICKS, "answers": answers}, indent=1) + "\n")


def make_imported(network: Network, folder: Path, work: Path) -> None:
    """What jobs.import_checkpoint makes of a file of these weights, written as the authors write theirs."""
    from jobs import import_checkpoint

    name = "simpleclick_vit_base"
    kept, NETWORKS[name] = NETWORKS[name], SimpleClickConfig(**TINY)
    same = create_seeded(name)
    same.load_state_dict(network.state_dict())
    torch.save({"state_dict": authors_state(same)}, work / "authors.pth")
    import_checkpoint.main([str(work / "authors.pth"), "--network", name, "--out", str(folder)])
    NETWORKS[name] = kept


def masks_of(checkpoint: Path, image: Path) -> dict[str, Any]:
    """The refinement that a checkpoint recommends, and its mask after each click."""
    predictor = Predictor(checkpoint)
    session = predictor.open(np.array(Image.open(image).convert("RGB")))
    masks = []
    for y, x, positive in CLICKS:
        session.click(y, x, positive)
        masks.append(dict(rle.encode(session.mask)))
    return {"refinement": to_dict(predictor.refinement), "masks": masks}


def sessions(out: Path, work: Path) -> None:
    """Sessions of a server, in a file and in Redis."""
    make_sessions(out / "sessions", out / "checkpoints")


def make_run(out: Path, work: Path) -> None:
    """A run that was killed after its first checkpoint, and the weights that it ends with when it is not."""
    argv = ["jobs.train", *commands.train(out / "checkpoints" / "name")]
    _run(argv, work / "whole")
    snapshot = work / "stopped" / "ray" / "train" / "checkpoint_manager_snapshot.json"
    _killed(argv, work / "stopped", lambda: "checkpoint_dir_name" in snapshot.read_text())
    shutil.copytree(work / "stopped", out / "run")
    _relocate(out / "run" / "config.json", out, work)
    shutil.copytree(work / "whole" / "checkpoint", out / "run_final")


def make_evaluation(out: Path, work: Path) -> None:
    """An evaluation that was killed half way, and what it ends with when it is not."""
    argv = ["jobs.evaluate", *commands.evaluate(out / "checkpoints" / "name")]
    _run(argv, work / "whole_evaluation")
    journal = work / "evaluation" / "journal.jsonl"
    _killed(argv, work / "evaluation", lambda: journal.read_text().count("\n") >= 4)
    shutil.copytree(work / "evaluation", out / "evaluation")
    (out / "evaluation_final").mkdir()
    for name in ("summary.json", "objects.parquet"):
        shutil.copy(work / "whole_evaluation" / name, out / "evaluation_final" / name)


def make_sweep(out: Path, work: Path) -> None:
    """A sweep that was killed half way, and what it ends with when it is not."""
    argv = ["jobs.sweep", *commands.sweep(out / "checkpoints" / "name")]
    _run(argv, work / "whole_sweep")
    journal = work / "sweep" / "journal.jsonl"
    _killed(argv, work / "sweep", lambda: journal.read_text().count("\n") >= 16)
    shutil.copytree(work / "sweep", out / "sweep", ignore=shutil.ignore_patterns("tune"))
    (out / "sweep_final").mkdir()
    for name in ("sweep.json", "best.json"):
        shutil.copy(work / "whole_sweep" / name, out / "sweep_final" / name)


def make_prepared(out: Path, work: Path) -> None:
    """Prepared data sets, finished and not, and the pixels and masks that they hold."""
    from jobs import augment, prepare

    root = work / "source"
    coco_set(root)
    coco = ["--reader", "coco", "--root", str(root)]
    few = ["--actors", "1", "--num-cpus", "0.5"]
    prepare.main([*coco, *few, "--images-per-shard", "4", "--images-per-group", "2", "--out", str(out / "prepared")])
    prepare.main([*coco, *few, "--stage", "mois", "--out", str(out / "prepared_mois")])
    augment.main([*commands.augment(), *few, "--out", str(out / "epoch")])
    # One part after the other: on Ray all of so few are made before the first is seen.
    prepare.on_ray = lambda *_: run_here(2)
    with _interrupting(prepare, "show_parts", after=2), contextlib.suppress(KeyboardInterrupt):
        prepare.main([*commands.prepare(), "--out", str(out / "preparing")])
    prepare.main([*commands.prepare(), "--out", str(work / "prepared")])
    for name in ("prepared", "prepared_mois", "epoch", "preparing"):
        (out / name / "report.html").unlink(missing_ok=True)
        for file in ("manifest.json", "settings.json"):
            if (out / name / file).is_file():
                _relocate(out / name / file, out, work)
    held = {name: commands.contents(out / name) for name in ("prepared", "prepared_mois", "epoch")}
    (out / "prepared.json").write_text(json.dumps(held, indent=1) + "\n")


def coco_set(root: Path) -> None:
    """A small COCO data set: PNG and JPEG, one turned by its EXIF, crowds, categories, licences."""
    reader = open_reader("scenes", options={"num_images": "6", "height": "64", "width": "80", "num_objects": "3,4"})
    (root / "images").mkdir(parents=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, item in enumerate(reader.items(), start=1):
        sample = reader.load(item)
        name, exif = f"{number}.{'png' if number % 2 else 'jpg'}", Image.Exif()
        exif[0x0112] = {4: 6, 6: 3}.get(number, 1)
        picture = Image.fromarray(sample.image)
        picture.save(root / "images" / name, **({} if number % 2 else {"quality": 85, "exif": exif}))
        record = {"id": number, "file_name": name, "height": 64, "width": 80, "license": 1 + number % 2}
        images.append({**record, "flickr_url": f"http://example.org/{number}"})
        for place, ref in enumerate(sample.objects):
            mask = sample.object_mask(ref)
            annotations.append({
                "id": len(annotations) + 1, "image_id": number, "category_id": 1 + place % 2,
                "iscrowd": int(place == 2 and number == 3), "segmentation": data_rle.encode(mask),
            })  # fmt: skip
    plain = {
        "images": images, "annotations": annotations,
        "categories": [{"id": 1, "name": "cell"}, {"id": 2, "name": "fibre"}],
        "licenses": [{"id": 1, "name": "by", "url": "http://by"}, {"id": 2, "name": "by-nc", "url": "http://by-nc"}],
    }  # fmt: skip
    (root / "annotations.json").write_text(json.dumps(plain))


def make_lists(out: Path, work: Path) -> None:
    """What clients and scripts know by name."""
    from jobs import compare

    (out / "openapi.json").write_text(json.dumps(lists.openapi(), indent=1) + "\n")
    evaluation, prepared = work / "whole_evaluation", work / "prepared"
    compare.main([str(evaluation), str(evaluation), *commands.COMPARE, "--out", str(work / "compared")])
    found = {
        **lists.lists(),
        "columns": {
            "evaluation": lists.columns(evaluation),
            "prepared": lists.columns(prepared),
            "epoch": lists.columns(out / "epoch"),
        },
        "keys": lists.keys(
            evaluation / "summary.json",
            work / "compared" / "compare.json",
            work / "whole_sweep" / "best.json",
            work / "whole_sweep" / "sweep.json",
            work / "whole" / "config.json",
            work / "whole" / "checkpoint" / "checkpoint.json",
            prepared / "manifest.json",
        ),
    }
    (out / "lists.json").write_text(json.dumps(found, indent=1) + "\n")


def _relocate(file: Path, out: Path, work: Path) -> None:
    """Put commands.ROOT in the place of folders of this machine."""
    text = file.read_text()
    for folder in (out, work):
        text = text.replace(str(folder), commands.ROOT)
    file.write_text(text)


def _run(argv: list[str], folder: Path) -> None:
    subprocess.run([sys.executable, "-m", *argv, "--out", str(folder)], check=True)


def _killed(argv: list[str], folder: Path, far_enough: Callable[[], bool]) -> None:
    """Run a job and kill all of it with SIGKILL as soon as it is far enough."""
    command = [sys.executable, "-m", *argv, "--out", str(folder)]
    job = subprocess.Popen(command, start_new_session=True)
    while job.poll() is None:
        with contextlib.suppress(FileNotFoundError):
            if far_enough():
                break
        time.sleep(0.005)
    os.killpg(job.pid, signal.SIGKILL)
    assert job.wait() == -signal.SIGKILL, f"{argv[0]} had ended by itself"
    time.sleep(3)  # its workers see that it is gone


@contextlib.contextmanager
def _interrupting(module: Any, name: str, after: int) -> Iterator[None]:
    """Press Ctrl-C at the nth call of a function that shows progress."""
    kept, left = getattr(module, name), iter(range(after - 1))

    def show(*args: Any) -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt
        kept(*args)

    setattr(module, name, show)
    yield
    setattr(module, name, kept)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
