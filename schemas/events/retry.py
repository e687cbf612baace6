"""Events about work that is not done yet: retries, dead letters, and orders at a provider."""

import json
from typing import Literal

from schemas.events.base import Event

_MOST_PAYLOAD_BYTES = 900_000  # the log's limit for the whole record is 1,000,000
_CUT_TO = 1_000
CUT = "\ufffd"
"""Mark in the payload of a dead letter that differs from the record: such a dead letter cannot be replayed."""


def payload_of(record: str) -> str:
    """Returns a record as the payload of a dead letter: cut if the log would refuse the dead letter otherwise."""
    fits = len(json.dumps(record, ensure_ascii=False).encode()) <= _MOST_PAYLOAD_BYTES
    return record if fits else record[:_CUT_TO] + CUT


class StageFailed(Event):
    """Dead letter: a stage gave up on a call's work. origin_*: position of the input on the log.

    payload: JSON of the input event, which `audiotext dlq replay` sends again; see `payload_of`.
    """

    type: Literal["stage.failed"] = "stage.failed"
    stage: str
    error_class: Literal["retry", "quota", "permanent"]
    error: str
    attempts: int
    origin_topic: str
    origin_partition: int
    origin_offset: int
    payload: str


class LetterReplayed(Event):
    """A dead letter was replayed: its payload is on its origin topic again. Published on the topic of dead letters.

    letter_id: the dead letter's event_id.
    """

    type: Literal["letter.replayed"] = "letter.replayed"
    letter_id: str


class RetryScheduled(Event):
    """An attempt of a stage failed and the next one is scheduled. Published on the stage's retry topic.

    payload: JSON of the input event. attempts: failed attempts so far. due_at_ms: earliest time of the next attempt (ms
    since the epoch). error: error of the last attempt. origin_*: first position of the input on the log.
    """

    type: Literal["retry.scheduled"] = "retry.scheduled"
    stage: str
    attempts: int
    due_at_ms: int
    error: str
    origin_topic: str
    origin_partition: int
    origin_offset: int
    payload: str


class OrderNotice(Event):
    """A provider reported that an order is done or failed. call_id, tenant: "", since the provider knows neither.

    remote_id: the provider's id of the order. status: in the provider's words.
    """

    type: Literal["order.notice"] = "order.notice"
    provider: str
    remote_id: str
    status: str
