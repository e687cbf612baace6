"""Which version of a call's transcript or summary is meant, and making it the one that counts."""

import time

from core.errors import UserError
from schemas.events import VersionChosen
from schemas.ids import uuid_of
from sinks.clickhouse.call_projection import CallDoc
from sinks.clickhouse.result_versions import VersionDoc


class NoSuchVersionError(UserError):
    """The call has no such version. parameter: what named it."""

    def __init__(self, message: str, parameter: str) -> None:
        super().__init__(message)
        self.parameter = parameter


def version_of(call: CallDoc, version_id: str, parameter: str = "version") -> VersionDoc:
    """The version with that id. Raises NoSuchVersionError."""
    for version in versions_of(call):
        if version.version_id == version_id:
            return version
    raise NoSuchVersionError(f"the call has no version {version_id!r}", parameter)


def versions_of(call: CallDoc) -> list[VersionDoc]:
    """All versions of the call's parts."""
    return [version for part in call.parts for version in part.versions]


def to_compare(call: CallDoc, part: int, before: str | None, after: str | None) -> tuple[VersionDoc, VersionDoc]:
    """Two versions of a part's transcript; by default the oldest and the one that counts. Raises NoSuchVersionError."""
    made = [one for one in versions_of(call) if one.of == "transcript" and one.part == part]
    if not made:
        raise NoSuchVersionError(f"part {part} has no transcript", "part")
    first = version_of(call, before, "before") if before else made[0]
    second = version_of(call, after, "after") if after else next(one for one in made if one.current)
    for version, parameter in ((first, "before"), (second, "after")):
        if version.of != "transcript":
            raise NoSuchVersionError(f"{version.version_id} is not a transcript's", parameter)
    return first, second


def chosen(call: CallDoc, version: VersionDoc) -> VersionChosen:
    """The event that makes the version the one that counts from now on."""
    now_ms = time.time_ns() // 1_000_000
    return VersionChosen(
        event_id=uuid_of("version.chosen", call.tenant, call.id, version.part, version.version_id, now_ms),
        call_id=call.id,
        tenant=call.tenant,
        part=version.part,
        occurred_at_ms=now_ms,
        of=version.of,
        version_id=version.version_id,
    )
