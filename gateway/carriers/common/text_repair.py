"""Repair of JSON messages with small errors, so that damaged text does not fail a call.

`repair` is for messages that a decoder refused. It is slow compared with decoding, and well-formed messages do not need
it. Its result is valid UTF-8 and valid JSON without lone surrogates, so every store accepts it.
"""

import json
import re
from typing import Any, NamedTuple

import msgspec

INVALID_UTF8 = "invalid-utf-8"
LONE_SURROGATE = "lone-surrogate"
TEXT_AROUND_JSON = "text-around-json"
UNESCAPED_TEXT = "unescaped-text"

KINDS = (INVALID_UTF8, LONE_SURROGATE, TEXT_AROUND_JSON, UNESCAPED_TEXT)
"""Kinds of repairs. They are values of a metric's label."""

REPLACEMENT = "\ufffd"
"""Replacement of an unknown character."""

_read = json.JSONDecoder().raw_decode
_OBJECT = re.compile(r'\{\s*["}]')  # the beginning of a JSON object
_SURROGATE = re.compile("[\ud800-\udfff]")
_PLAIN = re.compile(r'[^"\\\x00-\x1f]+')  # characters of a string that need no escape
_ESCAPE = re.compile(r'\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})')
# Text after the quotation mark that ends a string: a key, a value in an object, a value in a list.
_AFTER_KEY = re.compile(r"\s*:")
_AFTER_VALUE = re.compile(r'\s*(?:,\s*"[^"]*"\s*:|\}\s*(?:[,}\]]|$))')
_AFTER_ITEM = re.compile(r"\s*[,\]]")


class Repair(NamedTuple):
    """Repaired message. kinds: the kinds of its repairs, at least one, in the order of KINDS."""

    data: bytes
    kinds: tuple[str, ...]


def repair(data: bytes) -> Repair | None:
    """Returns the repaired JSON object of a message, or None if no repair is possible or necessary."""
    kinds: set[str] = set()
    text = _as_text(data, kinds)
    begin = _OBJECT.search(text)
    if begin is None:
        return None
    value, end = _read_object(text, begin.start(), kinds)
    if not isinstance(value, dict):
        return None
    if text[: begin.start()].strip() or text[end:].strip():
        kinds.add(TEXT_AROUND_JSON)
    try:
        clean = _without_surrogates(value, kinds)
        repaired = msgspec.json.encode(clean)
    except (ValueError, RecursionError, OverflowError):  # numbers beyond 64 bits, nesting too deep
        return None
    return Repair(repaired, tuple(kind for kind in KINDS if kind in kinds)) if kinds else None


def _as_text(data: bytes, kinds: set[str]) -> str:
    """Returns the text of a message. Bytes that are not UTF-8 are decoded as Windows-1252, else as Latin-1."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        kinds.add(INVALID_UTF8)
    try:
        # UTF-16 surrogates, each in three bytes: a pair is one character.
        pairs = data.decode("utf-8", "surrogatepass").encode("utf-16-le", "surrogatepass")
        return pairs.decode("utf-16-le", "replace")
    except UnicodeDecodeError:
        escaped = data.decode("utf-8", "surrogateescape")
        return re.sub("[\udc80-\udcff]", lambda byte: _latin(ord(byte[0]) - 0xDC00), escaped)


def _latin(byte: int) -> str:
    try:
        return bytes((byte,)).decode("cp1252")
    except UnicodeDecodeError:
        return chr(byte)


def _read_object(text: str, start: int, kinds: set[str]) -> tuple[Any, int]:
    """Returns the object at this position and the position after it. The object is None if it is unreadable."""
    try:
        return _read(text, start)
    except (ValueError, RecursionError):
        escaped = text[:start] + _escaped(text[start:])
    try:
        value, end = _read(escaped, start)
    except (ValueError, RecursionError):
        return None, start
    kinds.add(UNESCAPED_TEXT)
    return value, end + len(text) - len(escaped)  # escaping only adds characters, and only within the object


def _escaped(text: str) -> str:
    """Returns the text with escapes where its strings lack them.

    A quotation mark ends a string only if the text after it continues as JSON. Any other mark is part of the string.
    The duration is proportional to the length of the text.
    """
    out: list[str] = []
    nesting: list[str] = []
    key = True  # the next string in an object is a key
    at = 0
    while at < len(text):
        char = text[at]
        if char == '"':
            in_list = bool(nesting) and nesting[-1] == "["
            after = _AFTER_ITEM if in_list else _AFTER_KEY if key else _AFTER_VALUE
            content, at = _string(text, at + 1, after)
            out.append(f'"{content}"')
            continue
        if char in "{[":
            nesting.append(char)
            key = char == "{"
        elif char in "}]":
            if nesting:
                nesting.pop()
            if not nesting:
                out.append(text[at:])
                break
        elif char == ",":
            key = True
        elif char == ":":
            key = False
        out.append(char)
        at += 1
    return "".join(out)


def _string(text: str, at: int, after: re.Pattern[str]) -> tuple[str, int]:
    """Returns the escaped content of the string that begins here, and the position after its end."""
    out: list[str] = []
    while at < len(text):
        found = _PLAIN.match(text, at) or _ESCAPE.match(text, at)
        if found:
            out.append(found[0])
            at = found.end()
            continue
        if text[at] == '"':
            if after.match(text, at + 1):
                return "".join(out), at + 1
            out.append('\\"')
        else:  # a backslash that escapes nothing, or a control character
            out.append(json.dumps(text[at])[1:-1])
        at += 1
    return "".join(out), at


def _without_surrogates(value: Any, kinds: set[str]) -> Any:
    if isinstance(value, str):
        if not _SURROGATE.search(value):
            return value
        kinds.add(LONE_SURROGATE)
        return _SURROGATE.sub(REPLACEMENT, value)
    if isinstance(value, dict):
        return {_without_surrogates(name, kinds): _without_surrogates(one, kinds) for name, one in value.items()}
    if isinstance(value, list):
        return [_without_surrogates(one, kinds) for one in value]
    return value
