"""Repairs of JSON messages that are almost right, so that imperfect text never costs a call.

`repair` is for messages that a decoder refused: it is slow compared with decoding, and well-formed messages never
reach it. What it returns is valid UTF-8 and valid JSON without lone surrogates, so it can be stored everywhere.
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
"""Kinds of repairs: values of a metric's label."""

REPLACEMENT = "\ufffd"
"""Stands for a character that cannot be known."""

_read = json.JSONDecoder().raw_decode
_OBJECT = re.compile(r'\{\s*["}]')  # the beginning of a JSON object
_SURROGATE = re.compile("[\ud800-\udfff]")
_PLAIN = re.compile(r'[^"\\\x00-\x1f]+')  # of a string: characters that need no escape
_ESCAPE = re.compile(r'\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})')
# What follows the quotation mark that ends a string: of a key, of a value in an object, of a value in a list.
_AFTER_KEY = re.compile(r"\s*:")
_AFTER_VALUE = re.compile(r'\s*(?:,\s*"[^"]*"\s*:|\}\s*(?:[,}\]]|$))')
_AFTER_ITEM = re.compile(r"\s*[,\]]")


class Repair(NamedTuple):
    """A repaired message. kinds: of what was repaired, at least one, in the order of KINDS."""

    data: bytes
    kinds: tuple[str, ...]


def repair(data: bytes) -> Repair | None:
    """Returns the JSON object in a message, repaired; None if nothing in it can or needs to be repaired."""
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
    except (ValueError, RecursionError, OverflowError):  # numbers beyond 64 bits, nesting without end
        return None
    return Repair(repaired, tuple(kind for kind in KINDS if kind in kinds)) if kinds else None


def _as_text(data: bytes, kinds: set[str]) -> str:
    """The message's characters. Bytes that are not UTF-8 count as Latin-1, with the characters of Windows."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        kinds.add(INVALID_UTF8)
    try:
        # UTF-16 surrogates, each in three bytes: two that belong together are one character.
        pairs = data.decode("utf-8", "surrogatepass").encode("utf-16-le", "surrogatepass")
        return pairs.decode("utf-16-le", "replace")
    except UnicodeDecodeError:
        escaped = data.decode("utf-8", "surrogateescape")
        return re.sub("[\udc80-\udcff]", lambda byte: _latin(ord(byte[0]) - 0xDC00), escaped)


def _latin(octet: int) -> str:
    try:
        return bytes((octet,)).decode("cp1252")
    except UnicodeDecodeError:
        return chr(octet)


def _read_object(text: str, start: int, kinds: set[str]) -> tuple[Any, int]:
    """The object at this place and the place after it; None for what cannot be understood."""
    try:
        return _read(text, start)
    except (ValueError, RecursionError):
        escaped = text[:start] + _escaped(text[start:])
    try:
        value, end = _read(escaped, start)
    except (ValueError, RecursionError):
        return None, start
    kinds.add(UNESCAPED_TEXT)
    return value, end + len(text) - len(escaped)  # characters are only added, and none after the object


def _escaped(text: str) -> str:
    """The text with escapes where its strings lack them. A quotation mark ends a string only where JSON could go on
    behind it; any other is part of the string. Takes time in proportion to the text."""
    out: list[str] = []
    nesting: list[str] = []
    key = True  # whether the next string in an object is a key
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
    """The content of the string that begins here, escaped, and the place after its end."""
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
