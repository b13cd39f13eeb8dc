"""Log a warning about a data set once, however often a job lists it."""

import logging
from functools import lru_cache


@lru_cache(maxsize=1024)
def warn_once(logger: str, text: str) -> None:
    """Log a warning, unless this process has logged the same one before."""
    logging.getLogger(logger).warning("%s", text)
