"""The log: lines as JSON or as text, optionally one per request, and without secrets."""

import datetime
import json
import logging
import re
import sys
from typing import Any, TextIO, get_args

from serve.core.options import LogFormat
from serve.observing.record import NONE, Record, hide_sessions, request_id, session_name

FORMATS: tuple[LogFormat, ...] = get_args(LogFormat)
requests = logging.getLogger("maskwright.requests")
"""One line per request; the line contains the `fields` of a record besides time, level and event."""
HIDDEN = "***"
MAX_CHARACTERS = 20_000
"""Maximum length of a message or a traceback, which may contain a whole image; its end is kept."""
SECRETS = (
    (re.compile(r"(?i)\b(bearer|basic|token)(\s+)[A-Za-z0-9+/=_.~-]{8,}"), rf"\1\2{HIDDEN}"),
    (re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,20}://)[^\s/@'\"]+@"), rf"\1{HIDDEN}@"),
    # Hide the query of every address, because presigned addresses carry their credentials there.
    (re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,20}://[^\s?'\"<>]*)\?[^\s'\"<>]*"), rf"\1?{HIDDEN}"),
    (
        re.compile(
            # Each part is bounded, because otherwise the time would grow with the square of the text's length.
            r"(?i)((?:token|secret|passw(?:or)?d|api[_-]?key|signature|credential|authorization)[\w-]{0,40}"
            r"['\"]?\s{0,4}[=:]\s{0,4}['\"]?(?:(?:bearer|basic|token)\s{1,4})?+)(?!\*\*\*)[^\s&'\",;)}\]]+"
        ),
        rf"\1{HIDDEN}",
    ),
)


class Lines(logging.Formatter):
    """Formats records as JSON objects or as text, and hides secrets in messages and tracebacks."""

    def __init__(self, as_json: bool) -> None:
        super().__init__()
        self._as_json = as_json

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record; as text, a traceback follows below it."""
        at = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
        when = at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        fields: dict[str, Any] = getattr(record, "fields", None) or {}
        if not fields and (name := request_id()) is not None:
            fields = {"request_id": name}
        line = {"time": when, "level": record.levelname.lower(), "event": redact(record.getMessage()), **fields}
        if record.exc_info:
            line["traceback"] = redact(self.formatException(record.exc_info))
        if self._as_json:
            return json.dumps(line)
        traceback = f"\n{line.pop('traceback')}" if "traceback" in line else ""
        words = (str(line.pop(name)) for name in ("time", "level", "event"))
        text = " ".join((*words, *(f"{name}={value}" for name, value in line.items())))
        return text.replace("\r", "\\r").replace("\n", "\\n") + traceback  # so that no record can imitate two


def redact(text: str) -> str:
    """Hide tokens, passwords and the queries of addresses, and replace ids of sessions by their names."""
    text = text if len(text) <= MAX_CHARACTERS else "..." + text[-MAX_CHARACTERS:]
    for pattern, shown in SECRETS:
        text = pattern.sub(shown, text)
    return hide_sessions(text)


def tell(event: str, record: Record, **more: Any) -> None:
    """Write the line of a finished request. Check `requests.isEnabledFor` first, because its values cost time."""
    fields: dict[str, Any] = {"request_id": record.request_id}
    if record.session_id is not None:
        fields["session"] = session_name(record.session_id)
    known = {"model": record.model, "model_version": record.model_version, "click": record.click, "code": record.code}
    fields |= more | {name: value for name, value in known.items() if value not in (None, NONE)}
    requests.info(event, extra={"fields": fields})


def install_logs(log_format: LogFormat, stream: TextIO | None = None) -> None:
    """Write the log of this process to stderr (or `stream`).

    "off": only warnings and failures, as text; "text" and "json": also one line per request.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(Lines(log_format == "json"))
    root = logging.getLogger()
    for other in [each for each in root.handlers if isinstance(each.formatter, Lines)]:
        root.removeHandler(other)
    root.addHandler(handler)
    requests.setLevel(logging.WARNING if log_format == "off" else logging.INFO)
