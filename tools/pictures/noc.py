"""Mean IoU against clicks, of the model in the box and of MobileSAM, from two evaluations' `objects.parquet`.

The figures are committed as `noc.json`; `python -m tools.pictures.noc LITE SAM` writes that file from the folders.
"""

import json
import sys
from pathlib import Path

import numpy as np

from pipeline.drawing.figures import COLOURS, legend, new_figure
from tools.pictures.panels import write
from tools.pictures.photos import Photos

FIGURES = Path(__file__).with_name("noc.json")
NUM_CLICKS = 20


def draw(photos: Photos, path: Path) -> None:
    """Draw a curve for each model and data set."""
    figure, (axes,) = new_figure(6.4, 3.6)
    styles = {"COCO_MVal_dev": "-", "DAVIS_dev": "--"}
    for (model, sets), colour in zip(json.loads(FIGURES.read_text()).items(), COLOURS, strict=False):
        for name, ious in sets.items():
            axes.plot(range(1, 1 + len(ious)), ious, styles[name], color=colour, label=f"{model}, {name}")
    axes.set_xlabel("clicks of the oracle robot (a session ends at IoU 0.90 and keeps its mask)")
    axes.set_ylabel("mean IoU")
    axes.set_xticks([1, 5, 10, 15, 20])
    legend(axes, loc="lower right")
    write(figure, path)


def curves(folder: Path) -> dict[str, list[float]]:
    """Return the mean IoU after each click, by data set, of an evaluation's folder."""
    import pandas as pd

    rows = pd.read_parquet(folder / "objects.parquet")
    found = {}
    for name, of_set in rows.groupby("dataset"):
        kept = [np.pad(ious[:NUM_CLICKS], (0, max(0, NUM_CLICKS - len(ious))), mode="edge") for ious in of_set["ious"]]
        found[str(name)] = [round(float(iou), 4) for iou in np.mean(kept, axis=0)]
    return found


if __name__ == "__main__":
    lite, sam = (curves(Path(folder)) for folder in sys.argv[1:])
    FIGURES.write_text(json.dumps({"maskwright:lite_s": lite, "mobile_sam": sam}, indent=1) + "\n")
