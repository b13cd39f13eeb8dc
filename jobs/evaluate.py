"""`python -m jobs.evaluate [--checkpoint DIR] --reader NAME --root DIR`: measure how many clicks objects need."""

import dataclasses
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from jobs import tracking
from jobs.cli import as_dict, checkpoint_source, data_root, parse, progress_line, run_job, writing
from jobs.config import EvaluateConfig
from jobs.datasets import dataset_name, parse_dataset
from models import checkpoint as checkpoints
from models.box import DEFAULT
from models.errors import lookup
from models.files import write
from models.refinement import REFINEMENTS, Refinement, named
from models.storage import split as folder_and_name
from models.working import place_of, put, shown
from pipeline.clicks import POLICIES
from pipeline.data.hold_out import HoldOut
from pipeline.data.readers import open_reader
from pipeline.data.sample import Reader, printable
from pipeline.evaluation import results
from pipeline.evaluation.journal import Journal
from pipeline.evaluation.measures import MEASURES
from pipeline.evaluation.tasks import TASKS
from pipeline.pages.report import write_report
from pipeline.saved import Settings

RECOMMENDED = "recommended"
ADVICE = "results on them say little about other photos (jobs.train --data.leave-out excludes photos from training)"


def main(argv: Sequence[str]) -> int:
    """Parse the flags, evaluate, and print the table and the locations of the results."""
    config = check(parse(EvaluateConfig, argv, prog="evaluate"))
    from jobs.ray_env import connected

    place = config.out or f"runs/evaluate-{datetime.now():%Y%m%d-%H%M%S}"
    with writing("--out", place) as out, connected(config.ray):
        evaluate_and_track(config, out)
    return 0


def evaluate_and_track(config: EvaluateConfig, out: Path) -> None:
    """Evaluate inside a connection to Ray, log the results to MLflow and print the table."""
    uri = tracking.answering_uri(out)
    summaries = evaluate(config, out)
    run_id = tracking.start_run(uri, "evaluate", as_dict(config), experiment=config.experiment)
    for name, reader in open_datasets(config).items():
        tracking.log_dataset(uri, run_id, name, reader, "evaluation")
    for summary in summaries:
        names = [summary["refinement"]]
        names = [summary["dataset"], *names] if len({s["dataset"] for s in summaries}) > 1 else names
        names = [*names, summary["policy"]] if len({s["policy"] for s in summaries}) > 1 else names
        tracking.log_metrics(uri, run_id, 0, flat_metrics(summary), prefix="/".join(names) + "/")
    tracking.log_files(uri, run_id, out, "evaluation")
    tracking.end_run(uri, run_id)
    print(f"\n{results.table(summaries)}\n\nreport  {shown(out / 'report.html')}\nMLflow  run {run_id} at {uri}")


def check(config: EvaluateConfig) -> EvaluateConfig:
    """Check the config before anything is started, and make paths absolute; raises InputError."""
    from models.baselines import BASELINES

    if config.checkpoint is not None or config.baseline is None:
        checkpoint = checkpoint_source("--checkpoint", config.checkpoint or DEFAULT)
        description = checkpoints.describe(checkpoint)
        refine = config.refine or (label(description["info"].get("refinement")),)
        config = dataclasses.replace(config, checkpoint=checkpoint, refine=refine)
    if config.baseline is not None:
        lookup("baseline", config.baseline, BASELINES)
    for policy in (config.protocol.policy, *config.policies):
        lookup("policy", policy, POLICIES)
    lookup("task", config.protocol.task, TASKS)
    for name in config.refine:
        if name != RECOMMENDED:
            named(name)
    if config.root is not None:
        config = dataclasses.replace(config, root=data_root("--root", config.root))
    for reader in open_datasets(config).values():
        reader.items()
    return config


def open_datasets(config: EvaluateConfig) -> dict[str, Reader]:
    """Open the data sets of a config, or their held-out images, by the names that results use."""
    readers = _open_whole(config)
    if not config.hold_out:
        return readers
    return {name: HoldOut(reader=reader, fraction=config.hold_out, side="held_out") for name, reader in readers.items()}


def _open_whole(config: EvaluateConfig) -> dict[str, Reader]:
    """Open the data sets by names, which come from the last folders of their roots."""
    if not config.datasets:
        name = printable(folder_and_name(config.root)[1]) if config.root else config.reader
        return {name: open_reader(config.reader, config.root, config.split, config.options, config)}
    readers: dict[str, Reader] = {}
    for text in config.datasets:
        reader, split, root = parse_dataset("--datasets", text)
        name = printable(dataset_name(reader, split, root))
        if name in readers:
            name = f"{name} ({reader})"
        readers[name] = open_reader(reader, root, split, config.options, config)
    return readers


def evaluate(config: EvaluateConfig, out: Path, *, dataset: str = "", title: str = "") -> list[dict[str, Any]]:
    """Evaluate inside a connection to Ray; write the results to `out` and return the summaries.

    Resumes an interrupted evaluation in `out` if its settings are the same.
    """
    from jobs.ray_env import fit_evaluation
    from pipeline.evaluation.ray_evaluate import Part, evaluate_on_ray, piece_size

    readers = open_datasets(config)
    if dataset:
        readers = dict(zip([dataset], readers.values(), strict=True))
    policies = config.policies or (config.protocol.policy,)
    parts = [
        Part(dataset=name, reader=reader, config=dataclasses.replace(config.protocol, policy=policy))
        for name, reader in readers.items()
        for policy in policies
    ]
    journal = Journal(place_of(out / "journal.jsonl"), settings_of(config, piece_size(config.scaling)))
    if journal.done:
        print(f"resuming: {len(journal.done)} pieces of work are done", flush=True)
    with journal.kept():
        found = evaluate_on_ray(
            checkpoint=config.checkpoint,
            refinements=_refinements(config),
            baselines=[config.baseline] if config.baseline else [],
            parts=parts,
            scaling=fit_evaluation(config.scaling),
            journal=journal,
            progress=lambda part, done, total: progress_line(
                f"evaluating {part.dataset}{f', {part.config.policy}' if len(policies) > 1 else ''}", done, total
            ),
        )
    rows = [row for result in found for group in result.rows.values() for row in group]
    summaries = [
        results.summarize(group, part.config, result.seconds[name])
        | results.trained_on(group, {} if name == config.baseline else result.trained_on)
        for part, result in zip(parts, found, strict=True)
        for name, group in result.rows.items()
        if group
    ]
    results.write(out, rows, summaries)
    if refused := list(dict.fromkeys(text for result in found for text in result.refused)):
        write(out / "refused.txt", "\n".join(refused) + "\n")
        print(f"refused {len(refused)} items or objects; they are listed in {shown(out / 'refused.txt')}")
    notes = list(dict.fromkeys(filter(None, map(results.seen_before, summaries))))
    for note in notes:
        print(f"warning: {note}; {ADVICE}")
    last = summaries[-1]
    network = checkpoints.describe(config.checkpoint)["network"] if config.checkpoint else config.baseline
    write_report(
        out / "report.html",
        title=title or f"{network} on {', '.join(readers)}",
        subtitle=f"{last['objects']} objects, robot user {', '.join(policies)}, at most "
        f"{config.protocol.max_clicks} clicks" + (f", checkpoint {config.checkpoint}" if config.checkpoint else ""),
        rows=rows,
        summaries=summaries,
        readers=readers,
        shown=(last["dataset"], last["refinement"], last["policy"]),
        num_overlays=config.num_overlays,
        notes=[f"Note: {note}; {ADVICE}." for note in notes],
    )
    put(out)
    journal.close()
    return summaries


def settings_of(config: EvaluateConfig, size: int) -> Settings:
    """Return every setting that determines the results of an evaluation."""
    more = {
        "refinements": _refinements(config),
        "weights": checkpoints.describe(config.checkpoint)["sha256"] if config.checkpoint else None,
        "piece_size": size,
        "precision": config.scaling.precision,
        "backend": config.scaling.backend,
    }
    return Settings(
        config,
        without=("out", "num_overlays", "checkpoint", "refine", "scaling", "experiment", "ray"),
        more=more,
        added={"backend": "torch"},
    )


def label(recommended: Any) -> str:
    """Return the name of a recommended refinement, or "recommended" if it is not one of REFINEMENTS."""
    refinement = named(recommended)
    return next((name for name, known in REFINEMENTS.items() if known == refinement), RECOMMENDED)


def _refinements(config: EvaluateConfig) -> dict[str, Refinement]:
    if config.checkpoint is None:
        return {}
    recommended = checkpoints.describe(config.checkpoint)["info"].get("refinement")
    found: dict[str, Refinement] = {}
    for given in config.refine:
        name = _name_of(given)
        while name in found:
            name += "'"
        found[name] = named(recommended if given == RECOMMENDED else given)
    return found


def _name_of(given: str) -> str:
    """Return the name of a refinement in results: its own, or the name of its file without the ending."""
    return Path(given).stem if given.endswith(".json") else given


def flat_metrics(summary: dict[str, Any]) -> dict[str, float]:
    """Return the numbers of a summary by their names in MLflow."""
    numbers = {"objects": float(summary["objects"])}
    for measure in MEASURES.values():
        for at, value in measure.read(summary).items() if measure.printed else ():
            numbers |= {} if value is None else {measure.flat_key(at): float(value)}
    return numbers


if __name__ == "__main__":
    run_job(main)
