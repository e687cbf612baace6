"""Calls whose clocks misbehave, from the carrier's messages to the recorder's WAV, with a clock that the test holds."""

import base64
import json
import random
import struct
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from core.audio.g711 import decode_ulaw
from schemas.media import MediaRecord, RecordType
from tests.support.simulated_lines import Line, Pcm, Recorded, Said, Socket, later, recorded
from tests.support.twilio_messages import start, stop

FRAME_S = 0.02
Arrival = tuple[float, bytes]
"""When a frame arrives, in seconds of the call, and its samples."""

CALL_ID = "0f8fad5b-d9cb-469f-a165-70867728950e"


def voice(seconds: float, rate_hz: int = 8000, seed: int = 1, loudness: int = 6000) -> Pcm:
    """Noise without a silent sample: audio that is missing shows."""
    samples = np.random.default_rng(seed).integers(1, loudness, round(seconds * rate_hz))
    return samples.astype(np.int16)


def pieces(samples: Pcm, rate_hz: int = 8000) -> list[bytes]:
    """Frames of 20 ms."""
    size = rate_hz // 50
    return [samples[at : at + size].astype("<i2").tobytes() for at in range(0, len(samples), size)]


def jambonz(frames: Sequence[Arrival], closed_s: float) -> Socket:
    """A mono jambonz socket. frames: when each arrives, and its samples at 8 kHz."""
    first = json.dumps({"callSid": CALL_ID, "sampleRate": 8000, "mixType": "mono"})
    return Socket([Said(0.0, first), *(Said(at_s, payload) for at_s, payload in frames)], closed_s)


def vonage(frames: Sequence[Arrival], closed_s: float) -> Socket:
    """A Vonage socket of the caller's leg, likewise, at 16 kHz."""
    first = {"event": "websocket:connected", "content-type": "audio/l16;rate=16000", "call_id": CALL_ID}
    return Socket([Said(0.0, json.dumps(first)), *(Said(at_s, payload) for at_s, payload in frames)], closed_s)


def audiosocket(frames: Sequence[Arrival], closed_s: float) -> Socket:
    """An AudioSocket connection, likewise, at 8 kHz."""

    def packet(kind: int, content: bytes) -> bytes:
        return struct.pack(">BH", kind, len(content)) + content

    first = packet(0x01, uuid.UUID(CALL_ID).bytes)
    return Socket([Said(0.0, first), *(Said(at_s, packet(0x10, payload)) for at_s, payload in frames)], closed_s)


@dataclass(frozen=True)
class Bare:
    """A carrier that sends samples and nothing else."""

    name: str
    socket: Callable[[Sequence[Arrival], float], Socket]
    rate_hz: int

    def __str__(self) -> str:
        return self.name


BARE = [Bare("jambonz", jambonz, 8000), Bare("audiosocket", audiosocket, 8000), Bare("vonage", vonage, 16000)]


def arriving(payloads: Sequence[bytes], from_s: float, jitter_s: float = 0.0, seed: int = 0) -> list[Arrival]:
    """Frames that are spoken from this moment on; each arrives when it ends, or up to `jitter_s` later, in order."""
    chance, arrived, latest_s = random.Random(seed), [], 0.0
    for number, payload in enumerate(payloads):
        latest_s = max(latest_s, from_s + (number + 1) * FRAME_S + chance.uniform(0, jitter_s))
        arrived.append((latest_s, payload))
    return arrived


def near(recording: Recorded, samples: Pcm, at_s: float) -> bool:
    """Whether these samples, all of them and in one piece, are within 20 ms of this place."""
    slack = recording.rate_hz // 50
    whole, wanted = recording.samples["inbound"], round(at_s * recording.rate_hz)
    places = range(max(0, wanted - slack), wanted + slack + 1)
    return any(np.array_equal(whole[place : place + len(samples)], samples) for place in places)


# Carriers without timestamps


@pytest.mark.parametrize("carrier", BARE, ids=str)
@pytest.mark.parametrize("jitter_s", [0.0, 0.06])
def test_a_pause_keeps_its_length(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, carrier: Bare, jitter_s: float
) -> None:
    """A carrier that only sends samples sends 2 s, nothing for 5 s, and 2 s, with and without jitter.

    The recording has 9 s, both pieces to the sample and placed to 20 ms, and one gap from 2 to 7 s. Counted by samples
    it would have 4 s: times in transcript and bill would be wrong.
    """
    first, second = voice(2, carrier.rate_hz, 1), voice(2, carrier.rate_hz, 2)
    frames = arriving(pieces(first, carrier.rate_hz), 0, jitter_s) + arriving(
        pieces(second, carrier.rate_hz), 7, jitter_s, seed=1
    )
    found = recorded(Line(carrier.name, monkeypatch).call(carrier.socket(frames, 9.1)), tmp_path)
    assert abs(found.duration_s - 9) <= 0.02
    assert near(found, first, 0)
    assert near(found, second, 7)
    ((begin_ms, end_ms, reason),) = found.gaps()
    assert (begin_ms, reason) == (2000, "not-sent")
    assert abs(end_ms - 7000) <= 20


@pytest.mark.parametrize("carrier", BARE, ids=str)
@pytest.mark.parametrize("stall_s", [0.15, 0.3, 0.5, 0.7, 1.0, 3.0])
@pytest.mark.parametrize("pace", [0.0, 0.25, 0.5])
def test_a_stall_and_a_burst_are_no_gap(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, carrier: Bare, stall_s: float, pace: float
) -> None:
    """The network stalls in the middle of 8 s of audio, then everything that waited comes at once, or at two to four
    times the pace of the audio. The recording is the audio, to the sample: a gap would tear a word apart."""
    samples = voice(8, carrier.rate_hz)
    frames, free_s = [], 0.0
    for at_s, payload in arriving(pieces(samples, carrier.rate_hz), 0):
        free_s = max(at_s, free_s + pace * FRAME_S, 2.5 + stall_s if at_s > 2.5 else 0)
        frames.append((free_s, payload))
    found = recorded(Line(carrier.name, monkeypatch).call(carrier.socket(frames, frames[-1][0])), tmp_path)
    assert np.array_equal(found.samples["inbound"], samples)
    assert found.gaps() == []


def test_two_legs_that_begin_apart_lie_apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Two Vonage legs are opened at once; the second is silent for 5 s before its first audio comes. Then both sound
    together, 5 s apart in the recording as on the line, and the report says that they were mixed."""
    first, second = voice(8, 16000, 1, 3000), voice(3, 16000, 2, 3000)
    found = recorded(
        Line("vonage", monkeypatch).call(
            vonage(arriving(pieces(first, 16000), 0), 8.1), vonage(arriving(pieces(second, 16000), 5), 8.1)
        ),
        tmp_path,
    )
    expected = first.copy()
    expected[5 * 16000 :] += second
    assert np.array_equal(found.samples["inbound"], expected)
    assert (found.gaps(), found.reports["inbound"].mixed_ms) == ([], 3000)


@pytest.mark.slow
@pytest.mark.parametrize("ppm", [-200, 200])
def test_a_clock_that_drifts_makes_no_gap_and_stays_near(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ppm: int
) -> None:
    """A sender's clock is 200 ppm slow or fast for an hour and a half, with jitter: more than a second in the end.

    No gap is reported, and the last audio is within 250 ms of when it arrived; nothing of it is lost.
    """
    seconds = 5400
    payload = voice(0.1).tobytes()
    chance = random.Random(1)
    frames = [
        ((number + 1) * 0.1 * (1 + ppm / 1e6) + chance.uniform(0, 0.03), payload) for number in range(seconds * 10)
    ]
    found = recorded(Line("jambonz", monkeypatch).call(jambonz(frames, frames[-1][0])), tmp_path)
    assert found.gaps() == []
    assert abs(found.duration_s - seconds * (1 + ppm / 1e6)) <= 0.25


def test_the_channels_of_one_socket_stay_together(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A stereo jambonz socket pauses for 700 ms, with jitter: both channels have the same gap, to the sample."""
    left, right = voice(4, seed=1), voice(4, seed=2)
    both = [
        np.stack([np.frombuffer(one, "<i2"), np.frombuffer(other, "<i2")], axis=1).tobytes()
        for one, other in zip(pieces(left), pieces(right), strict=True)
    ]
    frames = arriving(both[:100], 0, 0.08) + arriving(both[100:], 2.7, 0.08, seed=4)
    first = json.dumps({"callSid": CALL_ID, "sampleRate": 8000, "mixType": "stereo"})
    socket = Socket([Said(0, first), *(Said(at_s, payload) for at_s, payload in frames)], 5)
    found = recorded(Line("jambonz", monkeypatch).call(socket), tmp_path)
    assert found.gaps("inbound") == found.gaps("outbound")
    heard_left, heard_right = (found.samples[track] for track in ("inbound", "outbound"))
    assert np.array_equal(heard_left[heard_left != 0], left)
    assert np.array_equal(heard_right[heard_left != 0], right)


# Carriers with timestamps


def media(number: int, ts_ms: int, payload: bytes, track: str = "inbound", stream_id: str = "MZ1") -> str:
    """Twilio's media message. number: its sequence number."""
    return json.dumps({
        "event": "media", "sequenceNumber": str(number), "streamSid": stream_id,
        "media": {"track": track, "chunk": "1", "timestamp": str(ts_ms), "payload": base64.b64encode(payload).decode()},
    })  # fmt: skip


def octets(seconds: float, seed: int = 1) -> list[bytes]:
    """Mu-law frames of 20 ms, without a silent sample."""
    whole = np.random.default_rng(seed).integers(0, 0x70, round(seconds * 8000), dtype=np.uint8).tobytes()
    return [whole[at : at + 160] for at in range(0, len(whole), 160)]


def twilio(stamped: Sequence[tuple[int, bytes]], numbers: Sequence[int] | None = None) -> Socket:
    """A Twilio socket in real time. stamped: each frame's timestamp and octets; numbers: in a row if not given."""
    messages = [
        Said((order + 1) * FRAME_S, media(numbers[order] if numbers else order + 2, ts_ms, payload))
        for order, (ts_ms, payload) in enumerate(stamped)
    ]
    end_s = (len(stamped) + 1) * FRAME_S
    return Socket([Said(0, start().decode()), *messages, Said(end_s, stop().decode())], end_s)


def heard(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *sockets: Socket) -> Recorded:
    """The recording of these Twilio sockets."""
    return recorded(Line("twilio", monkeypatch).call(*sockets), tmp_path)


def reset_after(ms: int) -> Callable[[int], int]:
    return lambda at_ms: at_ms if at_ms < ms else at_ms - ms


CLOCKS: dict[str, Callable[[int], int]] = {
    "starts again at 0": reset_after(3000),
    "starts again at 0 soon": reset_after(440),
    "stands at 0": lambda _: 0,
    "stands still from 2 s on": lambda at_ms: min(at_ms, 2000),
    "counts from the epoch": lambda at_ms: 1_790_000_000_000 + at_ms,
    "changes to the epoch": lambda at_ms: at_ms if at_ms < 2500 else 1_790_000_000_000 + at_ms,
    "changes from the epoch": lambda at_ms: at_ms if at_ms > 2500 else 1_790_000_000_000 + at_ms,
    "is late by up to 30 ms": lambda at_ms: at_ms + random.Random(at_ms).randint(0, 30),
    "stalls for 2 s and catches up": lambda at_ms: at_ms if at_ms < 3010 else max(at_ms, 5010 + (at_ms - 3010) // 20),
    "stalls for 300 ms and catches up": lambda at_ms: at_ms if at_ms < 3010 else max(at_ms, 3310),
    "is set ahead by a day": lambda at_ms: at_ms if at_ms < 3000 else at_ms + 86_400_000,
}


@pytest.mark.parametrize("clock", CLOCKS, ids=str)
def test_numbers_in_a_row_mean_that_nothing_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, clock: str
) -> None:
    """Twilio's timestamps misbehave for 8 s of audio whose sequence numbers have no hole: the recording is the audio,
    to the sample, and has no gap. Believed, such timestamps put audio on top of audio, which throws it away."""
    frames = octets(8)
    found = heard(monkeypatch, tmp_path, twilio([(CLOCKS[clock](n * 20), frame) for n, frame in enumerate(frames)]))
    assert np.array_equal(found.samples["inbound"], decode_ulaw(b"".join(frames)))
    assert found.gaps() == []


@pytest.mark.parametrize("clock", CLOCKS, ids=str)
def test_numbers_that_count_both_tracks_say_so_as_well(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, clock: str
) -> None:
    """The same with two tracks whose frames alternate, and numbers that count the messages of both, as Twilio's do."""
    tracks = {"inbound": octets(6, 1), "outbound": octets(6, 2)}
    messages = [
        Said((n + 1) * FRAME_S, media(2 * n + side, CLOCKS[clock](n * 20), tracks[track][n], track))
        for n in range(300)
        for side, track in enumerate(tracks, 2)
    ]
    found = heard(monkeypatch, tmp_path, Socket([Said(0, start().decode()), *messages], 6.1))
    for track, frames in tracks.items():
        assert np.array_equal(found.samples[track], decode_ulaw(b"".join(frames)))
        assert found.gaps(track) == []


@pytest.mark.parametrize("clock", ["starts again at 0", "counts from the epoch", "is set ahead by a day"])
def test_a_loss_is_a_gap_also_with_an_odd_clock(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, clock: str) -> None:
    """The same, and 300 ms are lost after 5 s: number and time are missing, and that is the only gap."""
    frames = octets(8)
    kept = [n for n in range(len(frames)) if not 250 <= n < 265]
    found = heard(
        monkeypatch, tmp_path, twilio([(CLOCKS[clock](n * 20), frames[n]) for n in kept], [n + 2 for n in kept])
    )
    expected = decode_ulaw(b"".join(frames)).copy()
    expected[250 * 160 : 265 * 160] = 0
    assert np.array_equal(found.samples["inbound"], expected)
    assert found.gaps() == [(5000, 5300, "missing")]


def test_late_stamps_and_losses(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Timestamps are late by 0 to 30 ms, and now and then a frame is lost: every frame that came is in the recording,
    whole and within 20 ms of its place, and nothing else is."""
    frames = octets(20)
    lost = {number for number in range(10, 990) if random.Random(number).random() < 0.01}
    kept = [number for number in range(len(frames)) if number not in lost]
    stamped = [(n * 20 + random.Random(n).randint(0, 30), frames[n]) for n in kept]
    found = heard(monkeypatch, tmp_path, twilio(stamped, [n + 2 for n in kept]))
    assert lost
    for number in kept:
        assert near(found, decode_ulaw(frames[number]), number * FRAME_S), number
    silent = np.flatnonzero(found.samples["inbound"] == 0)
    assert abs(len(silent) - len(lost) * 160) <= 160


def test_a_pause_of_a_timed_carrier_keeps_its_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Twilio sends 2.1 s, nothing for 400 ms, and 2 s, and counts on: the timestamps place the audio."""
    frames = octets(4.1)
    stamped = [(n * 20 + (400 if n >= 105 else 0), frame) for n, frame in enumerate(frames)]
    found = heard(monkeypatch, tmp_path, twilio(stamped))
    assert found.gaps() == [(2100, 2500, "missing")]
    assert np.array_equal(found.between(2.5, 4.5), decode_ulaw(b"".join(frames[105:])))


# The same stream again


def came_back(from_s: float, first_ms: int, frames: Sequence[bytes], number: int) -> Socket:
    """The stream's second socket."""
    socket = twilio([(first_ms + n * 20, frame) for n, frame in enumerate(frames)], [number + n for n in range(200)])
    return later(socket, from_s)


def cut(frames: Sequence[bytes]) -> Socket:
    """The stream's first socket, which is cut without a stop."""
    socket = twilio([(n * 20, frame) for n, frame in enumerate(frames)])
    return Socket(socket.messages[:-1], socket.closed_s)


@pytest.mark.parametrize("outage_s", [0.5, 3.0, 30.0])
def test_a_stream_that_comes_back_goes_on_by_its_timestamps(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, outage_s: float
) -> None:
    """A socket is cut after 2.5 s; the carrier opens another for the same stream, and its timestamps went on meanwhile.
    The outage is a gap of its length: nothing is placed by the second start, which would count the time twice."""
    frames = octets(5)
    resumed = came_back(2.5 + outage_s, 2500 + round(outage_s * 1000), frames[125:], 127)
    found = heard(monkeypatch, tmp_path, cut(frames[:125]), resumed)
    assert found.gaps() == [(2500, 2500 + round(outage_s * 1000), "missing")]
    assert np.array_equal(found.between(0, 2.5), decode_ulaw(b"".join(frames[:125])))
    assert np.array_equal(found.between(2.5 + outage_s, 5 + outage_s), decode_ulaw(b"".join(frames[125:])))


def test_a_stream_that_comes_back_with_the_next_timestamp_has_no_gap(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The same, but the carrier kept what was spoken during the outage of 300 ms: no gap, and no audio twice."""
    frames = octets(5)
    found = heard(monkeypatch, tmp_path, cut(frames[:125]), came_back(2.8, 2500, frames[125:], 127))
    assert np.array_equal(found.samples["inbound"], decode_ulaw(b"".join(frames)))
    assert found.gaps() == []


def test_a_stream_that_begins_anew_lies_where_it_began(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The same stream id, but timestamps and numbers begin at 0 again, 3 s later: its second start places it."""
    frames = octets(5)
    found = heard(monkeypatch, tmp_path, cut(frames[:125]), came_back(5.5, 0, frames[125:], 2))
    assert np.array_equal(found.between(5.5, 8), decode_ulaw(b"".join(frames[125:])))
    assert found.gaps() == [(2500, 5500, "missing")]


# Two streams of one track


def test_two_streams_of_one_track_are_mixed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Twilio streams the inbound track twice, and both have a voice: the sum is heard where both sound, limited to what
    16 bits hold; where only one sounds it is exact. The report says how much was mixed."""
    first, second = octets(4, 1), octets(4, 2)
    other = [
        Said(said.at_s, str(said.message).replace("MZ1", "MZ2"))
        for said in twilio([(n * 20, frame) for n, frame in enumerate(second)]).messages
    ]
    found = heard(
        monkeypatch, tmp_path, twilio([(n * 20, frame) for n, frame in enumerate(first)]), later(Socket(other, 4.1), 1)
    )
    one, two = (decode_ulaw(b"".join(frames)).astype(np.int32) for frames in (first, second))
    expected = np.zeros(5 * 8000, np.int32)
    expected[: 4 * 8000] += one
    expected[8000:] += two
    assert np.abs(expected).max() > 32767, "nothing had to be limited"
    assert np.array_equal(found.samples["inbound"], np.clip(expected, -32768, 32767))
    report = found.reports["inbound"]
    assert (report.audio_ms, report.mixed_ms, report.gaps) == (5000, 3000, [])


def test_a_silent_leg_takes_nothing_from_another(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Of two Vonage legs on one track the first sends silence; the second joins at an odd moment, with jitter. The
    second is heard, every sample of it."""
    quiet, speaking = np.zeros(6 * 16000, np.int16), voice(3, 16000, 2)
    found = recorded(
        Line("vonage", monkeypatch).call(
            vonage(arriving(pieces(quiet, 16000), 0, 0.03), 6.1),
            vonage(arriving(pieces(speaking, 16000), 2.2137, 0.03, seed=3), 6.1),
        ),
        tmp_path,
    )
    assert near(found, speaking, 2.2137)


def test_the_log_says_why_audio_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pause of a carrier without timestamps is a record of its own on the log, before the audio that follows."""
    frames = arriving(pieces(voice(1)), 0) + arriving(pieces(voice(1)), 4)
    records: list[MediaRecord] = Line("jambonz", monkeypatch).call(jambonz(frames, 5))
    (gap,) = [record for record in records if record.type is RecordType.GAP]
    assert (gap.track, gap.ts_ms, gap.duration_ms, gap.detail) == ("inbound", 1000, 3000, "not-sent")
    after = records[records.index(gap) + 1]
    assert (after.type, after.ts_ms) == (RecordType.MEDIA, 4000)
