"""Interface of the provider checks of `audiotext doctor`."""

from typing import Protocol, runtime_checkable

from core.checks import Check

__all__ = ["Check", "HealthCheck"]


@runtime_checkable
class HealthCheck(Protocol):
    """A provider (speech to text, summary, embedding) that can check itself.

    `check` connects to the provider and verifies the credentials with a request that costs nothing (a list of models,
    a balance). For a local model it verifies the files without loading them. It returns within 5 s and raises nothing
    for external problems: an unreachable server, a refused key, an unknown model and the like give
    `Check(ok=False, …)` with the fix in it. Doctor waits for 10 s and reports an exception as a failed check.
    """

    async def check(self) -> Check:
        """Returns the result of the check; see the class."""
