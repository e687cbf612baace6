"""Endpoints for versions of a call's transcript and summary: list, compare, and make one current."""

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
from pipelines.replay.switching import NoSuchReplayError, Target, VersionSwitcher
from pipelines.replay.transcript_diff import compare
from pipelines.replay.versions import NoSuchVersionError, chosen, to_compare, version_of, versions_of
from schemas.artifacts import Transcript
from schemas.topics import Topic
from sinks.clickhouse.call_projection import CallDoc
from sinks.clickhouse.result_versions import VersionDoc
from sinks.object_store import ObjectMissingError


async def list_versions(api_request: ApiRequest, query: NoQuery) -> web.StreamResponse:
    """Returns all versions of a call."""
    return json_response(_list(await api_request.call()))


async def use_version(api_request: ApiRequest, query: UseQuery) -> web.StreamResponse:
    """Makes a version current, by an event on the log, so that every reader of the log decides the same."""
    context, call = api_request.context, await api_request.call()
    try:
        event = chosen(call, version_of(call, query.version))
    except NoSuchVersionError as error:
        raise _not_found(error) from None
    await context.log(context.publish, Topic.CALL_EVENTS, [event])
    # Stores the event here as well, so that the response shows it without waiting for the consumer of the log.
    await context.clickhouse(context.calls.put_events, [event])
    return json_response(_list(await api_request.call()), status=202)


async def use_versions(api_request: ApiRequest, query: NoQuery) -> web.StreamResponse:
    """Makes versions of many calls current: those of a replay, or those that were current before a time."""
    wanted = await api_request.body(VersionsUse)
    if (wanted.replay is None) == (wanted.before is None):
        raise bad_parameter("replay", "set either `replay` or `before`")
    context = api_request.context
    calls = chosen_calls(api_request, wanted, every=True)  # the target selects calls, filters narrow them
    target = Target(replay=wanted.replay, before=wanted.before)
    switcher = VersionSwitcher(context.calls, context.replays, context.publish)
    try:
        found = await context.bulk_writes(
            switcher.switch, target, calls, tenant=api_request.tenant, dry_run=wanted.dry_run
        )
    except (NoSuchReplayError, NothingToReplayError) as error:
        raise ApiError(404, "not_found", str(error)) from None
    return json_response(VersionsSwitched(**asdict(found)), status=200 if wanted.dry_run else 202)


async def compare_versions(api_request: ApiRequest, query: CompareQuery) -> web.StreamResponse:
    """Compares two versions of a part's transcript."""
    call = await api_request.call()
    try:
        before, after = to_compare(call, query.part, query.before, query.after)
    except NoSuchVersionError as error:
        raise _not_found(error) from None
    texts = [await _stored(api_request, version) for version in (before, after)]
    found = await asyncio.to_thread(compare, *texts)
    return json_response(VersionComparison(call_id=call.id, before=_item(before), after=_item(after), **dict(found)))


async def _stored(api_request: ApiRequest, version: VersionDoc) -> Transcript:
    """Returns a version's transcript from S3. Raises ApiError."""
    context = api_request.context
    try:
        content = await context.s3(context.objects.get_verified, version.object)
    except ObjectMissingError:
        raise ApiError(404, "gone", "the transcript is no longer in the object store") from None
    return Transcript.model_validate_json(content)


def _not_found(error: NoSuchVersionError) -> ApiError:
    return ApiError(404, "not_found", str(error), parameter=error.parameter)


def _list(call: CallDoc) -> VersionList:
    return VersionList(call_id=call.id, versions=[_item(version) for version in versions_of(call)])


def _item(version: VersionDoc) -> VersionItem:
    return VersionItem(**{name: getattr(version, name) for name in VersionItem.model_fields})
