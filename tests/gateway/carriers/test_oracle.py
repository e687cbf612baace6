"""Tests that a start belongs to one carrier: no decoder accepts the start of another carrier."""

import json
from typing import Any

import pytest

from gateway.carriers import load_carriers
from gateway.carriers.base import CarrierError, Message, StreamStart
from gateway.simulator.encoders import load_dialects
from tests.support.carrier_messages import CALL_ID, CARRIERS, new_decoder, spoken

# SignalWire speaks Twilio's dialect: nothing tells them apart but the address they dial.
TWINS = {"signalwire": "twilio"}


def first_messages(name: str) -> list[str | bytes]:
    """Returns the messages of a carrier's socket up to its first audio."""
    audio = load_dialects()[name].formats[0]
    (messages, *_) = spoken(name, audio, {"inbound": [bytes(640)]})
    return messages[:3]


def dialect_of(start: dict[str, Any]) -> str | None:
    """Returns the carrier of a start, by its fields."""
    body = start.get("start", {})
    if "streamSid" in body and "callSid" in body:
        return "twilio"
    if "stream_id" in start and "call_control_id" in body:
        return "telnyx"
    if "streamId" in body and "callId" in body:
        return "plivo"
    if {"stream_sid", "call_sid", "account_sid"} <= set(body):
        return "exotel"
    return None


def understood(name: str, messages: list[str | bytes]) -> list[Message]:
    decoder = new_decoder(name)
    found: list[Message] = []
    for message in messages:
        try:
            found += decoder.text(message.encode()) if isinstance(message, str) else decoder.binary(message)
        except CarrierError:
            continue
    return found


def test_every_carrier_has_a_simulator() -> None:
    """Compares both registries: `audiotext call --carrier` offers exactly the carriers of the gateway."""
    assert sorted(load_carriers()) == sorted(load_dialects()) == CARRIERS
    assert len(CARRIERS) == 8


@pytest.mark.parametrize("name", ["twilio", "signalwire", "telnyx", "plivo", "exotel"])
def test_the_simulator_sends_documented_starts(name: str) -> None:
    """Identifies each simulated start by its fields: it is the simulated carrier."""
    starts = [json.loads(message) for message in first_messages(name) if isinstance(message, str)]
    (found,) = {dialect_of(start) for start in starts} - {None}
    assert found == TWINS.get(name, name)


@pytest.mark.parametrize("speaks", CARRIERS)
@pytest.mark.parametrize("listens", CARRIERS)
def test_no_decoder_accepts_the_start_of_another_carrier(speaks: str, listens: str) -> None:
    """Decodes each carrier's first messages with each decoder: a stream begins only with its own decoder.

    A call that another decoder accepts would be recorded as noise.
    """
    begun = [one for one in understood(listens, first_messages(speaks)) if isinstance(one, StreamStart)]
    if TWINS.get(speaks, speaks) == TWINS.get(listens, listens):
        assert [one.call_id for one in begun] == [CALL_ID]
    else:
        assert begun == []
