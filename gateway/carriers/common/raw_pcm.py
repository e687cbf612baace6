"""Raw PCM, from carriers that send samples without metadata.

The number of samples gives the length of the audio, not its time. So `StreamStart.timed` is false, and the session
places the frames by their arrival.
"""

from collections.abc import Sequence

from gateway.carriers.base import CarrierError, Frame


class PcmStream:
    """Converts messages of 16-bit samples into frames. tracks: one for each of the interleaved channels."""

    def __init__(self, rate_hz: int, tracks: Sequence[str]) -> None:
        self._rate_hz = rate_hz
        self._tracks = tracks
        self._samples = 0
        self._messages = 0

    def frames(self, data: bytes) -> list[Frame]:
        """Returns the message's frames, one for each track. Raises CarrierError if it has incomplete samples."""
        width = 2 * len(self._tracks)
        if not data or len(data) % width:
            raise CarrierError(f"{len(data)} bytes are not whole samples of {len(self._tracks)} channels")
        ts_ms = self._samples * 1000 // self._rate_hz
        self._samples += len(data) // width
        self._messages += 1
        if len(self._tracks) == 1:
            return [Frame(self._tracks[0], self._messages, ts_ms, data)]
        samples = memoryview(data).cast("h")
        return [
            Frame(track, self._messages, ts_ms, samples[channel :: len(self._tracks)].tobytes())
            for channel, track in enumerate(self._tracks)
        ]
