"""`python -m jobs.evaluate --checkpoint DIR --reader NAME --root DIR`: how many clicks does it take?"""

import dataclasses
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from jobs import tracking
from jobs.cli import absolute_path, as_dict, parse, progress_line, run_job
from jobs.config import EvaluateConfig
from models import checkpoint as checkpoints
from models.errors import lookup
from models.refinement import REFINEMENTS, Refinement, named
from pipeline.clicks import POLICIES
from pipeline.data.readers import open_reader
from pipeline.evaluation import results
from pipeline.evaluation.report import write_report

RECOMMENDED = "recommended"


def main(argv: Sequence[str]) -> int:
    """Parse, evaluate, print the table and where everything is."""
    config = check(parse(EvaluateConfig, argv, prog="evaluate"))
    from jobs.ray_env import connected

    out = absolute_path("--out", config.out or f"runs/evaluate-{datetime.now():%Y%m%d-%H%M%S}")
    uri = tracking.default_uri(out)
    with connected():
        summaries = evaluate(config, out)
    run_id = tracking.start_run(uri, "evaluate", as_dict(config))
    for summary in summaries:
        tracking.log_metrics(uri, run_id, 0, flat_metrics(summary), prefix=f"{summary['refinement']}/")
    tracking.log_files(uri, run_id, out, "evaluation")
    tracking.end_run(uri, run_id)
    print(f"\n{results.table(summaries)}\n\nreport  {out / 'report.html'}\nMLflow  run {run_id} at {uri}")
    return 0


def check(config: EvaluateConfig) -> EvaluateConfig:
    """Refuse what cannot work before anything is started, and make paths absolute."""
    from models.baselines import BASELINES

    if config.checkpoint is not None:
        description = checkpoints.describe(absolute_path("--checkpoint", config.checkpoint))
        refine = config.refine or (label(description["info"].get("refinement")),)
        config = dataclasses.replace(
            config, checkpoint=str(absolute_path("--checkpoint", config.checkpoint)), refine=refine
        )
    if config.baseline is not None:
        lookup("baseline", config.baseline, BASELINES)
    lookup("policy", config.protocol.policy, POLICIES)
    for name in config.refine:
        if name != RECOMMENDED:
            named(name)
    if config.root is not None:
        config = dataclasses.replace(config, root=str(absolute_path("--root", config.root)))
    open_reader(config.reader, config.root, config.split, config.options).items()
    return config


def evaluate(config: EvaluateConfig, out: Path, *, dataset: str = "", title: str = "") -> list[dict[str, Any]]:
    """Evaluate inside a connection to Ray; writes OUT and returns the summaries."""
    from pipeline.evaluation.ray_evaluate import evaluate_on_ray

    reader = open_reader(config.reader, config.root, config.split, config.options)
    dataset = dataset or (Path(config.root).name if config.root else config.reader)
    rows, seconds, refused = evaluate_on_ray(
        checkpoint=config.checkpoint,
        refinements=_refinements(config),
        baselines=[config.baseline] if config.baseline else [],
        reader=reader,
        dataset=dataset,
        config=config.protocol,
        scaling=config.scaling,
        progress=lambda name, done, total: progress_line(f"evaluating {dataset}, {name}", done, total),
    )
    summaries = [results.summarize(group, config.protocol, seconds[name]) for name, group in rows.items()]
    every_row = [row for group in rows.values() for row in group]
    results.write(out, every_row, summaries)
    if refused:
        (out / "refused.txt").write_text("\n".join(refused) + "\n")
        print(f"refused {len(refused)} items or objects, by name in {out / 'refused.txt'}")
    shown = list(rows)[-1]
    network = checkpoints.describe(config.checkpoint)["network"] if config.checkpoint else config.baseline
    write_report(
        out / "report.html",
        title=title or f"{network} on {dataset}",
        subtitle=f"{len(rows[shown])} objects, robot user '{config.protocol.policy}', at most "
        f"{config.protocol.max_clicks} clicks" + (f", checkpoint {config.checkpoint}" if config.checkpoint else ""),
        rows=every_row,
        summaries=summaries,
        readers={dataset: reader},
        shown=(dataset, shown, config.protocol.policy),
        num_overlays=config.num_overlays,
    )
    return summaries


def label(recommended: Any) -> str:
    """Name of the refinement that a checkpoint recommends: its own if it has one, else "recommended"."""
    refinement = named(recommended)
    return next((name for name, known in REFINEMENTS.items() if known == refinement), RECOMMENDED)


def _refinements(config: EvaluateConfig) -> dict[str, Refinement]:
    if config.checkpoint is None:
        return {}
    recommended = checkpoints.describe(config.checkpoint)["info"].get("refinement")
    return {name: named(recommended if name == RECOMMENDED else name) for name in config.refine}


def flat_metrics(summary: dict[str, Any]) -> dict[str, float]:
    """Numbers of a summary by the names that MLflow shows."""
    numbers = {f"iou_at_{k}": v for k, v in summary["iou_at"].items()}
    numbers |= {f"noc_{round(float(q) * 100)}": v for q, v in summary["noc"].items()}
    numbers |= {f"nof_{round(float(q) * 100)}": float(v) for q, v in summary["nof"].items()}
    return numbers | {"objects": float(summary["objects"]), "seconds_per_click": summary["seconds_per_click"]}


if __name__ == "__main__":
    run_job(main)
