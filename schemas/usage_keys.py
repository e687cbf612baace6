"""Keys of ledger lines: the same key is charged once."""

from dataclasses import dataclass
from enum import StrEnum


class UsageKind(StrEnum):
    """Kinds of work that are charged."""

    TRANSCRIPTION = "transcription"
    SUMMARY = "summary"
    EMBEDDING = "embedding"


@dataclass(frozen=True, slots=True)
class UsageKey:
    """Key of a ledger line: the kind of work and the id of the job that did it. Its text is the key on the wire."""

    kind: UsageKind
    job_id: str

    def __str__(self) -> str:
        return f"{self.kind}_{self.job_id}"
