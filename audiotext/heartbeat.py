"""Tells whether a service's loop still comes round."""

import time


class Heartbeat:
    """The loop calls `beat` each time it comes round; whoever wants to know asks, from any thread.

    Before the first beat nothing is expected: a service that starts may have to wait for the log.
    """

    def __init__(self) -> None:
        self._last: float | None = None

    def beat(self) -> None:
        """The loop came round just now."""
        self._last = time.monotonic()

    @property
    def age_s(self) -> float:
        """Seconds since the last beat; 0 before the first."""
        last = self._last
        return 0.0 if last is None else time.monotonic() - last
