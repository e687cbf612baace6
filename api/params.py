"""Typed query parameters: one model per endpoint, used for validation and for the OpenAPI document."""

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Annotated, Any, Literal, TypeVar
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from api.errors import bad_parameter
from gateway.carriers import carrier_names
from sinks.clickhouse.call_projection import Status
from sinks.clickhouse.phone_numbers import search_digits
from sinks.clickhouse.replay_projection import State
from sinks.clickhouse.usage_queries import GroupBy

_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_MS = re.compile(r"[0-9]{1,15}")
# A "+" in a query means a space: an ISO offset that was not percent-encoded arrives as "…T10:00:00 01:00".
_BLANK_OFFSET = re.compile(r" (?=[0-9]{2}:?[0-9]{2}$)")


def instant_ms(text: str, *, day_ends: bool = False, zone: tzinfo = UTC) -> int:
    """Parses a point in time and returns it as ms since the epoch.

    Accepts ms since the epoch, an ISO 8601 date-time (in `zone` unless it has an offset) and a date. A date means its
    first moment in `zone` or, with `day_ends`, the first moment after it. Raises ValueError.
    """
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
        return UTC  # works even if no time zones are installed
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # an unknown name, an invalid name, a directory
        return None


def _zone_name(name: object) -> object:
    if isinstance(name, str) and _zone(name) is None:
        raise ValueError("must be the name of a time zone like Europe/Berlin, or UTC")
    return name


def _read_there(text: object, name: str, zone: tzinfo) -> object:
    """Parses the time in a parameter; invalid text stays and is refused later under the parameter's name."""
    try:
        return instant_ms(text, day_ends=name == "to", zone=zone) if isinstance(text, str) else text
    except ValueError:
        return text


_TIME_PATTERN = (
    r"[0-9]{1,15}|[0-9]{4}-[0-9]{2}-[0-9]{2}"
    r"([T ][0-9]{2}(:?[0-9]{2}(:?[0-9]{2}([.,][0-9]+)?)?)?(Z|[+ -][0-9]{2}(:?[0-9]{2}(:?[0-9]{2})?)?)?)?"
)
_TIMES = ["2026-11-22", "2026-11-22T10:00:00Z", "1795341600000"]
_TIME_SCHEMA = WithJsonSchema({"type": "string", "pattern": f"^({_TIME_PATTERN})$", "examples": _TIMES})
_TIME_OR_REPLAY_SCHEMA = WithJsonSchema(
    {"type": "string", "pattern": f"^({_TIME_PATTERN}|rp-.+)$", "examples": [*_TIMES, "rp-1"]}
)
FromMs = Annotated[int, BeforeValidator(_from_ms), _TIME_SCHEMA]
ToMs = Annotated[int, BeforeValidator(_to_ms), _TIME_SCHEMA]


def _to_ms_or_replay(value: object) -> object:
    return value if isinstance(value, str) and value.startswith("rp-") else _from_ms(value)


_CARRIERS = carrier_names()
_ADDRESS = re.compile(r"(?:sips?|tel|client):\S+", re.IGNORECASE)
_QUOTES_AND_STOPS = ".,;:!?¿¡\"'()[]…“”„«»。，、！？"  # noqa: RUF001  # full-width characters on purpose
_MOST_WORDS = 20


def _known_carrier(name: str) -> str:
    if name not in _CARRIERS:
        raise ValueError(f"must be one of {', '.join(_CARRIERS)}")
    return name


def _searchable_number(text: str) -> str:
    if not search_digits(text) and not _ADDRESS.fullmatch(text):
        raise ValueError("must be a phone number with at least 3 digits, or an address like sip:alice@example.com")
    return text


def words_of(text: str) -> list[str]:
    """Returns the words of a text without the quotes and stops around them, each once."""
    return list(dict.fromkeys(word for piece in text.split() if (word := piece.strip(_QUOTES_AND_STOPS))))


def _searchable_words(text: str) -> str:
    if not 1 <= len(words_of(text)) <= _MOST_WORDS:
        raise ValueError(f"must have 1 to {_MOST_WORDS} words")
    return text


Carrier = Annotated[str, AfterValidator(_known_carrier), WithJsonSchema({"type": "string", "enum": _CARRIERS})]
Number = Annotated[str, AfterValidator(_searchable_number)]
Words = Annotated[str, AfterValidator(_searchable_words)]
_MOST_S = 10_000_000  # more than any call lasts

BeforeMs = Annotated[int | str, BeforeValidator(_to_ms_or_replay), _TIME_OR_REPLAY_SCHEMA]
"""Point in time as ms since the epoch, or a replay's id."""

TIME_FORMATS = "Ms since the epoch, an ISO date-time (UTC unless it has an offset) or a date."


class Query(BaseModel):
    """Base of all models: unknown parameters are refused, since a mistyped filter would silently be ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class NoQuery(Query):
    """No parameters."""


class CallFilters(Query):
    """Filters of calls that several endpoints have."""

    tenant: str | None = Field(
        None,
        max_length=500,
        description="Only calls of this tenant. A tenant's key only sees its own calls.",
    )
    carrier: Carrier | None = Field(None, description="Only calls of this carrier.")
    min_duration_s: int | None = Field(
        None, ge=0, le=_MOST_S, description="Only calls with at least this many seconds of audio."
    )
    max_duration_s: int | None = Field(
        None, ge=0, le=_MOST_S, description="Only calls with at most this many seconds of audio."
    )
    number: Number | None = Field(
        None,
        max_length=100,
        description="Only calls from or to this number, written in any usual way, with or without its country code.",
    )

    @field_validator("max_duration_s")
    @classmethod
    def _not_below_the_minimum(cls, value: int | None, info: ValidationInfo) -> int | None:
        least = info.data.get("min_duration_s")
        if value is not None and least is not None and value < least:
            raise ValueError("is below `min_duration_s`")
        return value


class WordFilters(CallFilters):
    """Filters of calls, with one for what was said."""

    text: Words | None = Field(
        None,
        max_length=200,
        description="Only calls in which each of these words occurs: in the current transcript or in its summary, in "
        "any case, also within a longer word.",
    )


class CallsQuery(WordFilters):
    """Filters and page of the list of calls."""

    limit: int = Field(50, ge=1, le=200, description="Calls per page.")
    cursor: str | None = Field(None, description="`next_cursor` of the previous page.")
    status: Status | None = Field(None, description="Only calls in this status.")
    since: FromMs | None = Field(None, description=f"Only calls that started at this time or later. {TIME_FORMATS}")
    until: ToMs | None = Field(
        None, description=f"Only calls that started before this time; a date includes its whole day. {TIME_FORMATS}"
    )
    q: str | None = Field(
        None,
        max_length=500,
        description="Only calls whose id or numbers contain this text. A number may be written in any usual way, with "
        "or without its country code: `+1 (555) 010-0123`, `5550100123`, `0015550100123`, `tel:…`, `sip:…@host`.",
    )


class RecordingQuery(Query):
    """Part of the call for a recording."""

    part: int = Field(
        1, ge=1, description="Part of the call; above 1 for a stream that began after the recording was closed."
    )


class PartQuery(Query):
    """Part of the call."""

    part: int | None = Field(
        None,
        ge=1,
        description="Only this part of the call, in the time of its recording. Default: all parts joined.",
    )


class SummaryQuery(PartQuery):
    """Part, or version of a part's result."""

    version: str | None = Field(None, description="A `version_id`: this version instead of the current one.")


class UseQuery(Query):
    """Version to make current."""

    version: str = Field(min_length=1, description="A `version_id` of the call's versions.")


class CompareQuery(Query):
    """Two versions of a part's transcript."""

    part: int = Field(1, ge=1, description="Part of the call.")
    before: str | None = Field(None, description="A `version_id`; default: the oldest version.")
    after: str | None = Field(None, description="A `version_id`; default: the current version.")


class TranscriptQuery(SummaryQuery):
    """Part or version, and format of a transcript."""

    format: Literal["json", "txt", "srt", "vtt"] = Field("json", description="Format of the transcript.")


class ReplaysQuery(Query):
    """Filter of the list of replays."""

    state: State | None = Field(None, description="Only replays in this state.")


class SearchQuery(CallFilters):
    """Search query, and filters of the calls that are searched."""

    q: str = Field(
        min_length=1,
        max_length=2_000,
        description="The query in plain words; results are found by meaning and by words.",
    )
    limit: int = Field(10, ge=1, le=100, description="Maximum number of hits.")
    group_by: Literal["call"] | None = Field(
        None, description="`call`: groups the hits by call, the call with the best hit first."
    )
    since: FromMs | None = Field(None, description=f"Only calls that started at this time or later. {TIME_FORMATS}")
    until: ToMs | None = Field(
        None, description=f"Only calls that started before this time; a date includes its whole day. {TIME_FORMATS}"
    )


class DeadLettersQuery(Query):
    """Filter of the list of dead letters."""

    all: bool = Field(False, description="Includes replayed and healed dead letters.")


class UsageQuery(WordFilters):
    """Filter and grouping of ledger lines. With a filter other than tenant and time, erased calls are left out."""

    from_: FromMs | None = Field(
        None, alias="from", description=f"Calls that started at this time or later. {TIME_FORMATS}"
    )
    to: ToMs | None = Field(
        None, description=f"Calls that started before this time; a date includes its whole day. {TIME_FORMATS}"
    )
    group_by: GroupBy = Field("day", description="Grouping of the sums. A call belongs to the day of its start.")
    time_zone: Annotated[str, BeforeValidator(_zone_name)] = Field(
        "UTC", description="Time zone of days in `from`, `to` and the groups, a name like `Asia/Tokyo`."
    )

    @model_validator(mode="before")
    @classmethod
    def _read_times_there(cls, given: Any) -> Any:
        """Reads dates and times without an offset in the requested time zone."""
        zone = _zone(given.get("time_zone", "UTC")) or UTC
        times = {name: _read_there(given[name], name, zone) for name in ("from", "to") if name in given}
        return {**given, **times}


Q = TypeVar("Q", bound=Query)


def parse_query(model: type[Q], given: Mapping[str, str]) -> Q:
    """Parses the parameters of a request; an empty value counts as missing.

    Raises ApiError 400 that names the first invalid parameter.
    """
    try:
        return model.model_validate({name: value for name, value in given.items() if value != ""})
    except ValidationError as error:
        problem = error.errors()[0]
        name = str(problem["loc"][0])
        if problem["type"] == "extra_forbidden":
            known = ", ".join(field.alias or name for name, field in model.model_fields.items())
            raise bad_parameter(name, f"is unknown here; known parameters: {known or 'none'}") from None
        if problem["type"] == "missing":
            raise bad_parameter(name, "is required") from None
        message = problem["msg"].removeprefix("Value error, ").removeprefix("Input ")
        raise bad_parameter(name, message) from None
