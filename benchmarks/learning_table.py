"""Compare untrained and trained checkpoints of `benchmarks.learning` on the held-out images, paired, without Ray.

python -m benchmarks.learning_table R/emc R/ritm --root DIR/coco_panoptic200 --objects 48
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.learning import HELD_OUT
from models.predictor import Predictor
from models.refinement import build, named
from pipeline.data.hold_out import HoldOut
from pipeline.data.readers import open_reader
from pipeline.data.sample import Reader
from pipeline.evaluation.compare import Difference, compare
from pipeline.evaluation.config import EvaluationConfig
from pipeline.evaluation.evaluator import choose_objects, evaluate
from pipeline.evaluation.method import Method
from pipeline.evaluation.object_row import ObjectRow


def rows(checkpoint: Path, reader: Reader, config: EvaluationConfig) -> list[ObjectRow]:
    """Evaluate a checkpoint and return a row per object."""
    predictor = Predictor(str(checkpoint))
    method = Method(
        name="standard",
        step=build(named("standard"), predictor.network.traits),
        answer=predictor.answer,
        takes_exemplar=predictor.network.traits.exemplar,
    )
    work = choose_objects(reader.items(), config)
    return [row for row in evaluate(method, reader, work, config, "held out") if isinstance(row, ObjectRow)]


def measure(folder: Path, reader: Reader, objects: int) -> Sequence[Difference]:
    """Compare a case's two checkpoints; the case `exemplar` segments all objects of a category."""
    config = EvaluationConfig(
        task="additional_effort" if folder.name == "exemplar" else "single",
        max_clicks=5,
        target_iou=1.0,
        qualities=(0.85,),
        at_clicks=(1, 5),
        boundaries=False,
        max_objects=objects,
        min_area=1000,
    )
    played = [rows(folder / name, reader, config) for name in ("untrained", "trained")]
    return compare(*played, at_clicks=(1, 5), qualities=(0.85,), max_clicks=5)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--root", required=True)
    parser.add_argument("--objects", type=int, default=48)
    args = parser.parse_args()
    torch.set_num_threads(1)
    reader = HoldOut(reader=open_reader("coco_panoptic", args.root), fraction=HELD_OUT, side="held_out")
    print("| objective | objects | metric | untrained | trained | difference, 95 % |")
    print("|---|---|---|---|---|---|")
    for folder in args.folders:
        for d in measure(folder, reader, args.objects):
            interval = f"{d.mean_b - d.mean_a:+.3f} [{d.low:+.3f}, {d.high:+.3f}]"
            row = (folder.name, str(d.num_objects), d.metric, f"{d.mean_a:.3f}", f"{d.mean_b:.3f}", interval)
            print("| " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()
