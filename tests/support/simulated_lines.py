"""Calls with messages at chosen times: the gateway's records on the log, and the recorder's recording of them."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from gateway.media.session import Session
from gateway.metrics import Metrics
from pipelines.recorder.decoding import EncodedAudio
from pipelines.recorder.timeline import TRACKS, lay_out
from pipelines.recorder.wav import write_wav
from schemas.events import TrackReport
from schemas.media import EosReason, MediaRecord
from tests.support.carrier_messages import hear, new_decoder
from tests.support.media_records import EPOCH_MS, wav_channels
from tests.support.twilio_messages import MemorySink

Pcm = npt.NDArray[np.int16]
TICK_S = 0.1


@dataclass(frozen=True)
class Said:
    """A message and the time when it arrives, in seconds of the call."""

    at_s: float
    message: str | bytes


@dataclass(frozen=True)
class Socket:
    """One socket: its messages in the order of arrival, and the time when it closes."""

    messages: Sequence[Said]
    closed_s: float


@dataclass
class Line:
    """Gateway with a clock that the test sets. Times are seconds of the call."""

    carrier: str
    monkeypatch: pytest.MonkeyPatch
    sink: MemorySink = field(default_factory=MemorySink)
    now_s: float = 0.0

    def __post_init__(self) -> None:
        self.monkeypatch.setattr("gateway.media.session._now_ms", lambda: EPOCH_MS + round(self.now_s * 1000))

    def call(self, *sockets: Socket) -> list[MediaRecord]:
        """Plays these sockets in the order of all messages, with the ticks of the gateway. Returns the log."""
        streams: Counter[tuple[str, str, str]] = Counter()
        sessions = [self._session(streams) for _ in sockets]
        events = [
            (said.at_s, order, number, said.message)
            for number, socket in enumerate(sockets)
            for order, said in enumerate(socket.messages)
        ]
        ends = [(socket.closed_s, len(events), number, None) for number, socket in enumerate(sockets)]
        open_sessions = dict(enumerate(sessions))
        next_tick_s = TICK_S
        for at_s, _, number, message in sorted([*events, *ends], key=lambda event: event[:3]):
            while next_tick_s < at_s:
                self.now_s = next_tick_s
                for session in open_sessions.values():
                    session.tick(self.now_s)
                next_tick_s += TICK_S
            self.now_s = at_s
            if message is None:
                open_sessions.pop(number).end(EosReason.SOCKET_CLOSED)
            else:
                hear(open_sessions[number], message)
        return self.sink.records

    def _session(self, streams: Counter[tuple[str, str, str]]) -> Session:
        return Session(
            name=self.carrier,
            decoder=new_decoder(self.carrier),
            admit=lambda start: ("acme", start),
            sink=self.sink,
            metrics=Metrics(),
            streams=streams,
            merge_ms=500,
            max_speed=100,
            alive_s=30,
            clock=lambda: self.now_s,
        )


@dataclass(frozen=True)
class Recorded:
    """A recording: the samples of each track and the reported gaps."""

    rate_hz: int
    samples: dict[str, Pcm]
    reports: dict[str, TrackReport]

    @property
    def duration_s(self) -> float:
        return len(self.samples["inbound"]) / self.rate_hz

    def between(self, start_s: float, end_s: float, track: str = "inbound") -> Pcm:
        """Returns samples of a track."""
        return self.samples[track][round(start_s * self.rate_hz) : round(end_s * self.rate_hz)]

    def gaps(self, track: str = "inbound") -> list[tuple[int, int, str]]:
        """Returns the gaps of a track: start and end in ms, and the reason."""
        return [(gap.start_ms, gap.end_ms, gap.reason) for gap in self.reports[track].gaps]


def recorded(records: Iterable[MediaRecord], folder: Path) -> Recorded:
    """Returns the recording that the recorder writes for these records."""
    kept = list(records)
    layout = lay_out(kept)

    def load(number: int) -> EncodedAudio:
        record = kept[number]
        return EncodedAudio(record.stream_id, record.codec, record.rate_hz, record.payload)

    path = folder / "audio.wav"
    write_wav(layout, load, path)
    samples = wav_channels(path.read_bytes())
    channels = {track: samples[:, number] for number, track in enumerate(TRACKS)}
    return Recorded(layout.rate_hz, channels, {report.name: report for report in layout.tracks})


def later(socket: Socket, by_s: float) -> Socket:
    """Returns the same socket at a later time."""
    messages = [replace(said, at_s=said.at_s + by_s) for said in socket.messages]
    return Socket(messages, socket.closed_s + by_s)
