"""Query parameters: points in time in all their spellings, and refusals that name the parameter."""

import pytest

from api.errors import ApiError
from api.params import CallsQuery, NoQuery, RecordingQuery, SearchQuery, UsageQuery, instant_ms, parse_query

_DAY_MS = 86_400_000
_NOON = 1_795_348_800_000  # 2026-11-22T12:00:00Z


@pytest.mark.parametrize(
    "text",
    [
        "1795348800000",
        "2026-11-22T12:00:00Z",
        "2026-11-22T12:00:00",
        "2026-11-22 12:00",
        "2026-11-22T13:00:00+01:00",
        "2026-11-22T13:00:00 01:00",
        "2026-11-22T04:00:00.000-08:00",
    ],
)
def test_the_same_moment_in_every_spelling(text: str) -> None:
    """Reads noon UTC in each accepted form, also with the `+` that a query turns into a blank. If it failed, a bill
    would be cut at the wrong hour."""
    assert instant_ms(text) == _NOON


def test_a_date_is_its_whole_day() -> None:
    """From a date is from its first moment, to a date is to its end. If it failed, `from=X&to=X` would be empty
    instead of that day's bill."""
    query = parse_query(UsageQuery, {"from": "2026-11-22", "to": "2026-11-22"})
    assert query.from_ == _NOON - _DAY_MS // 2
    assert query.to == _NOON + _DAY_MS // 2


def test_a_date_is_a_day_of_the_time_zone_that_is_asked_for() -> None:
    """Asks for a day of the bill in Tokyo, which begins nine hours before UTC's. Without a zone days are UTC."""
    given = {"from": "2026-11-22", "to": "2026-11-22"}
    query = parse_query(UsageQuery, given | {"time_zone": "Asia/Tokyo"})
    assert query.from_ == _NOON - 21 * 3_600_000
    assert query.to == query.from_ + _DAY_MS
    assert parse_query(UsageQuery, given).time_zone == "UTC"
    clock = parse_query(UsageQuery, {"from": "2026-11-22T21:00:00", "time_zone": "Asia/Tokyo"})
    assert clock.from_ == _NOON
    new_york = parse_query(UsageQuery, {"from": "2026-11-01", "to": "2026-11-01", "time_zone": "America/New_York"})
    assert (new_york.to or 0) - (new_york.from_ or 0) == 25 * 3_600_000  # the clocks go back


@pytest.mark.parametrize("name", ["Moon/Base", "../etc/passwd", "Asia", "\0", "x" * 300])
def test_a_time_zone_that_does_not_exist_is_refused(name: str) -> None:
    """Asks for days of a place that has none: refused, by the parameter's name."""
    with pytest.raises(ApiError) as caught:
        parse_query(UsageQuery, {"time_zone": name, "from": "2026-11-22"})
    assert caught.value.body.error.parameter == "time_zone"


@pytest.mark.parametrize(
    "text", ["soon", "2026-13-01", "2026-11-22T99:00", "-5", "20261122T120000", "9999-12-31", "1" * 16]
)
def test_what_is_no_moment_is_refused(text: str) -> None:
    """Gives things that are no time (the last day of the calendar has no end). If it failed, a typo would widen the
    filter without a word, or end in a 500."""
    with pytest.raises(ApiError) as caught:
        parse_query(UsageQuery, {"to": text})
    assert caught.value.status == 400
    assert caught.value.body.error.parameter == "to"


@pytest.mark.parametrize(
    ("model", "given", "name"),
    [
        (CallsQuery, {"limit": "0"}, "limit"),
        (CallsQuery, {"limit": "201"}, "limit"),
        (CallsQuery, {"limit": "many"}, "limit"),
        (CallsQuery, {"status": "dead"}, "status"),
        (CallsQuery, {"sinse": "2026-11-22"}, "sinse"),
        (RecordingQuery, {"part": "0"}, "part"),
        (SearchQuery, {}, "q"),
        (SearchQuery, {"q": ""}, "q"),
        (UsageQuery, {"group_by": "moon"}, "group_by"),
        (UsageQuery, {"from_": "1"}, "from_"),
        (NoQuery, {"x": "1"}, "x"),
    ],
)
def test_refusals_name_the_parameter(model: type[CallsQuery], given: dict[str, str], name: str) -> None:
    """Gives one wrong parameter at a time. If it failed, the user would have to guess which one was meant."""
    with pytest.raises(ApiError) as caught:
        parse_query(model, given)
    error = caught.value.body.error
    assert (caught.value.status, error.code, error.parameter) == (400, "bad_parameter", name)
    assert name in error.message


def test_empty_means_not_given() -> None:
    """An HTML form sends every field, empty ones too. If it failed, `?from=&to=` would be an error."""
    assert parse_query(UsageQuery, {"from": "", "to": "", "group_by": ""}) == UsageQuery()
