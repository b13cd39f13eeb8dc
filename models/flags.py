"""Parse command-line flags into a dataclass with tyro, and report a config's errors as InputError."""

import contextlib
import io
import sys
from collections.abc import Sequence
from typing import Any, TypeVar

from models.errors import InputError

T = TypeVar("T")


def parse(kind: type[T], argv: Sequence[str], *, prog: str, default: T | None = None, description: str = "") -> T:
    """Parse flags into a dataclass, with defaults from `default`; raises InputError for values that it refuses."""
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
        # tyro prints a config's error in a box that breaks lines.
        cause: BaseException | None = stop
        while cause is not None and not isinstance(cause, InputError):
            cause = cause.__context__
        if cause is not None:
            said = io.StringIO()
            raise cause from None
        raise
    finally:
        sys.stderr.write(said.getvalue())
