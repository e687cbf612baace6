"""Tests of repeated webhooks: the first answer again for a day, and a new answer for different content."""

import dataclasses

from gateway.admission.repeats import Answer, AnsweredWebhooks, identity_of
from gateway.carriers.base import IncomingRequest

REQUEST = IncomingRequest("/v1/voice/twilio", {"I-Twilio-Idempotency-Token": "a"}, body=b"CallSid=c-1", at_s=1.0)


def test_signed_content_identifies_a_webhook() -> None:
    """Changes what a carrier signs, and what it does not sign: only the former makes it another webhook."""
    identity = identity_of("twilio", "acme", REQUEST)
    others = [
        identity_of("signalwire", "acme", REQUEST),
        identity_of("twilio", "other", REQUEST),
        identity_of("twilio", "acme", dataclasses.replace(REQUEST, target="/v1/voice/twilio?a=1")),
        identity_of("twilio", "acme", dataclasses.replace(REQUEST, body=b"CallSid=c-2")),
        identity_of("twilio", "acme", dataclasses.replace(REQUEST, target="/v1/voice/twilioC", body=b"allSid=c-1")),
    ]
    assert len({identity, *others}) == 6
    repeated = dataclasses.replace(REQUEST, headers={"I-Twilio-Idempotency-Token": "b"}, peer="192.0.2.9", at_s=9.0)
    assert identity_of("twilio", "acme", repeated) == identity


def test_answers_are_kept_for_a_day() -> None:
    """Moves the clock to the end of the day: the answer is found until then, and not afterwards."""
    now = [0.0]
    answered = AnsweredWebhooks(lambda: now[0])
    answered.put(b"1", Answer("<Response/>", "application/xml"))
    now[0] = 86_399
    assert answered.find(b"1") == Answer("<Response/>", "application/xml")
    assert answered.find(b"2") is None
    now[0] = 86_400
    assert answered.find(b"1") is None


def test_memory_is_bounded() -> None:
    """Stores more answers than the limit: the oldest is forgotten, the newest are kept."""
    answered = AnsweredWebhooks()
    for number in range(20_001):
        answered.put(number.to_bytes(4), Answer("", ""))
    assert answered.find((0).to_bytes(4)) is None
    assert answered.find((1).to_bytes(4)) is not None
    assert answered.find((20_000).to_bytes(4)) is not None
