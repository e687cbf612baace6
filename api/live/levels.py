"""Measures the audio levels of tracks. Pure."""

import numpy as np

from pipelines.recorder.codecs import Decoder, new_decoder
from schemas.media import MediaRecord, RecordType

STEP_MS = 100
SILENCE_DB = -90
_TRACKS = 500  # tracks measured at the same time; further tracks are not measured
_FULL_SCALE = 32_768.0

Track = tuple[str, str, str]  # tenant, call id, name


class LevelMeter:
    """Measures records in the order of the log, since some codecs keep a state between records."""

    def __init__(self, limit: int = _TRACKS) -> None:
        self._limit = limit
        # By tenant, call id, stream id and track. Several tenants may have a call with the same id.
        self._decoders: dict[tuple[str, str, str, str], Decoder] = {}

    def measure(self, record: MediaRecord) -> list[int]:
        """Returns the level of each STEP_MS of a record: root mean square in dB of full scale, -90 to 0.

        Returns an empty list if the record has no audio or too many other tracks are measured.
        """
        key = (record.tenant, record.call_id, record.stream_id, record.track)
        if record.type is RecordType.EOS or record.type is RecordType.CLOSE:
            self._forget(record)
        if record.type is not RecordType.MEDIA:
            return []
        found = self._decoders.get(key)
        if found is None:
            if len(self._decoders) >= self._limit:
                return []
            found = self._decoders[key] = new_decoder(record.codec, record.rate_hz)
        samples = found.decode(record.payload).astype(np.float32) / _FULL_SCALE
        length = max(1, found.rate_hz * STEP_MS // 1000)
        power = [float(np.mean(samples[at : at + length] ** 2)) for at in range(0, len(samples), length)]
        return [max(SILENCE_DB, round(10 * np.log10(value))) if value > 0 else SILENCE_DB for value in power]

    def _forget(self, record: MediaRecord) -> None:
        ended = (record.tenant, record.call_id)
        for key in [one for one in self._decoders if one[:2] == ended and record.stream_id in ("", one[2])]:
            del self._decoders[key]
