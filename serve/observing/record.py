"""The record of the current request: its ids, and values for the log and the metrics.

A context variable holds it, which the threads that work for the request inherit, so no function has to pass it on.
"""

import hashlib
import re
import secrets
from contextvars import ContextVar
from dataclasses import dataclass

REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
SESSION = re.compile(r"(/v1/sessions/)([^/\s?#'\"]+)")
NONE = "none"
"""Label for a missing value."""


@dataclass(slots=True, kw_only=True)
class Record:
    """One request, or one message of a live socket; code that handles it fills in the fields."""

    request_id: str
    session_id: str | None = None
    """The full id, which leaves this process only as `session_name`."""
    model: str = NONE
    model_version: str = NONE
    click: str = NONE
    code: str | None = None


current: ContextVar[Record | None] = ContextVar("maskwright_record", default=None)


def named_by(given: str | None) -> str:
    """Return the caller's request id if it is valid (1 to 64 letters, digits, - or _), else a new one."""
    return given if given and REQUEST_ID.fullmatch(given) else secrets.token_hex(16)


def request_id() -> str | None:
    """Return the id of the current request, or None."""
    record = current.get()
    return None if record is None else record.request_id


def note_mask(model: str, model_version: str, num_clicks: int) -> None:
    """Record which model made a mask from so many clicks; the last call of a request counts."""
    record = current.get()
    if record is not None:
        record.model, record.model_version = model, model_version
        record.click = "correction" if num_clicks > 1 else "first" if num_clicks else NONE


def note_problem(code: str) -> None:
    """Record the problem code of the current request."""
    record = current.get()
    if record is not None:
        record.code = code


def session_name(session_id: str) -> str:
    """Return the name of a session in logs: the first 12 hex digits of the SHA-256 of its id.

    Knowing an id is enough to use the session, so logs must not contain it. Ids have 192 random bits and cannot be
    found from their hash, while the owner of an id can find its lines.
    """
    return hashlib.sha256(session_id.encode("utf-8", "surrogatepass")).hexdigest()[:12]


def hide_sessions(text: str) -> str:
    """Replace the ids of sessions in the addresses of a text by the names of the sessions."""
    return SESSION.sub(lambda found: found[1] + session_name(found[2]), text)
