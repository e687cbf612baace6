"""Query parameters, typed: one model per endpoint, from which both the checks and the OpenAPI document come."""

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Annotated, Any, Literal, TypeVar
from zoneinfo import ZoneInfo

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WithJsonSchema, model_validator

from api.errors import bad_parameter
from sinks.clickhouse.call_projection import Status
from sinks.clickhouse.queries import GroupBy
from sinks.clickhouse.replay_projection import State

_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_MS = re.compile(r"[0-9]{1,15}")
# A "+" in a query is a blank: an ISO offset that was not percent-encoded arrives as "…T10:00:00 01:00".
_BLANK_OFFSET = re.compile(r" (?=[0-9]{2}:?[0-9]{2}$)")


def instant_ms(text: str, *, day_ends: bool = False, zone: tzinfo = UTC) -> int:
    """A point in time as ms since the epoch: itself in ms, an ISO 8601 date-time (in `zone` unless it says otherwise)
    or a date. A date means its first moment there or, with `day_ends`, the first one after it. Raises ValueError."""
    if _MS.fullmatch(text):
        return int(text)
    try:
        if _DAY.fullmatch(text):
            day = date.fromisoformat(text) + timedelta(days=1 if day_ends else 0)
            moment = datetime(day.year, day.month, day.day, tzinfo=zone)
        elif text[:10].count("-") == 2:
            moment = datetime.fromisoformat(_BLANK_OFFSET.sub("+", text))
        else:
            raise ValueError(text)
    except (ValueError, OverflowError):
        raise ValueError(
            "must be ms since the epoch, a date like 2026-11-22 or an ISO date-time like 2026-11-22T10:00:00Z"
        ) from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=zone)).timestamp() * 1000)


def _from_ms(value: object) -> object:
    return instant_ms(value) if isinstance(value, str) else value


def _to_ms(value: object) -> object:
    return instant_ms(value, day_ends=True) if isinstance(value, str) else value


def _zone(name: str) -> tzinfo | None:
    if name == "UTC":
        return UTC  # also where no time zones are installed
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # an unknown name, one that is not a name, a directory
        return None


def _zone_name(name: object) -> object:
    if isinstance(name, str) and _zone(name) is None:
        raise ValueError("must be a time zone's name like Europe/Berlin, or UTC")
    return name


def _read_there(text: object, name: str, zone: tzinfo) -> object:
    """The time in a parameter; what cannot be read stays, and is refused under its own name."""
    try:
        return instant_ms(text, day_ends=name == "to", zone=zone) if isinstance(text, str) else text
    except ValueError:
        return text


_TIME_SCHEMA = WithJsonSchema({"type": "string", "examples": ["2026-11-22", "2026-11-22T10:00:00Z", "1795341600000"]})
FromMs = Annotated[int, BeforeValidator(_from_ms), _TIME_SCHEMA]
ToMs = Annotated[int, BeforeValidator(_to_ms), _TIME_SCHEMA]


def _to_ms_or_replay(value: object) -> object:
    return value if isinstance(value, str) and value.startswith("rp-") else _from_ms(value)


BeforeMs = Annotated[int | str, BeforeValidator(_to_ms_or_replay), _TIME_SCHEMA]
"""A point in time as ms since the epoch, or a replay's id."""

WHEN = "Ms since the epoch, an ISO date-time (UTC unless it says otherwise) or a date."


class Query(BaseModel):
    """Base: a parameter we do not know is refused, since a mistyped filter would give a wrong answer silently."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class NoQuery(Query):
    """No parameters."""


class CallsQuery(Query):
    """Which calls, newest first."""

    limit: int = Field(50, ge=1, le=200, description="Calls per page.")
    cursor: str | None = Field(None, description="`next_cursor` of the page before.")
    status: Status | None = Field(None, description="Only calls in this status.")
    since: FromMs | None = Field(None, description=f"Only calls that started then or later. {WHEN}")
    until: ToMs | None = Field(
        None, description=f"Only calls that started before; a date includes its whole day. {WHEN}"
    )
    q: str | None = Field(
        None,
        max_length=500,
        description="Only calls whose id or numbers contain this text. A number may be spelled in any usual way, with "
        "or without its country code: `+1 (555) 010-0123`, `5550100123`, `0015550100123`, `tel:…`, `sip:…@host`.",
    )


class RecordingQuery(Query):
    """Which part's recording."""

    part: int = Field(1, ge=1, description="Part of the call; more than 1 if a stream came after the call closed.")


class PartQuery(Query):
    """Which part."""

    part: int | None = Field(
        None, ge=1, description="Only this part of the call, in its recording's time. Without: all parts joined."
    )


class SummaryQuery(PartQuery):
    """Which part, or which version of one."""

    version: str | None = Field(None, description="This version, instead of the one that counts.")


class UseQuery(Query):
    """Which version is to count."""

    version: str = Field(min_length=1, description="A `version_id` of the call's versions.")


class CompareQuery(Query):
    """Which versions of a part's transcript."""

    part: int = Field(1, ge=1, description="Part of the call.")
    before: str | None = Field(None, description="A `version_id`; without, the oldest.")
    after: str | None = Field(None, description="A `version_id`; without, the one that counts.")


class TranscriptQuery(SummaryQuery):
    """Which part, in which form."""

    format: Literal["json", "txt", "srt", "vtt"] = Field("json", description="How the transcript is written.")


class ReplaysQuery(Query):
    """Which replays."""

    state: State | None = Field(None, description="Only replays in this state.")


class SearchQuery(Query):
    """What to look for."""

    q: str = Field(min_length=1, max_length=2_000, description="In plain words; what is meant counts, not the letters.")
    limit: int = Field(10, ge=1, le=100, description="Hits at most.")
    group_by: Literal["call"] | None = Field(
        None, description="`call`: the hits of a call come one after the other, the call with the best hit first."
    )


class LettersQuery(Query):
    """Which dead letters."""

    all: bool = Field(False, description="Those that were given back or healed, too.")


class UsageQuery(Query):
    """Which lines of the bill, and how to sum them."""

    from_: FromMs | None = Field(None, alias="from", description=f"Calls that started then or later. {WHEN}")
    to: ToMs | None = Field(None, description=f"Calls that started before; a date includes its whole day. {WHEN}")
    group_by: GroupBy = Field("day", description="What a line sums up. Days are by the call's start.")
    time_zone: Annotated[str, BeforeValidator(_zone_name)] = Field(
        "UTC", description="The time zone of days, in `from`, `to` and the groups: a name like `Asia/Tokyo`."
    )

    @model_validator(mode="before")
    @classmethod
    def _read_times_there(cls, given: Any) -> Any:
        """Reads dates and times without an offset in the time zone that is asked for."""
        zone = _zone(given.get("time_zone", "UTC")) or UTC
        times = {name: _read_there(given[name], name, zone) for name in ("from", "to") if name in given}
        return {**given, **times}


Q = TypeVar("Q", bound=Query)


def parse_query(model: type[Q], given: Mapping[str, str]) -> Q:
    """The parameters of a request; empty ones count as not given. Raises ApiError 400 that names the first bad one."""
    try:
        return model.model_validate({name: value for name, value in given.items() if value != ""})
    except ValidationError as error:
        problem = error.errors()[0]
        name = str(problem["loc"][0])
        if problem["type"] == "extra_forbidden":
            known = ", ".join(field.alias or name for name, field in model.model_fields.items())
            raise bad_parameter(name, f"is not a parameter here; there are: {known or 'none'}") from None
        if problem["type"] == "missing":
            raise bad_parameter(name, "is needed") from None
        message = problem["msg"].removeprefix("Value error, ").removeprefix("Input ")
        raise bad_parameter(name, message) from None
