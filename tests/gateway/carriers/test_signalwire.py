"""SignalWire's signatures at the gateway's door: both headers, both ways of writing them."""

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


def test_signalwire_s_own_example() -> None:
    """Signs what the tests of SignalWire's own SDKs sign: the signature that stands there."""
    body = b'{"event":"call.state","params":{"call_id":"abc-123","state":"answered"}}'
    assert sign_body(KEY, "https://example.ngrok.io/webhook", body) == "c3c08c1fefaf9ee198a100d5906765a6f394bf0f"


@settings(max_examples=250)
@given(st.binary(max_size=60), st.sampled_from([SHA1, SHA256]), st.sampled_from(["", ":443"]), st.booleans())
def test_bodies_as_they_came(body: bytes, header: str, port: str, tampered: bool) -> None:
    """Signs any body with either hash, for the address with its port and without: accepted; with another body or
    with the other header's hash refused."""
    algorithm, other = ("sha256", SHA1) if header == SHA256 else ("sha1", SHA256)
    signature = sign_body(KEY, f"{BASE}{port}{PATH}", body, algorithm)  # type: ignore[arg-type]  # one of the two
    assert accepts({header: signature}, body + b" " if tampered else body) is not tampered
    assert not accepts({other: signature}, body)


@settings(max_examples=250)
@given(FORMS, st.sampled_from([SHA1, SHA256]), st.booleans())
def test_forms_are_signed_either_way(form: list[tuple[str, str]], header: str, tampered: bool) -> None:
    """Signs forms as Twilio does and as bodies: both accepted, and neither with a field more. SignalWire's pages say
    the one of cXML and the other of calls; whoever takes one only refuses half of the webhooks."""
    body = urlencode(form).encode()
    algorithm = "sha256" if header == SHA256 else "sha1"
    fields = parse_qsl(body.decode(), keep_blank_values=True)
    asked = body + b"&one=more" if tampered else body
    for signature in (
        sign(KEY, BASE + PATH, fields, algorithm),  # type: ignore[arg-type]  # one of the two
        sign_body(KEY, BASE + PATH, body, algorithm),  # type: ignore[arg-type]
    ):
        assert accepts({header: signature}, asked, form=True) is not tampered


def test_one_right_signature_is_enough() -> None:
    """Brings one header in a form nobody knows beside a right one: accepted. Two wrong ones, or none: refused."""
    good = sign_body(KEY, BASE + PATH, b"{}")
    assert accepts({SHA256: "v2=new", SHA1: good}, b"{}")
    assert not accepts({SHA256: "v2=new", SHA1: "v2=new"}, b"{}")
    assert not accepts({}, b"{}")


@pytest.mark.parametrize("body", [b"{}", b"a=1"])
def test_a_signature_of_the_address_alone_covers_no_body(body: bytes) -> None:
    """Puts a body to a request that was signed without one: refused, or one overheard signature would sign anything."""
    assert not accepts({SHA1: sign(KEY, BASE + PATH)}, body)
    assert accepts({SHA1: sign(KEY, BASE + PATH)}, b"")
