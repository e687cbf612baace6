"""Repairs of damaged JSON. Each damage was seen in messages that a carrier's users really sent."""

import json
import time

import pytest

from gateway.carriers.common.text_repair import INVALID_UTF8, LONE_SURROGATE, TEXT_AROUND_JSON, UNESCAPED_TEXT, repair


def repaired(data: bytes) -> tuple[object, tuple[str, ...]]:
    """The JSON value of the repaired message, and the kinds of its repairs."""
    found = repair(data)
    assert found is not None, data
    return json.loads(found.data), found.kinds


@pytest.mark.parametrize(
    ("damaged", "value", "kind"),
    [
        (b'{"name": "Andr\xe9 M\xfcller"}', {"name": "André Müller"}, INVALID_UTF8),
        ('{"name": "Müller"'.encode() + b', "note": "caf\xe9"}', {"name": "Müller", "note": "café"}, INVALID_UTF8),
        (b'{"note": "5 \x80"}', {"note": "5 €"}, INVALID_UTF8),  # Windows-1252
        (b'{"note": "a\x81b"}', {"note": "a\x81b"}, INVALID_UTF8),  # no character of Windows-1252
        (b'{"note": "\xed\xa0\xbd\xed\xb8\x80"}', {"note": "😀"}, INVALID_UTF8),  # surrogates in three bytes each
        (b'{"note": "cut \xed\xa0\xbd"}', {"note": "cut \ufffd"}, INVALID_UTF8),
        (rb'{"note": "cut \ud83d"}', {"note": "cut \ufffd"}, LONE_SURROGATE),
        (rb'{"note": "\ude00 cut"}', {"note": "\ufffd cut"}, LONE_SURROGATE),
        (rb'{"cut \ud83d": "yes"}', {"cut \ufffd": "yes"}, LONE_SURROGATE),
        (rb'{"notes": [["\ud83d"]]}', {"notes": [["\ufffd"]]}, LONE_SURROGATE),
        (b'hello {"note": "x"}', {"note": "x"}, TEXT_AROUND_JSON),
        (b'{log} {"note": "x"}', {"note": "x"}, TEXT_AROUND_JSON),
        (b'{"note": "x"}\x00\x00', {"note": "x"}, TEXT_AROUND_JSON),
        (b'{"note": "he said "no" twice"}', {"note": 'he said "no" twice'}, UNESCAPED_TEXT),
        (b'{"note": "so, "yes", or "no"!", "n": 1}', {"note": 'so, "yes", or "no"!', "n": 1}, UNESCAPED_TEXT),
        (b'{"note": ""quoted"", "n": {"m": "a"b"}}', {"note": '"quoted"', "n": {"m": 'a"b'}}, UNESCAPED_TEXT),
        (b'{"tags": ["a "b" c", "d"], "n": 1}', {"tags": ['a "b" c', "d"], "n": 1}, UNESCAPED_TEXT),
        (b'{"a "b" c": "d"}', {'a "b" c': "d"}, UNESCAPED_TEXT),
        (b'{"path": "C:\\calls\\new"}', {"path": "C:\\calls\new"}, UNESCAPED_TEXT),
        (b'{"note": "two\nlines\tand a tab"}', {"note": "two\nlines\tand a tab"}, UNESCAPED_TEXT),
        (rb'{"note": "escaped \"quote\" and "bare""}', {"note": 'escaped "quote" and "bare"'}, UNESCAPED_TEXT),
    ],
)  # fmt: skip
def test_a_damage_is_repaired(damaged: bytes, value: object, kind: str) -> None:
    """Repairs one damage each: the text around it is kept, and the kind of repair is named."""
    assert repaired(damaged) == (value, (kind,))


def test_several_damages_at_once() -> None:
    """Repairs a message with every damage: all kinds are named, in their order."""
    damaged = b'start: {"a": "caf\xe9", "b": "\\ud83d", "c": "say "hi""}'
    value = {"a": "café", "b": "\ufffd", "c": 'say "hi"'}
    assert repaired(damaged) == (value, (INVALID_UTF8, LONE_SURROGATE, TEXT_AROUND_JSON, UNESCAPED_TEXT))


def test_a_byte_order_mark_alone_is_no_other_damage() -> None:
    """Repairs a message that begins with a byte order mark, which JSON decoders refuse."""
    assert repaired(b'\xef\xbb\xbf{"a": 1}') == ({"a": 1}, (TEXT_AROUND_JSON,))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello",
        b"\xff\xfe\x00",
        b'{"a": 1}',  # nothing to repair
        b'{"a": ',
        b'["a"]',
        b'{"a": "\xe9", "n": 123456789012345678901234567890}'.replace(b"\xe9", b"x"),
        b'{"a":' * 50_000,
        b'x{"a":' + b'{"a":' * 50_000 + b"1" + b"}" * 50_001,
    ],
)
def test_what_cannot_be_repaired(data: bytes) -> None:
    """Gives it well-formed messages, garbage, messages cut short and endless nesting: None, and no exception."""
    assert repair(data) is None


@pytest.mark.parametrize("piece", [b'"', b'",', b'{"', b"\\", b'"a" ', b'{"a":"', b'", "', b" ", b'[" '])
def test_repairs_take_time_in_proportion_to_the_message(piece: bytes) -> None:
    """Repairs hostile messages of the greatest size a socket may send: each takes well under a second. A slow repair
    would hold up every other call of the process."""
    data = b'{"a": ' + piece * (65_536 // len(piece)) + b"}"
    began = time.process_time()
    repair(data)
    assert time.process_time() - began < 1.0


def test_what_is_repaired_can_be_stored() -> None:
    """Repairs a surrogate in every place that JSON has for text: the result is UTF-8 without surrogates, which Kafka,
    ClickHouse and S3 take."""
    found = repair(rb'{"\ud800": ["\udfff", {"x\udc00": "\ud83d\ude00"}]}')
    assert found is not None
    text = found.data.decode()
    assert json.loads(text) == {"\ufffd": ["\ufffd", {"x\ufffd": "😀"}]}
    json.dumps(json.loads(text), ensure_ascii=False).encode()
