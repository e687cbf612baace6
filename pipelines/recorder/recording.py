"""Makes the files of a recording, and the event about it, from a closed part's journal. Uses one directory."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from pipelines.recorder import wav
from pipelines.recorder.copies import find_copies
from pipelines.recorder.decoding import EncodedAudio
from pipelines.recorder.journal import PartId, read
from pipelines.recorder.spool import JOURNAL
from pipelines.recorder.streams import Streams
from pipelines.recorder.timeline import lay_out
from schemas.artifacts import Manifest, Peaks
from schemas.events import ObjectRef, RecordingReady, TrackOutline, TrackReport
from schemas.ids import uuid_of
from schemas.media import Codec, MediaRecord, RecordType

_MAX_GAPS = 1_000  # gaps per track in the event: about 60 KB, and a replay's job may contain several events


class NotClosedError(Exception):
    """The journal does not end with a close record."""


@dataclass(frozen=True, slots=True)
class Recording:
    """Recording of a part. audio: the WAV file; closed_at_ms: time of the decision to close the part."""

    audio: Path
    peaks: Peaks
    manifest: Manifest
    closed_at_ms: int

    def event(self, *, audio: ObjectRef, peaks: ObjectRef, manifest: ObjectRef) -> RecordingReady:
        """Returns the event that announces the recording. The same recording always gives the same event."""
        facts = self.manifest
        return RecordingReady(
            event_id=uuid_of("recording", facts.tenant, facts.call_id, facts.part, audio.sha256),
            call_id=facts.call_id,
            tenant=facts.tenant,
            part=facts.part,
            occurred_at_ms=self.closed_at_ms,
            carrier=facts.carrier,
            audio=audio,
            peaks=peaks,
            manifest=manifest,
            duration_ms=facts.duration_ms,
            rate_hz=facts.rate_hz,
            channels=wav.CHANNELS,
            tracks=[_outline(track) for track in facts.tracks],
            started_at_ms=facts.started_at_ms,
            ended_at_ms=facts.ended_at_ms,
            close_reason=facts.close_reason,
        )


@dataclass(frozen=True, slots=True)
class _Payload:
    position: int
    size: int
    stream_id: str
    codec: Codec
    rate_hz: int


@dataclass(slots=True)
class _JournalFacts:
    """Facts from one reading of the journal: everything except the audio."""

    first_offset: int = -1
    first_at_ms: int = 0
    last_offset: int = -1
    started_at_ms: int | None = None
    streams: Streams = field(default_factory=Streams)
    # By stream, in order of arrival: the time of its end, or of its last record so far.
    ends: dict[str, int] = field(default_factory=dict)
    last: MediaRecord | None = None
    last_but_one_at_ms: int = 0
    payloads: list[_Payload] = field(default_factory=list)

    def collect(self, path: Path) -> Iterator[MediaRecord]:
        """Yields the journal's records and collects their facts."""
        for entry in read(path):
            record = entry.record
            if self.last is None:
                self.first_offset, self.first_at_ms = entry.offset, record.at_ms
            else:
                self.last_but_one_at_ms = self.last.at_ms
            self.last, self.last_offset = record, entry.offset
            if record.type is RecordType.START:
                self.started_at_ms = min(record.at_ms, self.started_at_ms or record.at_ms)
            if record.type is not RecordType.CLOSE:
                self._follow(record)
            self.payloads.append(
                _Payload(entry.position, len(record.payload), record.stream_id, record.codec, record.rate_hz)
            )
            yield record

    def _follow(self, record: MediaRecord) -> None:
        """Notes the time for the record's stream while it is open, and for the streams that the record ends."""
        before = self.streams.ended
        self.streams = self.streams.after(record)
        after = self.streams.ended
        if record.type is not RecordType.EOS:
            if not after[record.stream_id]:
                self.ends[record.stream_id] = record.at_ms
            return
        was_open = [stream for stream, ended in before.items() if not ended]
        for stream in dict.fromkeys([*was_open, record.stream_id]):
            if stream and not before.get(stream) and after.get(stream, True):
                self.ends[stream] = record.at_ms

    @property
    def ended_at_ms(self) -> int:
        """Time at which the last stream ended.

        A gateway that crashed sent no end. Then its last record counts as the end: otherwise the stream would seem to
        continue after the recording without end.
        """
        return max(self.ends.values(), default=self.last_but_one_at_ms)


def make_recording(identity: PartId, directory: Path) -> Recording:
    """Makes the recording of a part. The same journal gives the same bytes.

    Raises:
        OSError: A file cannot be read or written.
        NotClosedError: The journal does not end with a close record.
    """
    facts = _JournalFacts()
    journal = directory / JOURNAL
    layout = lay_out(facts.collect(journal))
    close = facts.last
    if close is None or close.type is not RecordType.CLOSE:
        raise NotClosedError(f"{journal} does not end with a close record")
    audio = directory / "audio.wav"
    with journal.open("rb") as file:

        def load(number: int) -> EncodedAudio:
            return _load(file, facts.payloads[number])

        if layout.overlays:
            same = find_copies(layout, load, lambda number: facts.payloads[number].stream_id)
            layout = lay_out((entry.record for entry in read(journal)), same) if same else layout
        rendered = wav.write_wav(layout, load, audio)
    manifest = Manifest(
        call_id=identity.call_id,
        tenant=identity.tenant,
        part=identity.part,
        carrier=close.carrier,
        rate_hz=layout.rate_hz,
        duration_ms=layout.duration_ms,
        tracks=list(layout.tracks),
        streams=list(facts.ends),
        close_reason=close.detail,
        audio_sha256=rendered.sha256,
        audio_size=rendered.size,
        started_at_ms=facts.started_at_ms or facts.first_at_ms,  # late audio has no start record
        ended_at_ms=facts.ended_at_ms,
        partition=identity.partition,
        first_offset=facts.first_offset,
        close_offset=facts.last_offset,
    )
    return Recording(audio, rendered.peaks, manifest, close.at_ms)


def _outline(track: TrackReport) -> TrackOutline:
    """Returns the track for the event, with its longest gaps; of equal gaps, the first.

    A line that loses a frame every second makes more gaps in a long call than a record of the log can contain.
    """
    longest = sorted(track.gaps, key=lambda gap: gap.start_ms - gap.end_ms)[:_MAX_GAPS]
    return TrackOutline(
        name=track.name,
        audio_ms=track.audio_ms,
        gaps=sorted(longest, key=lambda gap: gap.start_ms),
        mixed_ms=track.mixed_ms,
        gaps_left_out=len(track.gaps) - len(longest),
        missing_ms=sum(gap.end_ms - gap.start_ms for gap in track.gaps),
    )


def _load(journal: BinaryIO, payload: _Payload) -> EncodedAudio:
    data = os.pread(journal.fileno(), payload.size, payload.position)
    return EncodedAudio(payload.stream_id, payload.codec, payload.rate_hz, data)
