"""Turns records of the log into updates for subscribers of live calls."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field

from confluent_kafka import Message
from pydantic import ValidationError

from api.live.levels import LevelMeter, Track
from schemas.events import parse_event
from schemas.media import MediaError, from_headers
from schemas.topics import Topic

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Update:
    """Update of live calls.

    levels: new levels by track, 100 ms each. changed_calls: calls (tenant, id) with a new event.
    """

    levels: dict[Track, list[int]] = field(default_factory=dict)
    changed_calls: set[tuple[str, str]] = field(default_factory=set)


class UpdateReader:
    """Turns records, in the order of the log, into updates. Not thread-safe."""

    def __init__(self) -> None:
        self._meter = LevelMeter()

    def read(self, messages: Iterable[Message]) -> Update:
        """Returns the update in these records; skips records that cannot be read."""
        update = Update()
        for message in messages:
            if message.topic() == Topic.CALL_MEDIA:
                self._add_levels(message, update)
            else:
                self._add_event(message, update)
        return update

    def _add_levels(self, message: Message, update: Update) -> None:
        try:
            record = from_headers(message.key() or b"", message.headers(), message.value())
            levels = self._meter.measure(record)
        except (MediaError, ValueError) as error:
            logger.debug("a media record cannot be measured: %s", error)
            return
        if levels:
            update.levels.setdefault((record.tenant, record.call_id, record.track), []).extend(levels)

    def _add_event(self, message: Message, update: Update) -> None:
        try:
            event = parse_event(message.value() or b"")
        except ValidationError:
            return
        update.changed_calls.add((event.tenant, event.call_id))
