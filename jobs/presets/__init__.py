"""Presets: named training runs, each a function that returns a full config. Flags override single values.

There is one file per family. To add a run, add a function to a file and its name to the file's PRESETS.
"""

from collections.abc import Callable

from jobs.config import TrainConfig
from jobs.presets import cfr_icl, emc, finetune, finetune_sam, focuscut, icmformer, lite, ritm, simpleclick, small

FAMILIES = (small, finetune, finetune_sam, lite, ritm, simpleclick, cfr_icl, emc, focuscut, icmformer)
PRESETS: dict[str, Callable[[], TrainConfig]] = {
    preset.__name__: preset for family in FAMILIES for preset in family.PRESETS
}
