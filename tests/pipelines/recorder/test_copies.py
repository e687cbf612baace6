"""Tests of copies: the same audio in two streams is used once, and different voices are mixed."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipelines.recorder.journal import PartId
from pipelines.recorder.recording import Recording, make_recording
from pipelines.recorder.spool import Spool
from schemas.media import CloseReason, MediaRecord, RecordType
from tests.support.media_records import EPOCH_MS, Call, audio, pcm, wav_channels

PART = PartId("acme", "CA", 1, 3)


def made(tmp_path: Path, records: Sequence[MediaRecord]) -> tuple[Recording, npt.NDArray[np.int16]]:
    """Returns the recording of these records, and its inbound samples."""
    spool = Spool(tmp_path)
    close = Call("CA", {}).record(
        RecordType.CLOSE, stream_id="", at_ms=EPOCH_MS + 90_000, detail=CloseReason.ENDED, part=1
    )
    for offset, record in enumerate([*records, close], 100):
        spool.append(PART, record, offset)
    recording = make_recording(PART, spool.write(PART))
    return recording, wav_channels(recording.audio.read_bytes())[:, 0]


def test_a_copy_only_fills_the_holes_of_its_original(tmp_path: Path) -> None:
    """Streams the inbound track twice: the recording has the audio once, without a gap.

    The second stream is 40 ms later and in other records; the first loses 500 ms. If both were added, the audio would
    be twice as loud, or an echo.
    """
    octets = audio(1, 6000)
    first = Call("CA", {"inbound": octets})
    copy = Call("CA", {"inbound": octets[320:]}).stream("MZ2", after_ms=40)
    records = [first.start(), copy.start(), *first.media(holes=[(2000, 2500)]), *copy.media(run_ms=360)]
    recording, samples = made(tmp_path, sorted(records, key=lambda record: record.at_ms))
    assert np.array_equal(samples, pcm(octets))
    (track,) = recording.manifest.tracks
    assert (track.gaps, track.audio_ms, track.mixed_ms) == ([], 6000, 0)
    assert recording.manifest.streams == ["MZ1", "MZ2"]


def test_two_voices_are_not_copies(tmp_path: Path) -> None:
    """Streams different audio twice, and the first again a second later, as an echo: all three are mixed."""
    octets, other = audio(1, 4000), audio(2, 4000)
    voices = [
        Call("CA", {"inbound": octets}),
        Call("CA", {"inbound": other}).stream("MZ2", after_ms=0),
        Call("CA", {"inbound": octets}).stream("MZ3", after_ms=1000),
    ]
    recording, samples = made(tmp_path, [record for voice in voices for record in voice.records()])
    total = np.zeros(5 * 8000, np.int32)
    total[: 4 * 8000] += pcm(octets).astype(np.int32) + pcm(other)
    total[8000:] += pcm(octets)
    assert np.array_equal(samples, np.clip(total, -32768, 32767))
    (track,) = recording.manifest.tracks
    assert (track.audio_ms, track.mixed_ms) == (5000, 4000)


def test_the_same_journal_gives_the_same_mix(tmp_path: Path) -> None:
    """Makes a recording of mixed streams twice, as after a lost disk: the bytes are equal."""
    voices = [
        Call("CA", {"inbound": audio(1, 3000)}),
        replace(Call("CA", {"inbound": audio(2, 3000)}), stream_id="MZ2", at_ms=EPOCH_MS + 777),
    ]
    records = [record for voice in voices for record in voice.records()]
    first, _ = made(tmp_path / "one", records)
    second, _ = made(tmp_path / "two", records)
    assert first.manifest == second.manifest
