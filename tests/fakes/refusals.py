"""Answers that a fake server gives instead of its own."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass
class Refusal:
    """An answer instead of the server's own, to requests whose "METHOD /path" matches; status 0: none, the connection
    is cut. taken: the request has its effect all the same."""

    request: str
    status: int
    error_type: str
    message: str
    headers: dict[str, str] = field(default_factory=dict)
    times: int = 1
    taken: bool = False


def due(refusals: Sequence[Refusal], request: str) -> Refusal | None:
    """The refusal for that "METHOD /path", if there is one left; it is used up."""
    for refusal in refusals:
        if refusal.times and re.fullmatch(refusal.request, request):
            refusal.times -= 1
            return refusal
    return None
