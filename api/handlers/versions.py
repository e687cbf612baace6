"""Versions of a call's transcript and summary: which there are, how two differ, which one counts."""

import asyncio
from dataclasses import asdict

from aiohttp import web

from api.endpoint import ApiRequest
from api.errors import ApiError, bad_parameter
from api.handlers.replays import chosen_calls
from api.params import CompareQuery, NoQuery, UseQuery
from api.replay_models import VersionComparison, VersionItem, VersionList, VersionsSwitched, VersionsUse
from api.responses import json_response
from pipelines.replay.selection import NothingToReplayError
from pipelines.replay.switching import NoSuchReplayError, Switchboard, Target
from pipelines.replay.transcript_diff import compare
from pipelines.replay.versions import NoSuchVersionError, chosen, to_compare, version_of, versions_of
from schemas.artifacts import Transcript
from schemas.topics import Topic
from sinks.clickhouse.call_projection import CallDoc
from sinks.clickhouse.result_versions import VersionDoc
from sinks.object_store import ObjectMissingError


async def list_versions(asked: ApiRequest, query: NoQuery) -> web.StreamResponse:
    """All versions of a call."""
    return json_response(_list(await asked.call()))


async def use_version(asked: ApiRequest, query: UseQuery) -> web.StreamResponse:
    """Makes a version the one that counts: a record on the log, so that whoever reads it again decides the same."""
    services, call = asked.services, await asked.call()
    try:
        event = chosen(call, version_of(call, query.version))
    except NoSuchVersionError as error:
        raise _not_found(error) from None
    await services.log(services.tell, Topic.CALL_EVENTS, [event])
    # It is on the log; that the answer shows it, too, must not wait for who reads it there.
    await services.clickhouse(services.calls.put_events, [event])
    return json_response(_list(await asked.call()), status=202)


async def use_versions(asked: ApiRequest, query: NoQuery) -> web.StreamResponse:
    """Makes versions of many calls count: those of a replay, or those that counted before a time."""
    wanted = await asked.body(VersionsUse)
    if (wanted.replay is None) == (wanted.before is None):
        raise bad_parameter("replay", "say either `replay` or `before`")
    services = asked.services
    calls = chosen_calls(asked, wanted, every=True)  # the target says which calls; filters leave some of them out
    target = Target(replay=wanted.replay, before=wanted.before)
    board = Switchboard(services.calls, services.replays, services.tell)
    try:
        found = await services.switching(board.switch, target, calls, tenant=asked.tenant, dry_run=wanted.dry_run)
    except (NoSuchReplayError, NothingToReplayError) as error:
        raise ApiError(404, "not_found", str(error)) from None
    return json_response(VersionsSwitched(**asdict(found)), status=200 if wanted.dry_run else 202)


async def compare_versions(asked: ApiRequest, query: CompareQuery) -> web.StreamResponse:
    """How one version of a part's transcript differs from another."""
    call = await asked.call()
    try:
        before, after = to_compare(call, query.part, query.before, query.after)
    except NoSuchVersionError as error:
        raise _not_found(error) from None
    texts = [await _stored(asked, version) for version in (before, after)]
    found = await asyncio.to_thread(compare, *texts)
    return json_response(VersionComparison(call_id=call.id, before=_item(before), after=_item(after), **dict(found)))


async def _stored(asked: ApiRequest, version: VersionDoc) -> Transcript:
    """A version's transcript from S3. Raises ApiError."""
    services = asked.services
    try:
        content = await services.s3(services.objects.get_verified, version.object)
    except ObjectMissingError:
        raise ApiError(404, "gone", "the transcript is not in the object store any more") from None
    return Transcript.model_validate_json(content)


def _not_found(error: NoSuchVersionError) -> ApiError:
    return ApiError(404, "not_found", str(error), parameter=error.parameter)


def _list(call: CallDoc) -> VersionList:
    return VersionList(call_id=call.id, versions=[_item(version) for version in versions_of(call)])


def _item(version: VersionDoc) -> VersionItem:
    return VersionItem(**{name: getattr(version, name) for name in VersionItem.model_fields})
