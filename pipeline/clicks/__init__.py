"""The click simulation: random clicks of the stream, clicks of the training loop, robot users of evaluation."""

from collections.abc import Callable

import numpy as np

from models.interaction import Click, Clicks
from pipeline.clicks.oracle import oracle_click

Policy = Callable[[np.ndarray, np.ndarray, np.ndarray, Clicks], Click]
"""(object_mask, ignore_mask, mask, clicks so far) -> the next click."""

POLICIES: dict[str, Policy] = {"oracle": oracle_click}
