"""Generated audio for encoders and decoders."""

import av
import numpy as np
import numpy.typing as npt


def speech_like(seconds: float, rate_hz: int, seed: int = 0) -> npt.NDArray[np.int16]:
    """Returns a gliding tone with overtones, pauses and a little noise, like a voice: int16[samples]."""
    time = np.arange(int(seconds * rate_hz)) / rate_hz
    phase = 2 * np.pi * (140 * time + 12 * np.sin(2 * np.pi * 0.7 * time + seed))
    voice = sum(np.sin(phase * overtone) / overtone for overtone in range(1, 9))
    envelope = np.clip(np.sin(2 * np.pi * 1.3 * time + seed) + 0.3, 0, 1)
    noise = np.random.default_rng(seed).normal(0, 60, len(time))
    return np.asarray(voice * envelope * 4000 + noise, np.int16)


def opus_packets(samples: npt.NDArray[np.int16], rate_hz: int, frame_ms: int = 20) -> list[bytes]:
    """Returns the samples encoded by libopus."""
    encoder = av.CodecContext.create("libopus", "w")
    encoder.sample_rate, encoder.format, encoder.layout = rate_hz, "s16", "mono"
    length = rate_hz * frame_ms // 1000
    found: list[bytes] = []
    for start in range(0, len(samples) - length + 1, length):
        frame = av.AudioFrame.from_ndarray(samples[start : start + length].reshape(1, -1), format="s16", layout="mono")
        frame.sample_rate, frame.pts = rate_hz, start
        found += map(bytes, encoder.encode(frame))
    return found
