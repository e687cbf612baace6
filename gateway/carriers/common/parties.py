"""Parties of a call: the first source that names them decides.

The sources are the stream's start, its parameters, the voice request that the stream answers, and status webhooks.
"""

import re
from collections.abc import Mapping

import msgspec

from gateway.carriers.base import FROM_PARAMETER, MAX_ID_LENGTH, TO_PARAMETER, StreamStart

# Names in webhooks, in lower case.
_FROM = ("from", "from_number", "callfrom", "caller", "caller_number")
_TO = ("to", "to_number", "callto", "called", "called_number")

# Names in a stream's parameters. The user chooses these, so only values that can be called count.
_FROM_PARAMETERS = (FROM_PARAMETER, "from", "from_number")
_TO_PARAMETERS = (TO_PARAMETER, "to", "to_number")
_CALLABLE = re.compile(r"\+?[0-9\s().\-/]{3,}|(?:tel|sips?|client):.+", re.IGNORECASE)


def parties(fields: Mapping[str, str]) -> tuple[str, str]:
    """Returns caller and callee from a webhook's fields, with any of the known names; "" if one is missing."""
    by_name = _by_name(fields)
    return _first(by_name, _FROM), _first(by_name, _TO)


def with_parties(start: StreamStart) -> StreamStart:
    """Returns a stream's start with the parties from its parameters, if it does not name them itself.

    The parameters that only carry the parties are removed.
    """
    callable_values = {name: value for name, value in _by_name(start.custom).items() if _CALLABLE.fullmatch(value)}
    return msgspec.structs.replace(
        start,
        from_number=start.from_number or _first(callable_values, _FROM_PARAMETERS),
        to_number=start.to_number or _first(callable_values, _TO_PARAMETERS),
        custom={k: v for k, v in start.custom.items() if k not in (FROM_PARAMETER, TO_PARAMETER)},
    )


def _by_name(fields: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value.strip() for name, value in fields.items()}


def _first(by_name: Mapping[str, str], names: tuple[str, ...]) -> str:
    return next((by_name[name] for name in names if by_name.get(name)), "")[:MAX_ID_LENGTH]
