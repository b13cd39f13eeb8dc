"""Read a JSON object of any size: its members one by one, and members that are lists element by element.

It accepts and refuses the same files as `json.load` and returns the same values, including NaN and half surrogate
pairs, because json's decoder reads the elements. Memory holds a piece of the file and the largest single element.
"""

import io
import json
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

_PIECE = 1 << 20
_SPACE = re.compile(r"[ \t\n\r]*")
# A value that ends this close to the end of a piece may be cut: 1.5 at the point, -Infinity or \u00e9 anywhere.
_MARGIN = 16


class JsonObject:
    """The top of a JSON file: `kind` names its Python type, and `members()` reads it if that is a dict."""

    def __init__(self, file: BinaryIO) -> None:
        encoding = json.detect_encoding(file.read(4))
        file.seek(0)
        self._file = io.TextIOWrapper(file, encoding, errors="surrogatepass", newline="")
        self._text, self._at, self._before = "", 0, 0
        self._decode = json.JSONDecoder().raw_decode
        self.kind = "dict" if self._peek() == "{" else type(self._value()).__name__

    def members(self) -> Iterator[tuple[str, bool, Iterator[Any]]]:
        """Yield (name, whether it is a list, its elements or the value itself), once and in the file's order.

        Elements that are not read are skipped. Raises ValueError, perhaps only after the last member, if the file is
        not JSON.
        """
        self._take("{")
        ended = self._peek() == "}" and self._take("}") == "}"
        while not ended:
            if self._peek() != '"':
                raise self._error("expected a name in double quotes")
            name = self._value()
            self._take(":")
            is_list = self._peek() == "["
            values = self._elements() if is_list else iter([self._value()])
            yield name, is_list, values
            for _ in values:
                pass
            ended = self._take(",}") == "}"
        if self._peek():
            raise self._error("expected the end of the file")

    def _elements(self) -> Iterator[Any]:
        self._take("[")
        ended = self._peek() == "]" and self._take("]") == "]"
        while not ended:
            yield self._value()
            ended = self._take(",]") == "]"

    def _value(self) -> Any:
        self._peek()
        while True:
            try:
                value, end = self._decode(self._text, self._at)
            except json.JSONDecodeError as error:
                cut = error.msg.startswith("Unterminated string") or error.pos > len(self._text) - _MARGIN
                if cut and self._more():
                    continue
                raise self._error(error.msg, error.pos) from error
            if end > len(self._text) - _MARGIN and self._more():
                continue
            self._at = end
            return value

    def _peek(self) -> str:
        """Return the next character that is not a space, "" at the end of the file."""
        while True:
            match = _SPACE.match(self._text, self._at)
            self._at = match.end() if match else self._at
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def _take(self, wanted: str) -> str:
        character = self._peek()
        if not character or character not in wanted:
            raise self._error(f"expected {' or '.join(wanted)}")
        self._at += 1
        return character

    def _more(self) -> bool:
        """Read at least as much again as is buffered, so that a large element is parsed few times; False at the end."""
        rest = self._text[self._at :]
        piece = self._file.read(max(_PIECE, len(rest)))
        if piece:
            self._before += self._at
            self._text, self._at = rest + piece, 0
        return bool(piece)

    def _error(self, message: str, position: int | None = None) -> ValueError:
        return ValueError(f"{message} (character {self._before + (self._at if position is None else position)})")
