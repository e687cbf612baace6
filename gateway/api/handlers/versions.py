"""Versions of a call's transcript and summary: which there are, how two differ, which one counts."""

import asyncio
import time

from aiohttp import web

from gateway.api.endpoint import Asked
from gateway.api.errors import ApiError, bad_parameter
from gateway.api.models import VersionComparison, VersionItem, VersionList
from gateway.api.params import CompareQuery, NoQuery, UseQuery
from gateway.api.responses import json_response
from pipelines.replay.comparing import compare
from schemas.artifacts import Transcript
from schemas.events import VersionChosen
from schemas.ids import uuid_of
from schemas.topics import Topic
from sinks.clickhouse.calls import CallDoc
from sinks.clickhouse.versions import VersionDoc
from sinks.objects import ObjectMissingError


async def list_versions(asked: Asked, query: NoQuery) -> web.StreamResponse:
    """All versions of a call."""
    return json_response(_list(await asked.call()))


async def use_version(asked: Asked, query: UseQuery) -> web.StreamResponse:
    """Makes a version the one that counts: a record on the log, so that whoever reads it again decides the same."""
    services, call = asked.services, await asked.call()
    wanted = version_of(call, query.version)
    now_ms = time.time_ns() // 1_000_000
    event = VersionChosen(
        event_id=uuid_of("version.chosen", call.tenant, call.id, wanted.part, wanted.version_id, now_ms),
        call_id=call.id,
        tenant=call.tenant,
        part=wanted.part,
        occurred_at_ms=now_ms,
        of=wanted.of,
        version_id=wanted.version_id,
    )
    await services.log(services.tell, Topic.CALL_EVENTS, [event])
    # It is on the log; that the answer shows it, too, must not wait for who reads it there.
    await services.clickhouse(services.calls.put_event, event)
    return json_response(_list(await asked.call()), status=202)


async def compare_versions(asked: Asked, query: CompareQuery) -> web.StreamResponse:
    """How one version of a part's transcript differs from another."""
    call = await asked.call()
    of_part = [version for version in _transcripts(call) if version.part == query.part]
    if not of_part:
        raise ApiError(404, "not_found", f"part {query.part} has no transcript", parameter="part")
    before = version_of(call, query.before) if query.before else of_part[0]
    after = version_of(call, query.after) if query.after else next(one for one in of_part if one.current)
    texts = [await stored(asked, version) for version in (before, after)]
    found = await asyncio.to_thread(compare, *texts)
    return json_response(VersionComparison(call_id=call.id, before=_item(before), after=_item(after), **dict(found)))


def version_of(call: CallDoc, version_id: str) -> VersionDoc:
    """The version with that id. Raises ApiError 404."""
    for part in call.parts:
        for version in part.versions:
            if version.version_id == version_id:
                return version
    raise ApiError(404, "not_found", f"the call has no version {version_id!r}", parameter="version")


async def stored(asked: Asked, version: VersionDoc) -> Transcript:
    """A version's transcript from S3. Raises ApiError."""
    if version.of != "transcript":
        raise bad_parameter("version", "is not a transcript's")
    services = asked.services
    try:
        content = await services.s3(services.objects.get_verified, version.object)
    except ObjectMissingError:
        raise ApiError(404, "gone", "the transcript is not in the object store any more") from None
    return Transcript.model_validate_json(content)


def _transcripts(call: CallDoc) -> list[VersionDoc]:
    return [version for part in call.parts for version in part.versions if version.of == "transcript"]


def _list(call: CallDoc) -> VersionList:
    return VersionList(call_id=call.id, versions=[_item(version) for part in call.parts for version in part.versions])


def _item(version: VersionDoc) -> VersionItem:
    return VersionItem(**{name: getattr(version, name) for name in VersionItem.model_fields})
