"""What is known of the request under way: its ids, and what those who work on it noted for the log and the metrics.

It is found by a context variable, which threads that work for the request inherit; so it is not handed on.
"""

import hashlib
import re
import secrets
from contextvars import ContextVar
from dataclasses import dataclass

REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
SESSION = re.compile(r"(/v1/sessions/)([^/\s?#'\"]+)")
NONE = "none"
"""Label of what a request has not."""


@dataclass(slots=True, kw_only=True)
class Record:
    """One request, or one message of a live socket; what learns something notes it here."""

    request_id: str
    session_id: str | None = None
    """As it is: it never leaves this process but as `session_name`."""
    model: str = NONE
    model_version: str = NONE
    click: str = NONE
    code: str | None = None


current: ContextVar[Record | None] = ContextVar("maskwright_record", default=None)


def named_by(given: str | None) -> str:
    """The request id that a caller gave, if it is one (1 to 64 letters, digits, - or _); else a new one."""
    return given if given and REQUEST_ID.fullmatch(given) else secrets.token_hex(16)


def request_id() -> str | None:
    """Id of the request under way."""
    record = current.get()
    return None if record is None else record.request_id


def note_mask(model: str, model_version: str, num_clicks: int) -> None:
    """Note which model made a mask of so many clicks; the last one of a request counts."""
    record = current.get()
    if record is not None:
        record.model, record.model_version = model, model_version
        record.click = "correction" if num_clicks > 1 else "first" if num_clicks else NONE


def note_problem(code: str) -> None:
    """Note why a request is refused."""
    record = current.get()
    if record is not None:
        record.code = code


def session_name(session_id: str) -> str:
    """What logs call a session: who knows its id may use it, so logs hold a part of its SHA-256.

    Ids are 192 random bits: none can be found by its hash, and who has the id finds its lines.
    """
    return hashlib.sha256(session_id.encode("utf-8", "surrogatepass")).hexdigest()[:12]


def hide_sessions(text: str) -> str:
    """The text with the names of sessions in its addresses, in place of their ids."""
    return SESSION.sub(lambda found: found[1] + session_name(found[2]), text)
