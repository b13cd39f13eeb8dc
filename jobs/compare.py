"""`python -m jobs.compare A B`: compare two evaluations of the same objects, with paired bootstrap intervals."""

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
    """Compare two evaluations of the same objects. Differences are B - A, with 95 % bootstrap intervals."""

    a: Annotated[str, tyro.conf.Positional]
    """Evaluation A: the --out of jobs.evaluate, a folder or an address (s3://BUCKET/FOLDER)."""
    b: Annotated[str, tyro.conf.Positional]
    """Evaluation B; it can be the same folder with another refinement."""
    refine_a: str = ""
    """Refinement or baseline of A to compare; needed only if A has several."""
    refine_b: str = ""
    """Refinement or baseline of B to compare; needed only if B has several."""
    dataset: str = ""
    """Data set to compare on; needed only if an evaluation has several."""
    policy: str = ""
    """Robot user to compare with; needed only if an evaluation has several."""
    at_clicks: tuple[int, ...] = (1, 5)
    """Numbers of clicks k to compare IoU&k after, and BIoU&k and ASSD&k if both evaluations measured them."""
    qualities: tuple[float, ...] = field(default=())
    """IoUs to compare NoC at; default: those that both evaluations have."""
    out: str = ""
    """Folder or address to write compare.html and compare.json to; by default neither is written."""
    reader: str = ""
    """Format of the data set, one of READERS, to show the objects that changed most; by default none are shown."""
    root: str | None = None
    """Folder or address of the data set, for --reader."""
    split: str = ""
    """Split that was evaluated, for --reader; default: the reader's own default."""
    options: dict[str, str] = field(default_factory=dict)
    """Further settings of the reader, as --options KEY VALUE ..."""
    num_overlays: int = 4
    """Objects to show on the page: so many that gained most, and as many that lost most."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if any(k < 1 for k in self.at_clicks) or not (self.at_clicks or self.qualities):
            raise InputError(f"--at-clicks {self.at_clicks}: expected numbers of clicks >= 1")
        if self.reader and not self.out:
            raise InputError(f"--reader {self.reader} adds pictures to compare.html: give --out DIR as well")
        if not self.reader and (self.root is not None or self.split or self.options):
            raise InputError("--root, --split and --options are settings of a reader: give --reader NAME as well")


def main(argv: Sequence[str]) -> int:
    """Parse the flags and compare."""
    compare_folders(parse(CompareConfig, argv, prog="compare"))
    return 0


def compare_folders(config: CompareConfig) -> None:
    """Print the differences; write the page and the JSON file if `config.out` is set."""
    from pipeline.data.readers import open_reader
    from pipeline.pages.compare_report import write_comparison

    root = data_root("--root", config.root)
    reader = open_reader(config.reader, root, config.split, config.options, config) if config.reader else None
    rows_a, summary_a = pick(config.a, config.refine_a, config.dataset, config.policy)
    rows_b, summary_b = pick(config.b, config.refine_b, config.dataset, config.policy)
    qualities = config.qualities or tuple(float(q) for q in summary_a["noc"] if q in summary_b["noc"])
    known = [q for q in qualities if f"{q:.2f}" in summary_a["noc"] and f"{q:.2f}" in summary_b["noc"]]
    if len(known) < len(qualities):
        # Sessions end at the target IoU of their evaluation, so they give no NoC above it.
        both = sorted(set(summary_a["noc"]) & set(summary_b["noc"]))
        raise InputError(f"--qualities {qualities}: both evaluations have NoC at {', '.join(both) or 'no common IoU'}")
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
    """Read the rows and the summary of one refinement, data set and robot user from an evaluation's folder.

    Raises InputError if the folder has no evaluation, lacks what was named, or has several and none was named.
    """
    named = _shown(folder)
    try:
        rows, summaries = results.read(fetched(str(folder), results.FILES) if is_address(folder) else Path(folder))
    except InputError:
        raise
    except (OSError, ValueError) as error:
        reason = error.strerror or error if isinstance(error, OSError) else error  # without the path of the local copy
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
            raise InputError(f"{named} holds {', '.join(held)}: choose one with {flag}")
        if wanted and wanted not in held:
            raise InputError(f"{named} holds no {wanted!r}: choose one of {', '.join(held)} with {flag}")
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
