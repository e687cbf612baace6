"""Base of all events, and models that several kinds of events contain."""

from decimal import Decimal
from typing import Annotated

from pydantic import BaseModel, ConfigDict, PlainSerializer

# Amounts are exact: a Decimal in Python, a string in JSON.
Money = Annotated[Decimal, PlainSerializer(str, return_type=str)]


class Frozen(BaseModel):
    """Base of all models: immutable, ignores fields that a newer producer added."""

    model_config = ConfigDict(frozen=True, extra="ignore", ser_json_inf_nan="null")


class Event(Frozen):
    """Fields of all events.

    event_id: deterministic; the same fact always has the same id.
    call_id: the carrier's call id. tenant: the owner of the call. part: 1, or more if a stream came after the call was
    closed.
    occurred_at_ms: time of the fact, ms since the epoch.
    config_hash: hash of the configuration that made the result; "" for an event without a result.
    replay_id: the replay that published the event; "" for live processing.
    """

    event_id: str
    call_id: str
    tenant: str
    part: int = 1
    occurred_at_ms: int
    config_hash: str = ""
    version: int = 1
    replay_id: str = ""


class ObjectRef(Frozen):
    """Claim check of an object in S3: key, SHA-256 (hex) and size in bytes."""

    key: str
    sha256: str
    size: int
