"""Tests of SignalWire's signatures: both headers, both forms."""

from urllib.parse import parse_qsl, urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from core.settings import Settings, SignalWireSettings
from gateway.carriers import load_carriers
from gateway.carriers.base import IncomingRequest, UnauthorizedError
from gateway.carriers.common.signatures import sign, sign_body

KEY = "PSKtest1234567890abcdef"
BASE = "https://calls.example.com"
PATH = "/v1/status/signalwire"
CONFIGURED = Settings(public_url=BASE, signalwire=SignalWireSettings(signing_key=SecretStr(KEY), tenant="acme"))
SIGNALWIRE = load_carriers()["signalwire"]
SHA256, SHA1 = "X-SignalWire-SHA256-Signature", "X-SignalWire-Signature"
FORMS = st.lists(st.tuples(st.text(min_size=1, max_size=8), st.text(max_size=20)), min_size=1, max_size=5)


def accepts(headers: dict[str, str], body: bytes, *, form: bool = False, path: str = PATH) -> bool:
    fields = parse_qsl(body.decode(), keep_blank_values=True) if form else ()
    try:
        grant = SIGNALWIRE.authorize_webhook(IncomingRequest(path, headers, form=fields, body=body), CONFIGURED)
    except UnauthorizedError:
        return False
    return grant.tenant == "acme"


def test_the_example_of_signalwire() -> None:
    """Signs the example of SignalWire's own SDK tests: the signature is equal."""
    body = b'{"event":"call.state","params":{"call_id":"abc-123","state":"answered"}}'
    assert sign_body(KEY, "https://example.ngrok.io/webhook", body) == "c3c08c1fefaf9ee198a100d5906765a6f394bf0f"


@settings(max_examples=250)
@given(st.binary(max_size=60), st.sampled_from([SHA1, SHA256]), st.sampled_from(["", ":443"]), st.booleans())
def test_signed_bodies(body: bytes, header: str, port: str, tampered: bool) -> None:
    """Signs any body with either hash, for the URL with and without its port: accepted.

    Another body, or the hash of the other header, is refused.
    """
    algorithm, other = ("sha256", SHA1) if header == SHA256 else ("sha1", SHA256)
    signature = sign_body(KEY, f"{BASE}{port}{PATH}", body, algorithm)  # type: ignore[arg-type]  # one of the two
    assert accepts({header: signature}, body + b" " if tampered else body) is not tampered
    assert not accepts({other: signature}, body)


@settings(max_examples=250)
@given(FORMS, st.sampled_from([SHA1, SHA256]), st.booleans())
def test_both_signatures_of_forms_are_accepted(form: list[tuple[str, str]], header: str, tampered: bool) -> None:
    """Signs forms as Twilio does and as bodies: both are accepted, but not with another field.

    SignalWire documents one for cXML and the other for calls. Support for only one would refuse half of the webhooks.
    """
    body = urlencode(form).encode()
    algorithm = "sha256" if header == SHA256 else "sha1"
    fields = parse_qsl(body.decode(), keep_blank_values=True)
    asked = body + b"&one=more" if tampered else body
    for signature in (
        sign(KEY, BASE + PATH, fields, algorithm),  # type: ignore[arg-type]  # one of the two
        sign_body(KEY, BASE + PATH, body, algorithm),  # type: ignore[arg-type]
    ):
        assert accepts({header: signature}, asked, form=True) is not tampered


def test_one_valid_signature_is_enough() -> None:
    """Sends a valid signature beside an unknown one: accepted. Two invalid ones, or none, are refused."""
    good = sign_body(KEY, BASE + PATH, b"{}")
    assert accepts({SHA256: "v2=new", SHA1: good}, b"{}")
    assert not accepts({SHA256: "v2=new", SHA1: "v2=new"}, b"{}")
    assert not accepts({}, b"{}")


@pytest.mark.parametrize("body", [b"{}", b"a=1"])
def test_a_signature_of_the_address_alone_covers_no_body(body: bytes) -> None:
    """Adds a body to a request that was signed without one: refused.

    Otherwise one intercepted signature would be valid for every body.
    """
    assert not accepts({SHA1: sign(KEY, BASE + PATH)}, body)
    assert accepts({SHA1: sign(KEY, BASE + PATH)}, b"")
