"""Text that is safe to print: control characters from outside must not reach a terminal or split a log line."""

import re
from typing import IO

# C0 (without tab and line feed), DEL, C1, line separators, marks that change the direction of text, and lone
# surrogates, which no encoding accepts.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    r"""Returns the text with each control character as an escape sequence like \u001b, which JSON also accepts."""
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


class PrintableStream:
    """Text stream that makes everything printable before it reaches another stream."""

    def __init__(self, stream: IO[str]) -> None:
        """stream: receives the text."""
        self._stream = stream
        self.rich_proxied_file = stream
        """Stream that the library rich uses instead of this one, because its own control sequences must pass."""

    def write(self, text: str) -> int:
        """Writes the text and returns the number of characters that the other stream wrote."""
        return self._stream.write(printable(text))

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


_PASSWORD = re.compile(r"(?P<before>[A-Za-z][A-Za-z0-9+.-]*://)[^/?#@\s]*:[^/?#@\s]*@")


def without_password(text: str) -> str:
    """Returns the text with user and password of each URL replaced by `****`."""
    return _PASSWORD.sub(r"\g<before>****@", text)
