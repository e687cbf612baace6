"""Answers to signed webhooks, so that a repeated webhook has no second effect. Pure except for the clock.

A carrier repeats a webhook whose answer did not arrive. Somebody who has seen a signed webhook can repeat it as well,
because most signatures contain no time. Both repeat the same signed content and get the first answer again.
"""

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from gateway.carriers.base import IncomingRequest

_WINDOW_S = 24 * 3600.0
_MAX_ANSWERS = 20_000  # about 15 MB


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer to a webhook. text: "" for an answer without a body."""

    text: str
    content_type: str


class AnsweredWebhooks:
    """Answers of the last day, at most 20,000. Each gateway process has its own."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """clock: returns seconds that only grow."""
        self._clock = clock
        self._answers: OrderedDict[bytes, tuple[float, Answer]] = OrderedDict()

    def find(self, identity: bytes) -> Answer | None:
        """Returns the answer to the webhook with this identity, or None for a new webhook."""
        answered_s, answer = self._answers.get(identity, (0.0, None))
        return answer if answer is not None and self._clock() - answered_s < _WINDOW_S else None

    def put(self, identity: bytes, answer: Answer) -> None:
        """Stores the answer."""
        self._answers[identity] = (self._clock(), answer)
        if len(self._answers) > _MAX_ANSWERS:
            self._answers.popitem(last=False)


def identity_of(carrier: str, tenant: str, request: IncomingRequest) -> bytes:
    """Returns the identity of a webhook: a digest of the content that its signature covers.

    Headers are left out. Carriers' signatures do not cover them, so a repeated request could change them.
    """
    content = hashlib.sha256()
    for part in (carrier.encode(), tenant.encode(), request.target.encode(errors="surrogateescape"), request.body):
        content.update(len(part).to_bytes(8) + part)
    return content.digest()
