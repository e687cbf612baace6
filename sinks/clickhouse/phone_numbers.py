"""Telephone numbers in any usual spelling: which ones are the same, in Python and in SQL."""

import re

_MIN_DIGITS = 3  # of what is looked for: fewer say nothing about a number
_MIN_LOCAL_DIGITS = 7  # of a number without its country code
_AROUND = re.compile(r"^\s*(?:tel|sips?):|[@;].*$", re.IGNORECASE)  # scheme, host and parameters of an address
_NUMBER = re.compile(r"[+0-9\s().\-/\u2010-\u2015\u00a0]+")
_TRUNK_ZERO = re.compile(r"\(0\)")  # +44 (0)20 …
_NO_DIGIT = re.compile(r"[^0-9]")
_ABROAD = re.compile(r"^011(?=[0-9]{10})|^0+")  # the prefixes of other countries, and the trunk prefix

_SQL_DIGITS = r"replaceRegexpOne(replaceRegexpAll({column}, '(?i)^\\s*(tel|sips?):|[@;].*$|[^0-9]', ''), '^0+', '')"


def wanted_digits(text: str) -> str:
    """Returns the digits of a number that somebody looks for, without prefixes; "" if the text is not a number."""
    number = _AROUND.sub("", text)
    if not _NUMBER.fullmatch(number):
        return ""
    digits = _ABROAD.sub("", _NO_DIGIT.sub("", _TRUNK_ZERO.sub("", number)))
    return digits if len(digits) >= _MIN_DIGITS else ""


def fits(number: str, wanted: str) -> bool:
    """Returns whether a call's number has these digits (of `wanted_digits`): it contains them, or it is them without
    the country code."""
    if not wanted:
        return False
    digits = _NO_DIGIT.sub("", _AROUND.sub("", number)).lstrip("0")
    return wanted in digits or (len(digits) >= _MIN_LOCAL_DIGITS and wanted.endswith(digits))


def sql_fits(column: str, parameter: str) -> str:
    """The SQL condition that says the same as `fits`. parameter: the wanted digits, as ClickHouse's parameter."""
    digits = _SQL_DIGITS.format(column=column)
    return (
        f"{column} != ''"  # as of most events: nothing is computed then
        f" AND (position({digits}, {parameter}) > 0"
        f" OR (length({digits}) >= {_MIN_LOCAL_DIGITS} AND endsWith({parameter}, {digits})))"
    )
