"""Check that a race finds the winner of the whole grid, how much work it saves, and that --refine reproduces the score.

    python -m benchmarks.sweep cfr --checkpoint DIR --reader coco_mval --root DIR --objective noc80 --out R \
        --set refine.cascade.steps 0,1,2,4 refine.cascade.adaptive false

The grid is swept twice: as a race, and whole (one rung, without sharing network outputs between settings). Then
jobs.evaluate plays the winner with --refine R/raced/best.json on the same objects.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any


def run(*command: str) -> None:
    """Run a job and show its output."""
    print("$ python -m " + " ".join(command), flush=True)
    subprocess.run([sys.executable, "-m", *command], check=True)


def main() -> None:
    """Run both sweeps and the evaluation, and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("space")
    for name in ("checkpoint", "reader", "root", "objective", "out"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--objects", type=int, default=24)
    parser.add_argument("--clicks", type=int, default=10)
    parser.add_argument("--min-area", type=int, default=1000)
    parser.add_argument("--refine", default="standard")
    parser.add_argument("--set", nargs="+", default=[])
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    out = Path(args.out).absolute()
    data = ("--checkpoint", args.checkpoint, "--reader", args.reader, "--root", args.root)
    protocol = (
        "--protocol.max-objects", str(args.objects), "--protocol.max-clicks", str(args.clicks),
        "--protocol.min-area", str(args.min_area),
    )  # fmt: skip
    common = (args.space, *data, "--objective", args.objective, "--refine", args.refine, *protocol)
    narrowed = ("--set", *args.set) if args.set else ()
    ways = {"raced": (), "whole": ("--race.rungs", "1.0", "--memory-mb", "0")}
    for way, flags in ways.items():
        run("jobs.sweep", *common, *narrowed, *flags, "--out", str(out / way))
    found: dict[str, Any] = {way: json.loads((out / way / "sweep.json").read_text()) for way in ways}
    quality = args.objective.removeprefix("noc")
    run(
        "jobs.evaluate", *data, *protocol, "--refine", str(out / "raced" / "best.json"),
        "--protocol.qualities", f"0.{quality}", "--protocol.target-iou", f"0.{quality}", "--out", str(out / "again"),
    )  # fmt: skip
    (again,) = json.loads((out / "again" / "summary.json").read_text())
    (noc,) = again["noc"].values()
    best, winner = (found[way]["settings"][0] for way in ways)
    settings = found["whole"]["settings"]
    worst = max((s for s in settings if s["low"] is not None), key=lambda s: s["difference"])
    share = found["raced"]["forwards"]["computed"] / found["whole"]["forwards"]["computed"]
    print(f"\n{len(settings)} settings, {args.objects} objects, {args.clicks} clicks")
    print(f"winner, raced: {best['value']:.3f} {best['values']}")
    print(f"winner, whole: {winner['value']:.3f} {winner['values']}  {'the same' * (best['name'] == winner['name'])}")
    print(f"worst, compared with the default: {worst['difference']:+.3f} [{worst['low']:+.3f}, {worst['high']:+.3f}]")
    print(f"forwards: {share:.1%} of the whole grid's {found['whole']['forwards']['computed']}")
    print(f"jobs.evaluate of best.json: {noc:.6f}, the sweep's {best['value']:.6f}: {noc == best['value']}")
    if args.json:
        values = {"share": share, "same_winner": best["name"] == winner["name"], "repeats": noc == best["value"]}
        args.json.write_text(json.dumps(values, indent=2) + "\n")


if __name__ == "__main__":
    main()
