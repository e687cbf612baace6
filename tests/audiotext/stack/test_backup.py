"""A copy of a stopped data directory, as docs/operations.md describes, with all embedded servers."""

import asyncio
import json
import shutil
import subprocess
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition
from pydantic import SecretStr

from api.app import make_context
from api.auth.api_keys import create_key
from api.embedding import QueryEmbedder
from audiotext.stack.stack import Stack
from core.settings import KafkaSettings, Settings, load
from redpanda.client import EventProducer, connection_config
from redpanda.group_offsets import committed_offsets
from schemas.topics import Topic
from tests.api.conftest import ADMIN_KEY, WordEmbedder, bearer, client_of
from tests.support.call_events import Call
from tests.support.replay_installation import Installation

TENANT = "acme"
GROUP = "backup-test"


def _running(data_dir: Path) -> Stack:
    """Returns a started stack on the directory: all servers, and no services."""
    settings = load(data_dir=data_dir, admin_key=SecretStr(ADMIN_KEY))
    stack = Stack(settings, lambda _line: None, services={})
    stack.start()
    return stack


async def _answers(settings: Settings, words: WordEmbedder, call_id: str, key: str) -> list[Any]:
    """Returns everything that the API says about the call, its audio included."""
    context = replace(make_context(settings), embedder=QueryEmbedder(lambda: words, 10))
    paths = [
        "/v1/calls",
        f"/v1/calls/{call_id}",
        f"/v1/calls/{call_id}/transcript",
        f"/v1/calls/{call_id}/summary",
        f"/v1/calls/{call_id}/events",
        f"/v1/calls/{call_id}/recording",
        "/v1/usage?group_by=call",
        "/v1/search?q=refund+the+amount",
    ]
    found: list[Any] = []
    async with client_of(context) as client:
        for path in paths:
            answer = await client.get(path, headers=bearer(key))
            assert answer.status == 200, (path, await answer.text())
            found.append(await answer.read())
    assert json.loads(found[0])["calls"]
    hits = json.loads(found.pop())["results"]
    assert hits
    # A reloaded index may round the last digits of a score differently.
    return [*found, sorted((hit["call_id"], hit["start_ms"], hit["text"], round(hit["score"], 6)) for hit in hits)]


def _move_by_backup(data: Path, folder: Path) -> None:
    """Packs the directory, unpacks it in the folder, and deletes the original."""
    folder.mkdir()
    backup = folder / "audiotext-backup.tar.gz"
    subprocess.run(["tar", "-C", data.parent, "-czpf", backup, data.name], check=True)
    subprocess.run(["tar", "-C", folder, "-xzpf", backup], check=True)
    shutil.rmtree(data)


def _read_some(kafka: KafkaSettings) -> dict[tuple[str, int], int]:
    """Commits a position of a group that has read a part of the log, and returns it."""
    consumer = Consumer(connection_config(kafka) | {"group.id": GROUP})
    consumer.commit(offsets=[TopicPartition(Topic.CALL_EVENTS.value, 0, 1)], asynchronous=False)
    consumer.close()
    return {(Topic.CALL_EVENTS.value, 0): 1}


def _log_ends(kafka: KafkaSettings) -> dict[int, int]:
    """Returns the end of every partition of the events."""
    consumer = Consumer(connection_config(kafka) | {"group.id": GROUP})
    numbers = consumer.list_topics(timeout=10).topics[Topic.CALL_EVENTS.value].partitions
    ends = {
        number: consumer.get_watermark_offsets(TopicPartition(Topic.CALL_EVENTS.value, number), timeout=10)[1]
        for number in numbers
    }
    consumer.close()
    return ends


@pytest.mark.server
async def test_a_copy_of_a_stopped_directory_is_a_backup(tmp_path: Path) -> None:
    """Processes a call, stops the stack, packs and unpacks its data directory and starts a stack on the copy.

    Calls, bill, search and audio must be the same, the API key must be valid, and the log must have its
    records and the positions of its groups. A failure means that the documented backup loses data.
    """
    words, call_id = WordEmbedder(f"words-{uuid.uuid4().hex}"), f"CA{uuid.uuid4().hex}"
    stack = _running(tmp_path / "data")
    try:
        kafka = stack.settings.kafka
        installation = Installation(stack.settings, words)
        await asyncio.to_thread(installation.process, TENANT, call_id, 60_000)
        EventProducer(kafka).send(Topic.CALL_EVENTS, Call(call_id, TENANT).complete())
        positions = _read_some(kafka)
        key = create_key(stack.settings, TENANT, "backup")
        ends = _log_ends(kafka)
        assert sum(ends.values()) == 6
        before = await _answers(stack.settings, words, call_id, key)
    finally:
        stack.stop()

    _move_by_backup(tmp_path / "data", tmp_path / "elsewhere")

    stack = _running(tmp_path / "elsewhere" / "data")
    try:
        assert await _answers(stack.settings, words, call_id, key) == before
        assert _log_ends(stack.settings.kafka) == ends
        assert committed_offsets(stack.settings.kafka, GROUP) == positions
    finally:
        stack.stop()
