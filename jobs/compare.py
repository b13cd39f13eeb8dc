"""`python -m jobs.compare A B`: is evaluation B better than A on the same objects? Paired bootstrap intervals."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from jobs.cli import data_root, location, parse, run_job
from models.decoding import Decoding
from models.errors import InputError
from models.storage import fetched, is_address, without_key
from models.working import shown, working
from pipeline.evaluation import compare, results
from pipeline.evaluation.object_row import ObjectRow


@dataclass(frozen=True)
class CompareConfig(Decoding):
    """Compare two evaluations of the same objects; differences are B - A."""

    a: Annotated[str, tyro.conf.Positional]
    """Folder of an evaluation (the --out of jobs.evaluate), or its address (s3://BUCKET/FOLDER)."""
    b: Annotated[str, tyro.conf.Positional]
    """Folder of the other; may be the same, with other refinements."""
    refine_a: str = ""
    """Which refinement or baseline of A, if it holds several."""
    refine_b: str = ""
    dataset: str = ""
    """Which data set, if a folder holds several."""
    policy: str = ""
    """Which robot user, if a folder holds several."""
    at_clicks: tuple[int, ...] = (1, 5)
    """IoU&k, and BIoU&k and ASSD&k where both evaluations measured them, are compared for these k."""
    qualities: tuple[float, ...] = field(default=())
    """NoC at these IoUs; none: those that both evaluations give."""
    out: str = ""
    """Folder, or address, for compare.html and compare.json; none: neither is written."""
    reader: str = ""
    """Reader of the data set's images, for the page to show what changed most; none: no pictures."""
    root: str | None = None
    split: str = ""
    options: dict[str, str] = field(default_factory=dict)
    """More settings of the reader: --options KEY VALUE ..."""
    num_overlays: int = 4
    """Objects that gained most and lost most on the page, so many of each."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if any(k < 1 for k in self.at_clicks) or not (self.at_clicks or self.qualities):
            raise InputError(f"--at-clicks {self.at_clicks}: expected numbers of clicks from 1 on")
        if self.reader and not self.out:
            raise InputError(f"--reader {self.reader} is for the pictures of compare.html: give --out DIR too")
        if not self.reader and (self.root is not None or self.split or self.options):
            raise InputError("--root, --split and --options say where the images are: give --reader NAME too")


def main(argv: Sequence[str]) -> int:
    """Parse and compare."""
    compare_folders(parse(CompareConfig, argv, prog="compare"))
    return 0


def compare_folders(config: CompareConfig) -> None:
    """Print the differences, and write the page and JSON where they are wanted."""
    from pipeline.data.readers import open_reader
    from pipeline.pages.compare_report import write_comparison

    root = data_root("--root", config.root)
    reader = open_reader(config.reader, root, config.split, config.options, config) if config.reader else None
    rows_a, summary_a = pick(config.a, config.refine_a, config.dataset, config.policy)
    rows_b, summary_b = pick(config.b, config.refine_b, config.dataset, config.policy)
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
    names = (_name(config.a, summary_a), _name(config.b, summary_b))
    print(f"A {names[0]}\nB {names[1]}\n")
    print(compare.table(differences))
    for letter, summary in zip("AB", (summary_a, summary_b), strict=True):
        if note := results.seen_before(summary):
            print(f"warning: {letter}: {note}")
    if config.out:
        with working(location("--out", config.out)) as out:
            write_comparison(
                out,
                differences,
                rows_a,
                rows_b,
                names=names,
                quality=max(qualities, default=None),
                max_clicks=max_clicks,
                reader=reader,
                num_overlays=config.num_overlays,
            )
            print(f"\nreport  {shown(out / 'compare.html')}")


def pick(
    folder: str | Path, refinement: str, dataset: str = "", policy: str = ""
) -> tuple[list[ObjectRow], dict[str, Any]]:
    """Read one data set's, robot user's and refinement's rows and summary from an evaluation's folder."""
    named = _shown(folder)
    try:
        rows, summaries = results.read(fetched(str(folder), results.FILES) if is_address(folder) else Path(folder))
    except InputError:
        raise
    except (OSError, ValueError) as error:
        reason = error.strerror or error if isinstance(error, OSError) else error  # without the path of a copy
        raise InputError(
            f"{named} holds no evaluation: expected summary.json and objects.parquet ({reason})"
        ) from error
    for what, wanted, flag in (
        ("dataset", dataset, "--dataset"),
        ("policy", policy, "--policy"),
        ("refinement", refinement, "--refine-a / --refine-b"),
    ):
        held = list(dict.fromkeys(summary[what] for summary in summaries))
        if not wanted and len(held) > 1:
            raise InputError(f"{named} holds {', '.join(held)}: say which with {flag}")
        if wanted and wanted not in held:
            raise InputError(f"{named} holds no {wanted!r}: it holds {', '.join(held)}")
        summaries = [summary for summary in summaries if summary[what] == (wanted or held[0])]
    (summary,) = summaries
    key = results.key_of(summary)
    return [row for row in rows if row.key == key], summary


def _name(folder: str, summary: dict[str, Any]) -> str:
    return f"{_shown(folder)} {summary['refinement']} on {summary['dataset']}, robot user {summary['policy']}"


def _shown(folder: str | Path) -> str:
    return without_key(str(folder)) if is_address(folder) else shown(Path(folder))


if __name__ == "__main__":
    run_job(main)
