"""Scripted answers that replace those of a fake server."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass
class Refusal:
    """Answer to requests whose "METHOD /path" matches. status 0: no answer, the connection is cut.

    taken: the request has its effect nevertheless.
    """

    request: str
    status: int
    error_type: str
    message: str
    headers: dict[str, str] = field(default_factory=dict)
    times: int = 1
    taken: bool = False


def due(refusals: Sequence[Refusal], request: str) -> Refusal | None:
    """Returns the next refusal for that "METHOD /path", if there is one, and uses it up."""
    for refusal in refusals:
        if refusal.times and re.fullmatch(refusal.request, request):
            refusal.times -= 1
            return refusal
    return None
