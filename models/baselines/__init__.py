"""Learning-free predictors, driven by the same clicks: what a network must beat. One file and one line each."""

from collections.abc import Callable

from models.baselines.grabcut import grabcut
from models.refinement.state import Step

BASELINES: dict[str, Callable[[], Step]] = {"grabcut": grabcut}
