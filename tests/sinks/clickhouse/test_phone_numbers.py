"""Telephone numbers in every usual spelling, in Python and in ClickHouse."""

import pytest

from core.settings import ClickHouseSettings
from sinks.clickhouse.client import Database
from sinks.clickhouse.phone_numbers import matches, search_digits, sql_matches

_AMERICAN = ("+15550100123", "15550100123", "0015550100123", "+1 555 010 0123", "sip:+15550100123@carrier.example")
_SPELLINGS = (
    *_AMERICAN,
    "+1 (555) 010-0123",
    "(555) 010-0123",
    "555.010.0123",
    "5550100123",
    "555-010-0123",
    "01115550100123",  # from another country of the same plan
    "tel:+1-555-010-0123",
    "SIP:+15550100123@carrier.example;transport=tls",
    "sips:5550100123@10.0.0.1",
    " 1 555 010 0123 ",  # a plus sign that was not escaped in a URL is a blank
    "010-0123",
)
_OTHERS = ("+15550100124", "+445550100123", "anonymous", "", "client:anna42", "sip:anna@carrier.example", "+4915550")

_PAIRS = [
    *((number, query, True) for number in _AMERICAN for query in _SPELLINGS),
    *((number, query, False) for number in _OTHERS for query in ("+15550100123", "15550100123")),
    ("+442079460958", "+44 (0)20 7946 0958", True),
    ("+442079460958", "020 7946 0958", True),
    ("02079460958", "+44 20 7946 0958", True),  # a carrier that leaves the country code out
    ("5550100123", "+1 (555) 010-0123", True),
    ("+1555", "+99 1555", False),  # too short to be a number without its country code
    ("client:anna42", "42", False),
]


@pytest.mark.parametrize(("number", "query", "same"), _PAIRS)
def test_a_number_is_found_in_any_spelling(number: str, query: str, *, same: bool) -> None:
    """Looks for numbers as people and carriers write them: the same number is found, another one is not."""
    assert matches(number, search_digits(query)) is same


@pytest.mark.parametrize("query", ["", "CA15550100123", "anna", "12", "sip:anna@carrier.example", "+"])
def test_what_is_not_a_number(query: str) -> None:
    """Looks for text that is not a number: it has no digits to look for, and only its letters count."""
    assert search_digits(query) == ""
    assert not matches("+15550100123", search_digits(query))


def test_clickhouse_finds_the_same_numbers(clickhouse: ClickHouseSettings) -> None:
    """Compares the SQL condition with the function over every pair: both find the same. They would otherwise drift
    apart, and the list and a replay of it would be about other calls."""
    database = Database(clickhouse)
    for number, query, same in _PAIRS:
        digits = search_digits(query)
        if not digits:
            continue
        condition = sql_matches("number", "{digits:String}")
        sql = f"SELECT toBool({condition}) AS found FROM (SELECT {{number:String}} AS number)"
        (row,) = database.query(sql, {"number": number, "digits": digits})
        assert bool(row["found"]) is same, (number, query)
