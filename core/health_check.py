"""Whether a provider can be used: what `audiotext doctor` asks of each."""

from typing import Protocol, runtime_checkable

from core.checks import Check

__all__ = ["Check", "HealthCheck"]


@runtime_checkable
class HealthCheck(Protocol):
    """A provider (speech to text, summary, embedding) that can tell whether it would work now.

    `check` reaches the provider and proves the credentials with a request that costs nothing (a list of models, a
    balance), or looks whether a local model is there and unharmed without loading it. It answers within 5 s and never
    raises for what may be wrong outside: away, refused, unknown model and the like are `Check(ok=False, …)` with the
    cure in it. Doctor allows it 10 s, and reports an exception as what is wrong.
    """

    async def check(self) -> Check: ...
