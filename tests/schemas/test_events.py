"""Events: exact money, tolerant readers."""

from decimal import Decimal

import pytest
from pydantic import ValidationError

from schemas.events import UsageRecorded, parse_event


def _usage(**changes: object) -> UsageRecorded:
    fields: dict[str, object] = {
        "event_id": "e",
        "call_id": "CA1",
        "tenant": "acme",
        "occurred_at_ms": 1,
        "key": "transcription_x",
        "kind": "transcription",
        "units": 81,
        "duration_ms": 98_000,
        "provider": "whisper",
        "model": "base",
        "provider_cost": Decimal("0.000048"),
        "price": Decimal("0.016200"),
        "currency": "USD",
        "call_started_at_ms": 1,
    }
    return UsageRecorded.model_validate(fields | changes)


def test_money_travels_as_text() -> None:
    """A price is a string in JSON and the same Decimal after it, trailing zeros included: a float would not be."""
    event = _usage(price="0.100")
    assert '"price":"0.100"' in event.model_dump_json()
    again = parse_event(event.model_dump_json())
    assert isinstance(again, UsageRecorded)
    assert str(again.price) == "0.100"


def test_a_newer_event_is_read_by_an_older_reader() -> None:
    """A field nobody here knows is passed over, so that producers can be upgraded before consumers."""
    text = _usage().model_dump_json()[:-1] + ',"from_the_future":{"a":1}}'
    assert parse_event(text) == _usage()


@pytest.mark.parametrize("text", ["", "null", "{}", '{"type":"nobody.knows"}', '{"type":"usage.recorded"}'])
def test_what_is_no_event_is_refused(text: str) -> None:
    """Consumers rely on ValidationError, and nothing else, to tell a broken record from a broken program."""
    with pytest.raises(ValidationError):
        parse_event(text)
