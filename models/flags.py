"""Typed flags from a dataclass (tyro), whose refusals reach people like all other errors."""

import contextlib
import io
import sys
from collections.abc import Sequence
from typing import Any, TypeVar

from models.errors import InputError

T = TypeVar("T")


def parse(kind: type[T], argv: Sequence[str], *, prog: str, default: T | None = None, description: str = "") -> T:
    """Parse flags into a dataclass, `default` giving the defaults; raises InputError for what it refuses."""
    import tyro

    extra: dict[str, Any] = {} if default is None else {"default": default}
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(
                kind,
                args=list(argv),
                prog=prog,
                description=description or kind.__doc__,
                config=(tyro.conf.OmitSubcommandPrefixes,),
                **extra,
            )
    except SystemExit as stop:
        # tyro frames what a config refuses in a box that breaks lines.
        cause: BaseException | None = stop
        while cause is not None and not isinstance(cause, InputError):
            cause = cause.__context__
        if cause is not None:
            said = io.StringIO()
            raise cause from None
        raise
    finally:
        sys.stderr.write(said.getvalue())
