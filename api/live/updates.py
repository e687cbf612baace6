"""What records of the log mean for whoever watches calls."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field

from confluent_kafka import Message
from pydantic import ValidationError

from api.live.levels import Levels, Track
from schemas.events import parse_event
from schemas.media import MediaError, from_headers
from schemas.topics import Topic

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Update:
    """heard: new levels by track, a tenth of a second each. changed: calls (tenant, id) that something happened to."""

    heard: dict[Track, list[int]] = field(default_factory=dict)
    changed: set[tuple[str, str]] = field(default_factory=set)


class Digest:
    """Turns records, in the log's order, into news. For one thread."""

    def __init__(self) -> None:
        self._levels = Levels()

    def of(self, messages: Iterable[Message]) -> Update:
        """The news in these records; what cannot be read is none."""
        news = Update()
        for message in messages:
            if message.topic() == Topic.CALL_MEDIA:
                self._hear(message, news)
            else:
                self._note(message, news)
        return news

    def _hear(self, message: Message, news: Update) -> None:
        try:
            record = from_headers(message.key() or b"", message.headers(), message.value())
            levels = self._levels.of(record)
        except (MediaError, ValueError) as error:
            log.debug("a media record cannot be heard: %s", error)
            return
        if levels:
            news.heard.setdefault((record.tenant, record.call_id, record.track), []).extend(levels)

    def _note(self, message: Message, news: Update) -> None:
        try:
            event = parse_event(message.value() or b"")
        except ValidationError:
            return
        news.changed.add((event.tenant, event.call_id))
