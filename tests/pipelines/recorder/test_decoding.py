"""Runs become one sound: seams between them must not be heard, and what is better than a telephone stays so."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import soxr
from G722 import G722

from core.audio.g711 import decode_ulaw, encode_ulaw
from pipelines.recorder.codecs import new_decoder
from pipelines.recorder.decoding import EncodedAudio, samples_of
from pipelines.recorder.timeline import Layout, lay_out
from schemas.codecs import with_length
from schemas.media import Codec, MediaRecord, RecordType
from tests.pipelines.recorder.calls import Call
from tests.pipelines.recorder.sounds import opus_packets, speech_like

Pcm = npt.NDArray[np.int16]
CALL = Call("CA", {"inbound": b""})


def run(ts_ms: int, payload: bytes, codec: Codec, rate_hz: int, **fields: object) -> MediaRecord:
    """A run of 20 ms frames on the inbound track."""
    record = CALL.record(
        RecordType.MEDIA, track="inbound", ts_ms=ts_ms, payload=payload, codec=codec, rate_hz=rate_hz, frames=25
    )
    return replace(record, **fields)  # type: ignore[arg-type]  # a test's short cut


def halves(octets: bytes, per_half: int, codec: Codec, rate_hz: int, **fields: object) -> list[MediaRecord]:
    """The octets as runs of half a second."""
    return [
        run(number * 500, octets[number * per_half : (number + 1) * per_half], codec, rate_hz, **fields)
        for number in range(len(octets) // per_half)
    ]


def rendered(records: Sequence[MediaRecord], layout: Layout, channel: int = 0) -> Pcm:
    """A channel of the recording."""

    def load(number: int) -> EncodedAudio:
        record = records[number]
        return EncodedAudio(record.stream_id, record.codec, record.rate_hz, record.payload)

    samples = np.zeros(layout.length, np.int16)
    segments = layout.segments[channel]
    for segment, part in zip(segments, samples_of(segments, load, layout.rate_hz), strict=True):
        samples[segment.start : segment.start + segment.length] = part
    return samples


def test_a_codec_with_memory_goes_on_from_run_to_run() -> None:
    """Cuts two seconds of G.722 into runs that come in any order: the samples of the whole decoded at once. Decoding
    each run anew would click twice a second."""
    octets = bytes(G722(16000, 64000).encode(speech_like(2, 16000)))
    runs = halves(octets, 4000, Codec.G722, 16000)
    records = [CALL.start(), runs[1], runs[0], runs[3], runs[2]]
    layout = lay_out(records)
    assert (layout.rate_hz, layout.duration_ms) == (16000, 2000)
    assert np.array_equal(rendered(records, layout), np.asarray(G722(16000, 64000).decode(octets), np.int16))


def test_after_a_hole_it_begins_anew() -> None:
    """Leaves half a second out: silence there, and behind it what a new decoder gives. State from before the hole
    would be that of other audio."""
    octets = bytes(G722(16000, 64000).encode(speech_like(2, 16000)))
    runs = halves(octets, 4000, Codec.G722, 16000)
    records = [CALL.start(), runs[0], runs[2], runs[3]]
    found = rendered(records, lay_out(records))
    assert not found[8000:16000].any()
    assert np.array_equal(found[16000:], np.asarray(G722(16000, 64000).decode(octets[8000:]), np.int16))


def test_a_stream_of_16_khz_is_recorded_at_16_khz_and_one_of_8_khz_beside_it_is_resampled() -> None:
    """Puts wide-band L16 on one track and mu-law on the other: the first is untouched, the second is what resampling
    the whole track at once gives, within a rounding; a seam would show as a click every half second."""
    wide, narrow = speech_like(2, 16000), encode_ulaw(speech_like(2, 8000, seed=1))
    records = [
        CALL.start(),
        *halves(wide.tobytes(), 16000, Codec.L16, 16000),
        *halves(narrow, 4000, Codec.PCMU, 8000, track="outbound"),
    ]
    layout = lay_out(records)
    assert (layout.rate_hz, layout.duration_ms) == (16000, 2000)
    assert np.array_equal(rendered(records, layout), wide)
    whole = soxr.resample(decode_ulaw(narrow).astype(np.float32), 8000, 16000, quality="HQ")
    resampled = rendered(records, layout, channel=1)
    assert np.abs(resampled - np.clip(np.rint(whole), -32768, 32767)).max() <= 1
    assert np.array_equal(resampled, rendered(records, layout, channel=1))


def test_a_call_of_telephone_audio_only_stays_at_8_khz() -> None:
    """Mu-law alone: 8 kHz, sample by sample."""
    narrow = encode_ulaw(speech_like(1, 8000))
    records = [CALL.start(), *halves(narrow, 4000, Codec.PCMU, 8000)]
    layout = lay_out(records)
    assert layout.rate_hz == 8000
    assert np.array_equal(rendered(records, layout), decode_ulaw(narrow))


def test_opus_is_recorded_at_the_stream_s_rate() -> None:
    """Opus in runs, at the 16 kHz its start says: what decoding all packets at once and resampling the whole gives,
    within a rounding. Opus counts in 48 kHz whatever it carries; recorded so a call would take three times the room."""
    packets = opus_packets(speech_like(2, 16000), 16000)
    runs = [
        run(first * 20, b"".join(map(with_length, packets[first : first + 25])), Codec.OPUS, 16000)
        for first in range(0, len(packets), 25)
    ]
    records = [CALL.start(), *runs]
    layout = lay_out(records)
    assert layout.rate_hz == 16000
    assert layout.duration_ms == len(packets) * 20
    whole = new_decoder(Codec.OPUS, 16000).decode(b"".join(map(with_length, packets)))
    expected = np.rint(soxr.resample(whole.astype(np.float32), 48000, 16000, quality="HQ"))
    assert np.abs(rendered(records, layout) - expected).max() <= 1


def test_a_better_stream_later_lifts_the_whole_part() -> None:
    """A call begins on the telephone and goes on in wide band, as after a transfer: one rate, the better one, and the
    places of both are kept."""
    narrow, wide = encode_ulaw(speech_like(1, 8000)), speech_like(1, 24000)
    later = [
        replace(one, stream_id="MZ2", at_ms=one.at_ms + 1000)
        for one in (CALL.start(), *halves(wide.tobytes(), 24000, Codec.L16, 24000))
    ]
    records = [CALL.start(), *halves(narrow, 4000, Codec.PCMU, 8000), CALL.eos(), *later]
    layout = lay_out(records)
    assert (layout.rate_hz, layout.duration_ms) == (24000, 2000)
    assert np.array_equal(rendered(records, layout)[24000:], wide)
