"""Objects per second of batched evaluation against one object at a time, with a comparison of the click lists.

python -m benchmarks.gpu.evaluation --checkpoint DIR --root DIR/DAVIS_dev --json OUT/evaluation.json
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.timing import publish, settle
from benchmarks.networks import seeded
from models import steps
from models.inference import prepare
from models.networks import create
from models.predictor import Predictor
from models.refinement import build, named
from pipeline.data.readers import open_reader
from pipeline.data.sample import Reader
from pipeline.evaluation.config import EvaluationConfig
from pipeline.evaluation.evaluator import choose_objects, evaluate
from pipeline.evaluation.method import Method
from pipeline.evaluation.object_row import ObjectRow
from pipeline.evaluation.tasks import TASKS, Game


def one_at_a_time(method: Method, reader: Reader, work: Any, config: EvaluationConfig) -> dict[str, Any]:
    """Return the click lists by object, with robot user and network taking turns."""
    found: dict[str, Any] = {}
    with torch.inference_mode():
        for item, object_ids in work:
            for game in TASKS["single"](reader.load(item), object_ids, method, config):
                assert isinstance(game, Game), game
                found[f"{item.id} {game.object}"] = steps.run(game.steps, method.answer).clicks.rows()
    return found


def batched(method: Method, reader: Reader, work: Any, config: EvaluationConfig) -> dict[str, Any]:
    """Return the click lists by object, with many objects sharing forwards."""
    rows = evaluate(method, reader, work, config, "bench")
    return {f"{row.item} {row.object}": row.clicks for row in rows if isinstance(row, ObjectRow)}


def main() -> None:
    """Evaluate and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument(
        "--network", default="simpleclick_vit_base", help="network with seeded weights, if no --checkpoint is given"
    )
    parser.add_argument("--checkpoint")
    parser.add_argument("--reader", default="davis")
    parser.add_argument("--root")
    parser.add_argument("--refine", default="standard")
    parser.add_argument("--objects", type=int, default=80)
    parser.add_argument("--clicks", type=int, default=10)
    parser.add_argument("--batches", nargs="+", type=int, default=[8, 32, 64])
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    device = torch.device(args.device)
    network = prepare(seeded(create(args.network))) if args.checkpoint is None else args.checkpoint
    predictor = Predictor(network, args.refine, device)
    reader = open_reader(args.reader, args.root)
    config = EvaluationConfig(
        max_clicks=args.clicks, target_iou=1.01, max_objects=args.objects, boundaries=False, min_area=1
    )
    work = choose_objects(reader.items(), config)
    method = Method(
        name=args.refine,
        step=build(named(args.refine), predictor.network.traits),
        answer=predictor.answer,
        device=device,
    )
    one_at_a_time(method, reader, work[:1], config)  # warms up
    rows: list[dict[str, Any]] = []
    expected: dict[str, Any] = {}
    for batch in (0, *args.batches):
        began = time.monotonic()
        if batch:
            found = batched(replace(method, max_batch=batch), reader, work, config)
        else:
            found = expected = one_at_a_time(method, reader, work, config)
        settle(device)
        rate = len(found) / (time.monotonic() - began)
        rows.append(
            {
                "driver": f"batch {batch}" if batch else "one at a time",
                "objects": len(found),
                "objects/s": rate,
                "gain": rate / rows[0]["objects/s"] if rows else 1.0,
                "same clicks": sum(found[name] == expected[name] for name in expected),
            }
        )
        print(rows[-1], flush=True)
    publish(rows, device, args.json)


if __name__ == "__main__":
    main()
