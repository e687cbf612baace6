"""Segments become continuous audio: no seam may be audible, and wide-band audio must stay wide-band."""

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
from tests.support.media_records import Call
from tests.support.speech_like_audio import opus_packets, speech_like

Pcm = npt.NDArray[np.int16]
CALL = Call("CA", {"inbound": b""})


def run(ts_ms: int, payload: bytes, codec: Codec, rate_hz: int, **fields: object) -> MediaRecord:
    """Returns a run of 20 ms frames on the inbound track."""
    record = CALL.record(
        RecordType.MEDIA, track="inbound", ts_ms=ts_ms, payload=payload, codec=codec, rate_hz=rate_hz, frames=25
    )
    return replace(record, **fields)  # type: ignore[arg-type]  # a test's short cut


def halves(octets: bytes, per_half: int, codec: Codec, rate_hz: int, **fields: object) -> list[MediaRecord]:
    """Returns the bytes as runs of half a second."""
    return [
        run(number * 500, octets[number * per_half : (number + 1) * per_half], codec, rate_hz, **fields)
        for number in range(len(octets) // per_half)
    ]


def rendered(records: Sequence[MediaRecord], layout: Layout, channel: int = 0) -> Pcm:
    """Returns one channel of the recording."""

    def load(number: int) -> EncodedAudio:
        record = records[number]
        return EncodedAudio(record.stream_id, record.codec, record.rate_hz, record.payload)

    samples = np.zeros(layout.length, np.int16)
    segments = layout.segments[channel]
    for segment, part in zip(segments, samples_of(segments, load, layout.rate_hz), strict=True):
        samples[segment.start : segment.start + segment.length] = part
    return samples


def test_a_stateful_codec_continues_from_run_to_run() -> None:
    """Splits two seconds of G.722 into runs in any order.

    The samples must equal those of the complete data. A new decoder per run would click twice a second.
    """
    octets = bytes(G722(16000, 64000).encode(speech_like(2, 16000)))
    runs = halves(octets, 4000, Codec.G722, 16000)
    records = [CALL.start(), runs[1], runs[0], runs[3], runs[2]]
    layout = lay_out(records)
    assert (layout.rate_hz, layout.duration_ms) == (16000, 2000)
    assert np.array_equal(rendered(records, layout), np.asarray(G722(16000, 64000).decode(octets), np.int16))


def test_a_decoder_starts_again_after_a_gap() -> None:
    """Leaves out half a second. There must be silence, then the samples of a new decoder."""
    octets = bytes(G722(16000, 64000).encode(speech_like(2, 16000)))
    runs = halves(octets, 4000, Codec.G722, 16000)
    records = [CALL.start(), runs[0], runs[2], runs[3]]
    found = rendered(records, lay_out(records))
    assert not found[8000:16000].any()
    assert np.array_equal(found[16000:], np.asarray(G722(16000, 64000).decode(octets[8000:]), np.int16))


def test_8_khz_beside_16_khz_is_resampled() -> None:
    """Puts wide-band L16 on one track and mu-law on the other.

    The first must stay unchanged, and the second must equal the resampling of the complete track, within a rounding. An
    audible seam would click every half second.
    """
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
    """Records mu-law only. It must stay at 8 kHz, sample by sample."""
    narrow = encode_ulaw(speech_like(1, 8000))
    records = [CALL.start(), *halves(narrow, 4000, Codec.PCMU, 8000)]
    layout = lay_out(records)
    assert layout.rate_hz == 8000
    assert np.array_equal(rendered(records, layout), decode_ulaw(narrow))


def test_opus_is_recorded_at_the_stream_s_rate() -> None:
    """Records Opus in runs, at the 16 kHz of its start record.

    The samples must equal those of all packets decoded and resampled at once, within a rounding. Opus counts at 48 kHz;
    a recording at that rate would need three times the space.
    """
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


def test_a_wide_band_stream_raises_the_rate_of_the_part() -> None:
    """Begins a call with telephone audio and continues with wide-band audio, as after a transfer.

    The part must have the higher rate, and both streams must keep their positions.
    """
    narrow, wide = encode_ulaw(speech_like(1, 8000)), speech_like(1, 24000)
    later = [
        replace(one, stream_id="MZ2", at_ms=one.at_ms + 1000)
        for one in (CALL.start(), *halves(wide.tobytes(), 24000, Codec.L16, 24000))
    ]
    records = [CALL.start(), *halves(narrow, 4000, Codec.PCMU, 8000), CALL.eos(), *later]
    layout = lay_out(records)
    assert (layout.rate_hz, layout.duration_ms) == (24000, 2000)
    assert np.array_equal(rendered(records, layout)[24000:], wide)
