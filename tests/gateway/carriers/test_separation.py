"""Tests of the separation: a carrier is one file, and the code behind the log does not depend on carriers."""

import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import gateway.carriers
from core.audio.g711 import decode_alaw
from core.settings import Settings
from gateway.carriers import load_carriers
from gateway.media.session import Session
from gateway.metrics import Metrics
from pipelines.recorder.decoding import EncodedAudio, samples_of
from pipelines.recorder.timeline import lay_out
from schemas.media import EosReason, MediaRecord
from tests.support.carrier_messages import CARRIERS
from tests.support.twilio_messages import MemorySink

ROOT = Path(gateway.carriers.__file__).parents[2]


@pytest.mark.parametrize("folder", ["pipelines", "schemas", "sinks", "redpanda"])
def test_code_behind_the_log_names_no_carrier(folder: str) -> None:
    """Searches the code behind the log for carriers' names and imports of the gateway: there are none.

    Otherwise a new carrier would need changes there. Descriptions of SQL columns may name one as an example.
    """
    names = re.compile(rf"\b({'|'.join(CARRIERS)})\b|^(from|import) gateway\.", re.IGNORECASE | re.MULTILINE)
    sources = [path for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".sql", ".yaml")]
    assert sources
    texts = {str(path): re.sub(r"COMMENT '[^']*'", "", path.read_text()) for path in sources}
    assert [path for path, text in texts.items() if names.search(text)] == []


PIGEON = '''
"""Carrier pigeons: one line of text that names the call, then A-law in binary messages of 20 ms."""

from gateway.carriers.common.auth import deny
from gateway.carriers.base import Frame, Ignored, StreamStart
from schemas.media import Codec


class PigeonDecoder:
    def __init__(self):
        self.landed = 0

    def text(self, data):
        return (StreamStart(data.decode(), "loft-1", "", ("inbound",), Codec.PCMA, 8000),)

    def binary(self, data):
        self.landed += 1
        return (Frame("inbound", self.landed, (self.landed - 1) * 20, data),)


class Pigeon:
    subprotocols = ()
    token_at_start = False

    def authorize_socket(self, proof, settings):
        return deny("pigeons")

    authorize_webhook = authorize_socket

    def decoder(self, settings):
        return PigeonDecoder()

    def requested_call_id(self, proof):
        return ""

    def answer(self, offer, settings):
        return None

    def report(self, proof):
        return None


CARRIER = Pigeon()
'''


@pytest.fixture
def _pigeon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Adds one more file to the carriers."""
    (tmp_path / "pigeon.py").write_text(PIGEON)
    monkeypatch.setattr(gateway.carriers, "__path__", [*gateway.carriers.__path__, str(tmp_path)])
    yield
    sys.modules.pop("gateway.carriers.pigeon", None)


@pytest.mark.usefixtures("_pigeon")
def test_one_more_file_is_one_more_carrier() -> None:
    """Adds the file of a new carrier and nothing else: the registry has it, and its calls are recorded.

    The audio comes unchanged out of the recorder's layout and decoders. The carrier's settings, simulator and guide
    are also on the gateway's side of the log.
    """
    carriers = load_carriers()
    assert sorted(carriers) == sorted([*CARRIERS, "pigeon"])
    sink, octets = MemorySink(), np.random.default_rng(5).integers(0, 256, 8000, dtype=np.uint8).tobytes()
    session = Session(
        name="pigeon",
        decoder=carriers["pigeon"].decoder(Settings()),
        admit=lambda start: ("acme", start),
        sink=sink,
        metrics=Metrics(),
        streams=Counter(),
        merge_ms=500,
        alive_s=30,
        max_speed=100,
    )
    session.on_text(b"call-by-pigeon")
    for at in range(0, len(octets), 160):
        session.on_binary(octets[at : at + 160])
    session.end(EosReason.SOCKET_CLOSED)
    records = sink.records
    assert {(record.carrier, record.call_id) for record in records} == {("pigeon", "call-by-pigeon")}
    layout = lay_out(records)

    def load(number: int) -> EncodedAudio:
        record: MediaRecord = records[number]
        return EncodedAudio(record.stream_id, record.codec, record.rate_hz, record.payload)

    parts = list(samples_of(layout.segments[0], load, layout.rate_hz))
    assert np.array_equal(np.concatenate(parts), decode_alaw(octets))
