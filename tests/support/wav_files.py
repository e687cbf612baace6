"""WAV files in telephone codecs."""

import struct
from pathlib import Path


def ulaw_wav(path: Path, channels: int, octets: bytes, *, tag: int = 7, rate: int = 8000) -> Path:
    """Returns a G.711 WAV with a chunk of odd size, as some recorders write it."""
    form = struct.pack("<HHIIHHH", tag, channels, rate, rate * channels, channels, 8, 0)
    chunks = b"".join(
        name + struct.pack("<I", len(body)) + body + b"\x00" * (len(body) % 2)
        for name, body in ((b"fmt ", form), (b"LIST", b"odd"), (b"data", octets))
    )
    path.write_bytes(b"RIFF" + struct.pack("<I", len(chunks) + 4) + b"WAVE" + chunks)
    return path
