"""`python -m jobs.compare A B`: is evaluation B better than A on the same objects? Paired bootstrap intervals."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from jobs.cli import parse, run_job
from models.errors import InputError
from pipeline.evaluation import compare, results
from pipeline.evaluation.results import ObjectRow


@dataclass(frozen=True)
class CompareConfig:
    """Compare two evaluations of the same objects; differences are B - A."""

    a: Annotated[Path, tyro.conf.Positional]
    """Folder of an evaluation (the --out of jobs.evaluate)."""
    b: Annotated[Path, tyro.conf.Positional]
    """Folder of the other; may be the same, with other refinements."""
    refine_a: str = ""
    """Which refinement or baseline of A, if it holds several."""
    refine_b: str = ""
    at_clicks: tuple[int, ...] = (1, 5)
    qualities: tuple[float, ...] = field(default=())
    """NoC at these IoUs; none: those that both evaluations give."""


def main(argv: Sequence[str]) -> int:
    """Parse, compare, print."""
    config = parse(CompareConfig, argv, prog="compare")
    rows_a, summary_a = pick(config.a, config.refine_a)
    rows_b, summary_b = pick(config.b, config.refine_b)
    qualities = config.qualities or tuple(float(q) for q in summary_a["noc"] if q in summary_b["noc"])
    known = [q for q in qualities if f"{q:.2f}" in summary_a["noc"] and f"{q:.2f}" in summary_b["noc"]]
    if len(known) < len(qualities):
        # A session ends at its evaluation's target: it says nothing of a quality above it.
        both = sorted(set(summary_a["noc"]) & set(summary_b["noc"]))
        raise InputError(f"--qualities {qualities}: both evaluations give NoC at {', '.join(both) or 'none in common'}")
    max_clicks = min(summary_a["max_clicks"], summary_b["max_clicks"])
    differences = compare.compare(
        rows_a, rows_b, at_clicks=config.at_clicks, qualities=qualities, max_clicks=max_clicks
    )
    print(f"A {config.a} {summary_a['refinement']}\nB {config.b} {summary_b['refinement']}\n")
    print(compare.table(differences))
    return 0


def pick(folder: Path, refinement: str) -> tuple[list[ObjectRow], dict[str, Any]]:
    """Read one refinement's rows and summary from an evaluation's folder."""
    try:
        rows, summaries = results.read(folder)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{folder} holds no evaluation: expected summary.json and objects.parquet ({error})"
        ) from error
    names = [summary["refinement"] for summary in summaries]
    if not refinement and len(names) > 1:
        raise InputError(f"{folder} holds {', '.join(names)}: say which with --refine-a / --refine-b")
    refinement = refinement or names[0]
    if refinement not in names:
        raise InputError(f"{folder} holds no {refinement!r}: it holds {', '.join(names)}")
    return [row for row in rows if row.refinement == refinement], summaries[names.index(refinement)]


if __name__ == "__main__":
    run_job(main)
