"""Learning-free predictors for comparison with networks on the same clicks; each is one file and one line here."""

from collections.abc import Callable

from models.baselines.grabcut import grabcut
from models.refinement.state import Step

BASELINES: dict[str, Callable[[], Step]] = {"grabcut": grabcut}
