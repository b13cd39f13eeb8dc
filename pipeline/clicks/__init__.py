"""The click simulation: first clicks of the data stream, clicks of the training loop, and robot users of evaluation."""

from collections.abc import Callable
from functools import partial

import numpy as np

from models.errors import lookup
from models.interaction import Click, Clicks
from pipeline.clicks.border_mix import border_mix_click
from pipeline.clicks.centre import first_click_centre
from pipeline.clicks.dios_random import dios_random_click
from pipeline.clicks.focuscut import focuscut_click
from pipeline.clicks.oracle import oracle_click
from pipeline.clicks.realistic import Realistic, realistic_click

Policy = Callable[[np.ndarray, np.ndarray, np.ndarray, Clicks, np.random.Generator], Click]
"""(object_mask, ignore_mask, mask, clicks so far, rng) -> the next click.

All masks bool (h, w). A click lies on a wrong pixel that is not ignored, and has the sign of that error. All randomness
comes from `rng`: equal generators give equal clicks."""

POLICIES: dict[str, Policy] = {
    "oracle": oracle_click,
    "focuscut": focuscut_click,
    "first_click_centre": first_click_centre,
    "border_mix": border_mix_click,
    "dios_random": dios_random_click,
    "realistic": realistic_click,
}


def make_policy(name: str, realistic: Realistic | None = None) -> Policy:
    """Return a robot user by name, with its settings if it has any; raises InputError for an unknown name."""
    policy = lookup("policy", name, POLICIES)
    if policy is realistic_click and realistic is not None:
        return partial(realistic_click, config=realistic)
    return policy
