"""Tests of text that is safe to print."""

import io
import json
import unicodedata

import pytest

from core.printable import PrintableStream, printable, without_password


def test_no_control_character_remains() -> None:
    """Makes every character below U+3000 printable: only tab and line feed may remain of the control characters.

    Letters must not change. Otherwise text from a caller controls the terminal that shows it.
    """
    for number in range(0x3000):
        char = chr(number)
        unsafe = (
            unicodedata.category(char) in ("Cc", "Zl", "Zp")
            or unicodedata.bidirectional(char) in ("LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI")
        ) and char not in "\t\n"
        if unsafe:
            assert printable(char) == f"\\u{number:04x}"
        elif unicodedata.category(char)[0] in "LNPS" or char in "\t\n ":
            assert printable(char) == char


@pytest.mark.parametrize("text", ["a\x7fb", "\u202e", "\x9b1m"])
def test_escaped_json_means_the_same(text: str) -> None:
    """Makes JSON with control characters printable and parses it: programs must read the original text."""
    assert json.loads(printable(json.dumps(text, ensure_ascii=False))) == text


def test_stream_escapes_all_output() -> None:
    """Prints a text to a stream: the other stream must receive it without control characters."""
    output = io.StringIO()
    print("\x1b[2Jcleared", file=PrintableStream(output))
    assert output.getvalue() == "\\u001b[2Jcleared\n"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("see https://user:secret@host:8443/path?a=b", "see https://****@host:8443/path?a=b"),
        ("clickhouse://a:b@c:8123/d, redis://:pw@e", "clickhouse://****@c:8123/d, redis://****@e"),
        ("https://host/a:b@c", "https://host/a:b@c"),
        ("sip:agent@example.com, http://127.0.0.1:8080", "sip:agent@example.com, http://127.0.0.1:8080"),
    ],
)
def test_urls_are_shown_without_passwords(text: str, shown: str) -> None:
    """Removes user and password from URLs, and nothing else. A failure means that `audiotext settings` or a log shows
    a password."""
    assert without_password(text) == shown
