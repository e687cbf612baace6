"""Fuzz tests: for every input a decoder returns messages or raises CarrierError, and its memory stays small."""

import base64
import contextlib
import gc
import json
import logging
import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.settings import Settings
from gateway.carriers import load_carriers
from gateway.carriers.base import CarrierError, IncomingRequest, UnauthorizedError
from gateway.media.session import SessionClosedError
from gateway.metrics import Metrics
from tests.support.carrier_fuzzing import SEED, Say, fuzz, messages
from tests.support.carrier_messages import CARRIERS, hear, new_decoder, session_for
from tests.support.twilio_messages import MemorySink

LOADED = load_carriers()
CONFIGURED = Settings.model_validate(
    {
        "public_url": "https://calls.example.com",
        "twilio": {"auth_token": "secret", "signing_keys": {"k": "secret"}},
        "signalwire": {"signing_key": "secret", "stream_token": "secret"},
        "telnyx": {"public_key": base64.b64encode(bytes(32)).decode(), "stream_token": "secret"},
        "plivo": {"auth_token": "secret"},
        "exotel": {"password": "secret"},
        "vonage": {"signature_secret": "secret", "password": "secret"},
        "jambonz": {"password": "secret", "allowed_peers": ["10.0.0.0/8"]},
    }
)

MESSAGES = 20_000
"""Per dialect and run, always the same. Millions of others: `python -m tests.support.carrier_fuzzing 2000000`."""


@pytest.mark.parametrize("name", CARRIERS)
def test_broken_messages_raise_only_carrier_errors(name: str) -> None:
    """Decodes valid messages with replaced, omitted and mixed bytes and values: no exception but CarrierError.

    Another exception would end a call because of one message. Some are still valid, so they are not all garbage.
    """
    understood = fuzz(name, SEED, MESSAGES)
    assert MESSAGES // 5 < understood < MESSAGES


@pytest.mark.parametrize("name", CARRIERS)
@given(st.lists(st.one_of(st.text(), st.binary()), max_size=5))
def test_random_messages_raise_only_carrier_errors(name: str, said: list[Say]) -> None:
    """Decodes random messages: no exception but CarrierError."""
    decoder = new_decoder(name)
    for message in said:
        try:
            if isinstance(message, str):
                decoder.text(message.encode(errors="surrogatepass"))
            else:
                decoder.text(message)
                decoder.binary(message)
        except CarrierError:
            continue


HEADERS = st.dictionaries(
    st.sampled_from(
        [
            "Authorization",
            "X-Twilio-Signature",
            "X-Twilio-Webhooks-Signature-Settings",
            "X-SignalWire-Signature",
            "X-SignalWire-SHA256-Signature",
            "X-Plivo-Signature-V3",
            "X-Plivo-Signature-V3-Nonce",
            "telnyx-signature-ed25519",
            "telnyx-timestamp",
        ]
    ),
    st.text() | st.binary().map(lambda octets: octets.decode(errors="surrogateescape")) | st.just("Bearer a.b.c"),
)
PROOFS = st.builds(
    IncomingRequest,
    target=st.text().map("/v1/status/x?".__add__) | st.just("/v1/status/x?CallSid=\udcff&uuid=%ff"),
    headers=HEADERS,
    form=st.lists(st.tuples(st.text(), st.text()), max_size=3),
    body=st.binary()
    | st.recursive(st.none() | st.text(), st.lists, max_leaves=5).map(lambda b: json.dumps(b).encode()),
    peer=st.text(),
    at_s=st.just(1.0),
)


@pytest.mark.parametrize("name", CARRIERS)
@given(PROOFS)
def test_random_requests_are_refused_without_errors(name: str, proof: IncomingRequest) -> None:
    """Authorizes and reads random requests: UnauthorizedError, CarrierError or a result, and nothing else.

    Another exception would be a server error with which attackers can fill the logs.
    """
    carrier = LOADED[name]
    for authorize in (carrier.authorize_socket, carrier.authorize_webhook):
        with pytest.raises(UnauthorizedError):
            authorize(proof, CONFIGURED)
    with contextlib.suppress(CarrierError):
        carrier.requested_call_id(proof)
    with contextlib.suppress(CarrierError):
        carrier.report(proof)


class _Forgetting(MemorySink):
    def put(self, item: object) -> None:
        """Nothing is kept."""


@pytest.fixture
def _silent() -> Iterator[None]:
    """Disables logging: pytest keeps log records, which would distort the measured memory."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.slow
@pytest.mark.usefixtures("_silent")
@pytest.mark.parametrize("name", CARRIERS)
def test_memory_stays_flat(name: str) -> None:
    """Plays broken calls one after the other: the memory after many equals that after a few.

    A leak per socket would let attackers exhaust the memory of the process.
    """
    metrics = Metrics()
    sink = _Forgetting()

    def play(seed: int, count: int) -> None:
        session = session_for(name, sink, metrics)
        for first, message in messages(name, seed, count):
            if first:
                session = session_for(name, sink, metrics)
            try:
                hear(session, message if isinstance(message, bytes) else message.encode(errors="replace").decode())
            except SessionClosedError:
                session = session_for(name, sink, metrics)

    play(1, 500)
    gc.collect()
    tracemalloc.start()
    play(2, 500)
    gc.collect()
    before, _ = tracemalloc.get_traced_memory()
    play(3, 2000)
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert after - before < 64 * 1024
