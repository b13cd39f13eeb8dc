"""Files of JSON lines that grow while a run lives, and survive a writer that was killed in the middle of a line."""

import json
from pathlib import Path
from typing import Any


def append_line(path: Path, entry: dict[str, Any]) -> None:
    """Append an entry; after half a line that a killed writer has left, it begins on its own."""
    with path.open("ab+") as file:
        file.seek(max(0, file.tell() - 1))
        start = b"" if file.read(1) in (b"", b"\n") else b"\n"
        file.write(start + json.dumps(entry).encode() + b"\n")
