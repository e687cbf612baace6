"""The other carriers' signatures against those carriers' own SDKs: our signer is accepted by their validator, theirs by
ours, and what one refuses the other refuses."""

import base64
import json
import time

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from plivo.utils.signature_v3 import construct_get_url, construct_post_url, get_signature_v3, validate_v3_signature
from signalwire.request_validator import RequestValidator as SignalWireValidator
from twilio.request_validator import RequestValidator as TwilioValidator
from twilio.request_validator import get_signature_algorithm

from gateway.carriers.common.signatures import (
    ED25519_WINDOW_S,
    sign,
    sign_body,
    sign_v3,
    signature_settings,
    verify,
    verify_body,
    verify_ed25519,
    verify_v3,
)

CASES = settings(max_examples=250)

TOKENS = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=40)
URLS = st.builds(
    "{}://{}{}{}".format,
    st.sampled_from(["https", "http"]),
    st.sampled_from(["example.com", "10.0.0.1", "xn--caf-dma.example"]),
    st.sampled_from(["", ":8443", ":443"]),
    st.sampled_from(["/", "/v1/voice/x", "/v1/voice/x?a=1&b=%20&a=0", "/v1/status/x?flag=&z=a+b", "/%2F"]),
)
FORMS = st.dictionaries(st.text(min_size=1, max_size=8), st.text(max_size=20), max_size=5)
JSON_BODIES = st.dictionaries(st.text(max_size=8), st.text(max_size=20), max_size=5).map(json.dumps)


@CASES
@given(TOKENS, URLS, FORMS, st.booleans())
def test_twilio_sha256(token: str, url: str, form: dict[str, str], tampered: bool) -> None:
    """Signs with SHA-256, both ways round, once for the request and once for another one."""
    validator, fields = TwilioValidator(token), list(form.items())
    ours, theirs = sign(token, url, fields, "sha256"), validator.compute_signature(url, form, "HMAC_SHA256")
    assert ours == theirs
    asked = url + "x" if tampered else url
    assert validator.validate(asked, form, ours, "HMAC_SHA256") is (not tampered)
    assert verify(token, asked, theirs, fields, "sha256") is (not tampered)
    assert not verify(token, url, theirs, fields)  # as SHA-1


@given(st.text(max_size=60) | st.sampled_from(["key=k1,algorithm=HMAC_SHA256", " algorithm = HMAC_SHA1 ,key=", "="]))
def test_twilio_s_settings_header(header: str) -> None:
    """Reads the header that names key and algorithm as the SDK does."""
    assert signature_settings(header).get("algorithm", "HMAC_SHA1") == _last_wins(header)


def _last_wins(header: str) -> str:
    # Of an algorithm named twice the SDK takes the first; nobody sends that, and either is one of the two we know.
    names = [part.partition("=")[0].strip() for part in header.split(",")]
    if names.count("algorithm") > 1:
        return signature_settings(header).get("algorithm", "HMAC_SHA1")
    return str(get_signature_algorithm(header))


@CASES
@given(TOKENS, URLS, FORMS, st.booleans())
def test_signalwire_forms(token: str, url: str, form: dict[str, str], tampered: bool) -> None:
    """Signs forms both ways round: as Twilio's, and refused for another URL."""
    validator, fields = SignalWireValidator(token), list(form.items())
    ours, theirs = sign(token, url, fields), validator.build_signature_with_compatibility(url, form)
    assert ours == theirs
    asked = url + "x" if tampered else url
    assert validator.validate(asked, form, ours) is (not tampered)
    assert verify(token, asked, theirs, fields) is (not tampered)


@CASES
@given(TOKENS, URLS, JSON_BODIES, st.booleans())
def test_signalwire_json(token: str, url: str, body: str, tampered: bool) -> None:
    """Signs JSON bodies both ways round: hexadecimal, over URL and body, refused for another body."""
    validator = SignalWireValidator(token)
    ours, theirs = sign_body(token, url, body.encode()), validator.build_signature(url, body)
    assert ours == theirs
    asked = body + " " if tampered else body
    assert validator.validate(url, asked, ours) is (not tampered)
    assert verify_body(token, url, theirs, asked.encode()) is (not tampered)


@CASES
@given(TOKENS, URLS, FORMS, st.text("0123456789", min_size=1, max_size=20), st.sampled_from(["GET", "POST"]))
def test_plivo_v3(token: str, url: str, form: dict[str, str], nonce: str, method: str) -> None:
    """Signs GETs and POSTs both ways round, among other signatures, and for another nonce."""
    if method == "GET":
        form, fields, base = {}, None, construct_get_url(url, {}).decode()
    else:
        fields, base = list(form.items()), construct_post_url(url, form).decode()
    ours, theirs = sign_v3(token, url, nonce, fields), get_signature_v3(token.encode(), base, nonce).decode()
    assert ours == theirs
    for asked, listed, right in ((nonce, f"AAAA,{ours}", True), (nonce + "1", ours, False), (nonce, "AAAA,", False)):
        assert validate_v3_signature(method, url, asked, token, listed, dict(form)) is right
        assert verify_v3(token, url, asked, listed, fields) is right
    assert not verify_v3("", url, nonce, sign_v3("", url, nonce, fields), fields)


KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC_KEY = base64.b64encode(KEY.public_key().public_bytes_raw()).decode()


def sdk_accepts(body: bytes, timestamp: str, signature: str) -> bool:
    """Returns the verdict of Telnyx' SDK, which uses the clock of the machine. Its import takes seconds."""
    from telnyx.lib.webhook_verification import WebhookVerificationError, verify_webhook_signature  # noqa: PLC0415

    headers = {"Telnyx-Signature-Ed25519": signature, "Telnyx-Timestamp": timestamp}
    try:
        verify_webhook_signature(body, headers, PUBLIC_KEY)
    except WebhookVerificationError:
        return False
    return True


@pytest.mark.slow
@CASES
@given(
    JSON_BODIES.map(str.encode),
    st.integers(-2 * ED25519_WINDOW_S, 2 * ED25519_WINDOW_S).filter(lambda age: abs(abs(age) - ED25519_WINDOW_S) > 5),
    st.sampled_from(["", "body", "time", "signature"]),
)
def test_telnyx(body: bytes, age_s: int, tampered: str) -> None:
    """Signs webhooks of all ages, changes something of some: accepted by both within 300 s and unchanged, else by
    neither."""
    now = int(time.time())
    timestamp = str(now - age_s)
    signature = base64.b64encode(KEY.sign(f"{timestamp}|".encode() + body)).decode()
    if tampered == "body":
        body += b" "
    elif tampered == "time":
        timestamp = str(now - age_s + 1)
    elif tampered == "signature":
        signature = base64.b64encode(bytes(64)).decode()
    expected = not tampered and abs(age_s) <= ED25519_WINDOW_S
    assert sdk_accepts(body, timestamp, signature) is expected
    assert verify_ed25519(PUBLIC_KEY, timestamp, signature, body, now) is expected


@pytest.mark.parametrize(("timestamp", "signature"), [("", ""), ("x", "AA=="), ("1", "\udcff"), ("٣", ""), ("1", "=")])
def test_nonsense_is_refused_and_no_error(timestamp: str, signature: str) -> None:
    """Whatever an outsider sends as signature: refused."""
    assert not verify_ed25519(PUBLIC_KEY, timestamp, signature, b"{}", 1.0)


def test_a_key_that_is_none_is_a_mistake_in_the_settings() -> None:
    """A public key of the wrong length: ValueError, so that the log can name the setting."""
    with pytest.raises(ValueError, match="32"):
        verify_ed25519("AAAA", "1", "AA==", b"{}", 1.0)
