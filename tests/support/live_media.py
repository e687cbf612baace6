"""A live call, as the gateway puts it on the log."""

import numpy as np
from confluent_kafka import Producer

from core.audio.g711 import encode_ulaw
from core.settings import KafkaSettings
from redpanda.client import producer_config
from schemas.events import Event
from schemas.media import MediaRecord, RecordType, to_headers
from schemas.topics import Topic
from tests.support.call_documents import CallEvents
from tests.support.demo_calls import demo_call

_RECORD_MS = 500


class LiveCall:
    """Puts the audio of a demo call on the log, in pieces of half a second."""

    def __init__(self, kafka: KafkaSettings, told: CallEvents, name: str = "broadband_outage") -> None:
        self._producer = Producer(producer_config(kafka))
        self._told = told
        self._samples = demo_call(name).samples
        self._said_ms = 0

    def tell(self, topic: Topic, event: Event) -> None:
        """Puts an event on the log."""
        self._producer.produce(topic, key=event.call_id, value=event.model_dump_json())
        assert self._producer.flush(10) == 0

    def say(self, records: int = 1) -> None:
        """Puts that many half seconds of both tracks on the log."""
        for _ in range(records):
            start = self._said_ms * 8 % (len(self._samples) - _RECORD_MS * 8)
            piece = self._samples[start : start + _RECORD_MS * 8]
            for number, track in enumerate(("inbound", "outbound")):
                record = MediaRecord(
                    type=RecordType.MEDIA,
                    call_id=self._told.call_id,
                    tenant=self._told.tenant,
                    carrier=self._told.carrier,
                    stream_id=f"MZ{self._told.call_id}",
                    at_ms=self._told.started_ms + self._said_ms,
                    track=track,
                    ts_ms=self._said_ms,
                    frames=_RECORD_MS // 20,
                    payload=bytes(encode_ulaw(np.ascontiguousarray(piece[:, number]))),
                )
                self._producer.produce(
                    Topic.CALL_MEDIA, key=record.call_id, value=record.payload, headers=to_headers(record)
                )
            self._said_ms += _RECORD_MS
        assert self._producer.flush(10) == 0
