"""Named training runs: functions that return a full config. Flags override single values.

One file per family; to add a run: a function there, and its name in the file's list.
"""

from collections.abc import Callable

from jobs.config import TrainConfig
from jobs.presets import cfr_icl, emc, finetune, finetune_sam, focuscut, icmformer, lite, ritm, simpleclick, small

FAMILIES = (small, finetune, finetune_sam, lite, ritm, simpleclick, cfr_icl, emc, focuscut, icmformer)
PRESETS: dict[str, Callable[[], TrainConfig]] = {
    preset.__name__: preset for family in FAMILIES for preset in family.PRESETS
}
