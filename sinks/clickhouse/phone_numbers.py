"""Matches phone numbers in any usual notation, in Python and in SQL."""

import re

_MIN_DIGITS = 3  # of the searched text: fewer digits match too many numbers
_MIN_LOCAL_DIGITS = 7  # of a number without its country code
_URI_PARTS = re.compile(r"^\s*(?:tel|sips?):|[@;].*$", re.IGNORECASE)  # scheme, host and parameters of an address
_NUMBER = re.compile(r"[+0-9\s().\-/\u2010-\u2015\u00a0]+")
_TRUNK_ZERO = re.compile(r"\(0\)")  # +44 (0)20 …
_NO_DIGIT = re.compile(r"[^0-9]")
_DIAL_PREFIX = re.compile(r"^011(?=[0-9]{10})|^0+")  # international prefixes, and the trunk prefix

_SQL_DIGITS = r"replaceRegexpOne(replaceRegexpAll({column}, '(?i)^\\s*(tel|sips?):|[@;].*$|[^0-9]', ''), '^0+', '')"


def search_digits(text: str) -> str:
    """Returns the digits of a searched number without prefixes; "" if the text is not a number."""
    number = _URI_PARTS.sub("", text)
    if not _NUMBER.fullmatch(number):
        return ""
    digits = _DIAL_PREFIX.sub("", _NO_DIGIT.sub("", _TRUNK_ZERO.sub("", number)))
    return digits if len(digits) >= _MIN_DIGITS else ""


def matches(number: str, wanted: str) -> bool:
    """True if a call's number contains these digits (of `search_digits`), or equals them without the country code."""
    if not wanted:
        return False
    digits = _NO_DIGIT.sub("", _URI_PARTS.sub("", number)).lstrip("0")
    return wanted in digits or (len(digits) >= _MIN_LOCAL_DIGITS and wanted.endswith(digits))


def sql_matches(column: str, parameter: str) -> str:
    """Returns the SQL condition equal to `matches`. parameter: the wanted digits, as a ClickHouse parameter."""
    digits = _SQL_DIGITS.format(column=column)
    return (
        f"{column} != ''"  # false for most events, so that ClickHouse computes nothing for them
        f" AND (position({digits}, {parameter}) > 0"
        f" OR (length({digits}) >= {_MIN_LOCAL_DIGITS} AND endsWith({parameter}, {digits})))"
    )
