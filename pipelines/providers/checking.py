"""Whether a system that is configured can be used: what `audiotext doctor` asks of every provider and store."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class Check:
    """One line of `audiotext doctor`.

    name: what was looked at, as a user knows it ("Soniox"). detail: what was found, version or model included; never a
    secret. cure: what to do, naming the setting; empty when ok.
    """

    name: str
    ok: bool
    detail: str
    cure: str = ""


@runtime_checkable
class Checkable(Protocol):
    """A provider (speech to text, summary, embedding) that can tell whether it would work now.

    `check` reaches the provider and proves the credentials with a request that costs nothing (a list of models, a
    balance), or looks whether a local model is there and unharmed without loading it. It answers within 5 s and never
    raises for what may be wrong outside: away, refused, unknown model and the like are `Check(ok=False, …)` with the
    cure in it. Doctor allows it 10 s, and reports an exception as what is wrong.
    """

    async def check(self) -> Check: ...
