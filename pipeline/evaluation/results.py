"""The results of an evaluation: a row per object, summaries, a table, and the files that hold them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from models import files
from pipeline.evaluation.columns import printed
from pipeline.evaluation.config import CATEGORY_TASKS, EvaluationConfig
from pipeline.evaluation.csv_files import write_clicks, write_objects
from pipeline.evaluation.measures import MEASURES, Group, of_clicks
from pipeline.evaluation.object_row import Key, ObjectRow, column
from pipeline.text_table import aligned

FILES = ("summary.json", "objects.parquet")
"""Files from which an evaluation is read back."""
MAX_NAMED, SHOWN = 1000, 5
"""Most items with known photos that a summary lists, and that a message names."""


def key_of(summary: Mapping[str, Any]) -> Key:
    """Return a summary's data set, refinement and robot user."""
    return summary["dataset"], summary["refinement"], summary["policy"]


def predictors(summaries: Sequence[Mapping[str, Any]]) -> dict[Key, str]:
    """Name each summary within its data set: by refinement, and by robot user too if there are several."""
    several = len({summary["policy"] for summary in summaries}) > 1
    return {key_of(s): f"{s['refinement']}, {s['policy']}" if several else s["refinement"] for s in summaries}


def summarize(rows: Sequence[ObjectRow], config: EvaluationConfig, seconds: float) -> dict[str, Any]:
    """Summarise the rows of one (data set, refinement, policy); `seconds` is busy time, summed over actors."""
    group = Group(rows=rows, max_clicks=config.max_clicks, seconds=seconds, by_category=config.task in CATEGORY_TASKS)
    return {
        "dataset": rows[0].dataset,
        "refinement": rows[0].refinement,
        "policy": rows[0].policy,
        "objects": len(rows),
        "max_clicks": config.max_clicks,
        **{measure.key: measure.summary(group, config) for measure in MEASURES.values()},
        "counts": {
            name: sum(row.counts.get(name, 0) for row in rows) for name in sorted({n for r in rows for n in r.counts})
        },
        "seconds": seconds,
        "clicks": sum(len(row.ious) for row in rows),
    }


def trained_on(rows: Sequence[ObjectRow], known: Mapping[str, int]) -> dict[str, Any]:
    """Return a summary's entry about photos that its predictor was trained on; empty if there are none.

    `known`: fingerprints of these photos, by item.
    """
    items = list(dict.fromkeys(row.item for row in rows if row.item in known))
    photos, objects = len({known[item] for item in items}), sum(row.item in known for row in rows)
    return {"trained_on": {"photos": photos, "objects": objects, "items": items[:MAX_NAMED]}} if items else {}


def seen_before(summary: Mapping[str, Any]) -> str:
    """Return the warning that a summary's predictor was trained on photos of the data set; "" if it was not."""
    found = summary.get("trained_on")
    if not found:
        return ""
    names, num = ", ".join(found["items"][:SHOWN]), found["photos"]
    return (
        f"the checkpoint was trained on {num} of the photos of {summary['dataset']} ({found['objects']} of "
        f"{summary['objects']} objects): {names}{', ...' if len(found['items']) > SHOWN else ''}"
    )


def write(out: Path, rows: Sequence[ObjectRow], summaries: Sequence[dict[str, Any]]) -> None:
    """Write OUT/objects.parquet and OUT/summary.json, and the rows also as OUT/objects.csv and OUT/clicks.csv.

    Raises InputError if a file cannot be written; no file is ever incomplete.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    click = pa.struct([("y", pa.float64()), ("x", pa.float64()), ("positive", pa.bool_())])
    table = pa.table(
        {
            **{
                name: [getattr(row, name) for row in rows]
                for name in ("dataset", "refinement", "policy", "item", "object", "category", "num_honoured")
            },
            "clicks": pa.array(
                [[{"y": y, "x": x, "positive": p} for y, x, p in row.clicks] for row in rows], pa.list_(click)
            ),
            **{
                column(name): pa.array([row.values(name) for row in rows], pa.list_(pa.float32()))
                for name in of_clicks()
            },
            "counts": [json.dumps(row.counts) for row in rows],
            "height": [row.height for row in rows],
            "width": [row.width for row in rows],
            "mask": [row.mask for row in rows],
        }
    )
    with files.whole_file(out / "objects.parquet") as part:
        pq.write_table(table, part)
    write_objects(out / "objects.csv", rows, summaries)
    write_clicks(out / "clicks.csv", rows)
    files.write(out / "summary.json", json.dumps(list(summaries), indent=2, allow_nan=False) + "\n")


def read(out: Path) -> tuple[list[ObjectRow], list[dict[str, Any]]]:
    """Read what `write` wrote; raises OSError if a file is missing."""
    import pyarrow.parquet as pq

    summaries = json.loads((out / "summary.json").read_text())
    rows = []
    for values in pq.read_table(out / "objects.parquet").to_pylist():
        rows.append(ObjectRow.from_json({**values, "counts": json.loads(values.get("counts") or "{}")}))
    return rows, summaries


def table(summaries: Sequence[dict[str, Any]]) -> str:
    """Format the summaries as a plain-text table, a line each."""
    most = {s["max_clicks"] for s in summaries}
    columns = printed(summaries, most.pop() if len(most) == 1 else 20)
    names = predictors(summaries)
    lines = [["data", "predictor", "objects", *(each.title for each in columns)]]
    for s in summaries:
        lines.append([s["dataset"], names[key_of(s)], str(s["objects"]), *(each.text(s) for each in columns)])
    return aligned(lines, "<<")
