"""Calls as they go on: what the log says of them, measured and told."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from aiohttp import web

from api.app import make_context
from api.auth.api_keys import list_keys, revoke_key
from api.auth.authentication import AUTHENTICATOR_CHAIN
from api.auth.key_authenticator import Principal
from api.auth.scope import Scope
from api.endpoint import ApiContext
from api.live.levels import SILENCE_DB, LevelMeter
from core.audio.g711 import encode_ulaw
from core.settings import KafkaSettings, Settings
from schemas.media import MediaRecord, RecordType
from schemas.topics import Topic
from tests.api.conftest import NOON, Client, Put, Tenant, client_of, stream_started
from tests.support.call_documents import CallEvents
from tests.support.live_media import LiveCall


def _record(samples: np.ndarray[Any, np.dtype[np.int16]], kind: RecordType = RecordType.MEDIA) -> MediaRecord:
    return MediaRecord(
        type=kind,
        call_id="c",
        tenant="t",
        carrier="twilio",
        stream_id="s",
        at_ms=0,
        track="inbound",
        payload=bytes(encode_ulaw(samples)),
    )


def test_levels() -> None:
    """Measures silence, a loud and a soft tone. If it failed, a meter would stand still while somebody speaks, or move
    while nobody does."""
    levels = LevelMeter(limit=1)
    tone = np.sin(np.arange(4000) * 0.7)
    assert levels.measure(_record(np.zeros(4000, np.int16))) == [SILENCE_DB] * 5
    (loud,) = set(levels.measure(_record((tone * 32_000).astype(np.int16))))
    (soft,) = set(levels.measure(_record((tone * 3_200).astype(np.int16))))
    assert loud == -3
    assert soft == -23
    other = replace(_record(tone.astype(np.int16)), call_id="other")
    assert levels.measure(other) == []  # one track at most, as bounded above
    assert levels.measure(_record(np.zeros(0, np.int16), RecordType.EOS)) == []
    assert levels.measure(other)  # now that the first has ended


def test_levels_of_two_tenants_do_not_mix() -> None:
    """Measures calls of two tenants with the same ids of call and stream; the first one ends: the second must keep its
    decoder, which some codecs need, so the levels stay within the limit of two tracks."""
    levels = LevelMeter(limit=2)
    first, second = (replace(_record(np.zeros(800, np.int16)), tenant=name) for name in ("a", "b"))
    third = replace(first, call_id="other")
    assert levels.measure(first)
    assert levels.measure(second)
    assert levels.measure(third) == []
    levels.measure(replace(first, type=RecordType.EOS))
    assert levels.measure(third)
    assert levels.measure(first) == []
    assert levels.measure(second)


async def test_watching(
    services: ApiContext, settings: Settings, kafka: KafkaSettings, put: Put, new_tenant: Callable[[], Tenant]
) -> None:
    """Watches as one tenant while calls of two go on, end of a third, and revokes the key. If it failed, live calls
    would not be seen, another's would, or a revoked key would go on listening."""
    mine, other = new_tenant(), new_tenant()
    call_id = f"CA{uuid.uuid4().hex}"
    live = make_context(settings.model_copy(update={"kafka": kafka})).live
    put.events(stream_started(mine.name, call_id, NOON), stream_started(other.name, call_id, NOON))
    lines = [LiveCall(kafka, CallEvents(tenant.name, call_id, NOON)) for tenant in (other, mine)]
    async with client_of(replace(services, live=live)) as api, asyncio.timeout(60):
        response = await api.get("/v1/live", headers=mine.auth)
        assert response.content_type == "text/event-stream"
        events = _events(response)
        kind, call = await anext(events)
        assert (kind, call["id"], call["tenant"], call["status"]) == ("call", call_id, mine.name, "live")
        talking = asyncio.create_task(_talk(lines))
        kind, said = await anext(events)
        talking.cancel()
        assert kind == "levels"
        assert {one["tenant"] for one in said["levels"]} == {mine.name}
        assert {one["track"] for one in said["levels"]} == {"inbound", "outbound"}
        assert all(SILENCE_DB <= level <= 0 for one in said["levels"] for level in one["levels_db"])
        put.stage(mine.name, call_id, "recorded")
        lines[1].tell(Topic.CALL_EVENTS, stream_started(mine.name, call_id, NOON))
        kinds = [(kind, body.get("status")) async for kind, body in _until(events, "call")]
        assert kinds[-1] == ("call", "recorded")
        for key in list_keys(settings):
            if key.tenant == mine.name:
                revoke_key(settings, key.id)
        assert [kind async for kind, _ in events if kind != "levels"] == []  # it has ended


async def test_who_is_moved_to_another_tenant_sees_no_more_of_the_first(
    services: ApiContext,
    settings: Settings,
    kafka: KafkaSettings,
    new_tenant: Callable[[], Tenant],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Watches, and is another tenant's by the time it is asked again who watches (a key cannot move, a person's session
    can). The stream ends. If it went on, somebody who has changed sides would listen to the old side's calls for as
    long as the page stays open."""
    mine, other = new_tenant(), new_tenant()
    live = make_context(settings.model_copy(update={"kafka": kafka})).live
    monkeypatch.setattr("api.handlers.live._REAUTHENTICATE_S", 0.2)
    async with client_of(replace(services, live=live)) as api, asyncio.timeout(30):
        response = await api.get("/v1/live", headers=mine.auth)
        door = api.app[AUTHENTICATOR_CHAIN]
        principal = door.principal

        async def moved(request: web.Request) -> Principal:
            return replace(await principal(request), scope=Scope.of(other.name))

        monkeypatch.setattr(door, "principal", moved)
        assert [event async for event in _events(response)] == []  # it has ended


async def _talk(lines: list[LiveCall]) -> None:
    while True:
        for line in lines:
            await asyncio.to_thread(line.say)
        await asyncio.sleep(0.1)


async def _events(response: Any) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    kind = ""
    async for line in response.content:
        name, _, value = line.decode().strip().partition(": ")
        if name == "event":
            kind = value
        elif name == "data":
            yield kind, json.loads(value)


async def _until(
    events: AsyncIterator[tuple[str, dict[str, Any]]], wanted: str
) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    async for kind, body in events:
        yield kind, body
        if kind == wanted:
            return


async def test_nobody_without_a_log(api: Client, tenant: Tenant) -> None:
    """Watches where no log is configured. If it failed, a page would wait for ever."""
    response = await api.get("/v1/live", headers=tenant.auth)
    assert response.status == 503
