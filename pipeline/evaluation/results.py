"""What an evaluation leaves behind: rows per object, a summary, a table."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from models import files
from pipeline import metrics
from pipeline.evaluation.config import CATEGORY_TASKS, EvaluationConfig
from pipeline.evaluation.csv_files import write_clicks, write_objects

Key = tuple[str, str, str]
"""What tells results apart: data set, refinement (or baseline), robot user."""
MAX_NAMED, SHOWN = 1000, 5
"""Items of photos that a predictor was trained on: so many are listed in a summary, so many are shown."""


@dataclass(frozen=True, kw_only=True)
class ObjectRow:
    """One object under one refinement; `mask` is the last mask as COCO RLE counts of the image's size.

    `clicks` are those that `ious` belong to; what a task gave free is not listed. `bious` and `assds` hold a value per
    click, None where it was not measured; empty in files that know neither.
    `num_honoured` clicks left the mask with their sign at their pixel; `counts` is what refinements did (State.counts).
    """

    dataset: str
    refinement: str
    policy: str
    item: str
    object: str
    category: str = ""
    clicks: list[tuple[float, float, bool]]
    ious: list[float]
    bious: list[float | None] = field(default_factory=list)
    assds: list[float | None] = field(default_factory=list)
    num_honoured: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    height: int
    width: int
    mask: str

    @property
    def key(self) -> Key:
        """Data set, refinement and robot user."""
        return self.dataset, self.refinement, self.policy

    @staticmethod
    def from_json(values: dict[str, Any]) -> "ObjectRow":
        """Rebuild a row from JSON or Parquet values."""
        clicks = [tuple(click.values() if isinstance(click, dict) else click) for click in values["clicks"]]
        return ObjectRow(**{**values, "clicks": clicks})


def key_of(summary: Mapping[str, Any]) -> Key:
    """Data set, refinement and robot user of a summary."""
    return summary["dataset"], summary["refinement"], summary["policy"]


def by_key(rows: Sequence[ObjectRow]) -> dict[Key, list[ObjectRow]]:
    """Sort rows into one list per data set, refinement and robot user, in the order in which these appear."""
    groups: dict[Key, list[ObjectRow]] = {}
    for row in rows:
        groups.setdefault(row.key, []).append(row)
    return groups


def predictors(summaries: Sequence[Mapping[str, Any]]) -> dict[Key, str]:
    """Name each summary within its data set: the refinement, and the robot user where there are several."""
    several = len({summary["policy"] for summary in summaries}) > 1
    return {key_of(s): f"{s['refinement']}, {s['policy']}" if several else s["refinement"] for s in summaries}


def summarize(rows: Sequence[ObjectRow], config: EvaluationConfig, seconds: float) -> dict[str, Any]:
    """Average the rows of one (data set, refinement, policy); `seconds` is busy time, summed over actors."""
    sessions = [row.ious for row in rows]
    by_category = config.task in CATEGORY_TASKS
    items = [(row.item, row.category if by_category else "") for row in rows]
    most = config.max_clicks

    def each(measure: Callable[[float], float]) -> dict[str, float]:
        return {f"{quality:.2f}": measure(quality) for quality in config.qualities}

    return {
        "dataset": rows[0].dataset,
        "refinement": rows[0].refinement,
        "policy": rows[0].policy,
        "objects": len(rows),
        "max_clicks": most,
        "noc": each(lambda q: metrics.noc(sessions, q, most)),
        "nof": each(lambda q: metrics.nof(sessions, q, most)),
        "num_at_max": each(lambda q: metrics.num_at_max(sessions, q, most)),
        "nofi": each(lambda q: metrics.nofi(items, sessions, q, most)),
        "iou_at": {str(k): metrics.iou_at(sessions, k) for k in config.at_clicks},
        "miou_after": {str(k): metrics.miou_after(sessions, k) for k in config.further_clicks},
        "biou_at": {str(k): metrics.value_at([row.bious for row in rows], k) for k in config.at_clicks},
        "assd_at": {str(k): metrics.value_at([row.assds for row in rows], k) for k in config.at_clicks},
        "honoured": sum(row.num_honoured for row in rows) / max(1, sum(len(ious) for ious in sessions)),
        "counts": {
            name: sum(row.counts.get(name, 0) for row in rows) for name in sorted({n for r in rows for n in r.counts})
        },
        "seconds": seconds,
        "clicks": sum(len(ious) for ious in sessions),
        "seconds_per_click": metrics.seconds_per_click(seconds, sessions),
    }


def trained_on(rows: Sequence[ObjectRow], known: Mapping[str, int]) -> dict[str, Any]:
    """What a summary says of photos that its predictor was trained on; nothing if there are none.

    `known`: items whose photo it was trained on, and its fingerprint.
    """
    items = list(dict.fromkeys(row.item for row in rows if row.item in known))
    photos, objects = len({known[item] for item in items}), sum(row.item in known for row in rows)
    return {"trained_on": {"photos": photos, "objects": objects, "items": items[:MAX_NAMED]}} if items else {}


def seen_before(summary: Mapping[str, Any]) -> str:
    """Say of a summary that its predictor was trained on photos that it is measured on; "" if it was not."""
    found = summary.get("trained_on")
    if not found:
        return ""
    names, num = ", ".join(found["items"][:SHOWN]), found["photos"]
    return (
        f"the checkpoint was trained on {num} of the photos of {summary['dataset']} ({found['objects']} of "
        f"{summary['objects']} objects): {names}{', ...' if len(found['items']) > SHOWN else ''}"
    )


def write(out: Path, rows: Sequence[ObjectRow], summaries: Sequence[dict[str, Any]]) -> None:
    """Write OUT/objects.parquet and OUT/summary.json, and the rows once more as OUT/objects.csv and OUT/clicks.csv.

    Raises InputError for what cannot be written; each file is whole.
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
                name: pa.array([getattr(row, name) for row in rows], pa.list_(pa.float32()))
                for name in ("ious", "bious", "assds")
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
    """Read what `write` wrote; raises OSError if it is not there."""
    import pyarrow.parquet as pq

    summaries = json.loads((out / "summary.json").read_text())
    rows = []
    for values in pq.read_table(out / "objects.parquet").to_pylist():
        rows.append(ObjectRow.from_json({**values, "counts": json.loads(values.get("counts") or "{}")}))
    return rows, summaries


def table(summaries: Sequence[dict[str, Any]]) -> str:
    """Lay the summaries out as text, a line each."""
    qualities = list(summaries[0]["noc"])
    ks = list(summaries[0]["iou_at"])
    head = ["data", "predictor", "objects"] + [f"IoU&{k}" for k in ks]
    most = {s["max_clicks"] for s in summaries}
    num = most.pop() if len(most) == 1 else 20
    head += [metrics.label("NoC", float(q), num) for q in qualities]
    head += [metrics.label("NoF", float(qualities[-1]), num), "s/click"]
    lines = [head]
    names = predictors(summaries)
    for s in summaries:
        lines.append(
            [s["dataset"], names[key_of(s)], str(s["objects"])]
            + [f"{s['iou_at'][k]:.3f}" for k in ks]
            + [f"{s['noc'][q]:.2f}" for q in qualities]
            + [str(s["nof"][qualities[-1]]), f"{s['seconds_per_click']:.2f}"]
        )
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i < 2 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
