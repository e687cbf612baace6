"""Signed webhooks: only what the secret signed, only for this payload, only now. The tokens are made by hand, with
nothing but HMAC, and by the library that Vonage's own SDK checks them with."""

import base64
import hashlib
import hmac
import json
import uuid
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

import jwt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.carriers.common.signed_jwt import WINDOW_S, SignedWebhookError, payload_hash, verify_webhook

CASES = settings(max_examples=250)
SECRET = "XsA09z2MhUxYcdXXaUaLEY8qdhWRX0hxuQmMExmMhf5HYzpTzS"
NOW_S = 1_795_348_800
TARGET = "/v1/status/vonage"
SECRETS = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=60)
BODIES = st.dictionaries(st.text(max_size=8), st.text(max_size=20), max_size=5).map(
    lambda told: json.dumps(told).encode()
)


def claims(body: bytes, **changed: object) -> dict[str, Any]:
    """What a token of Vonage's says, as its documents show it; a change to None leaves a claim out."""
    said = {
        "iat": NOW_S,
        "jti": str(uuid.UUID(int=7)),
        "iss": "Vonage",
        "payload_hash": hashlib.sha256(body).hexdigest(),
        "api_key": "a1b2c3d",
        "application_id": "aaaaaaaa-bbbb-cccc-dddd-0123456789ab",
    }
    return {name: value for name, value in (said | changed).items() if value is not None}


def part(said: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(said).encode()).decode().rstrip("=")


def signed(secret: str, said: Mapping[str, Any], header: object = None) -> str:
    """The token, made as RFC 7515 says."""
    text = f"{part(header or {'alg': 'HS256', 'typ': 'JWT'})}.{part(said)}"
    digest = hmac.digest(secret.encode(), text.encode(), "sha256")
    return f"{text}.{base64.urlsafe_b64encode(digest).decode().rstrip('=')}"


def accepts(token: str, body: bytes = b"{}", secret: str = SECRET, target: str = TARGET, now_s: float = NOW_S) -> bool:
    try:
        verify_webhook(secret, token, target, body, now_s)
    except SignedWebhookError:
        return False
    return True


@CASES
@given(SECRETS, BODIES, st.sampled_from(["", "body", "secret", "claims", "signature"]))
@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
def test_what_was_signed_passes_and_nothing_else(secret: str, body: bytes, tampered: str) -> None:
    """Signs generated bodies with generated secrets, by hand and by the library, and changes something of most: the
    body, the secret, a claim, the signature. Whoever can change a status webhook can end other people's calls."""
    said = claims(body)
    ours, theirs = signed(secret, said), jwt.encode(said, secret, algorithm="HS256")
    assert jwt.decode(ours, secret, algorithms=["HS256"], options={"verify_iat": False}) == said
    for token in (ours, theirs):
        asked_body, asked_secret, asked = body, secret, token
        if tampered == "body":
            asked_body += b" "
        elif tampered == "secret":
            asked_secret += "x"
        elif tampered == "claims":
            head, _, signature = token.split(".")
            asked = f"{head}.{part(said | {'jti': 'other'})}.{signature}"
        elif tampered == "signature":
            asked = token.rpartition(".")[0] + "." + part("0" * 30)
        assert accepts(asked, asked_body, asked_secret) is not bool(tampered)


@given(st.integers(-3 * WINDOW_S, 3 * WINDOW_S))
def test_it_is_good_for_five_minutes(age_s: int) -> None:
    """Brings tokens of all ages, also from the future: good within the window. A webhook that was overheard could be
    told again for ever otherwise."""
    token = signed(SECRET, claims(b"{}", iat=NOW_S - age_s))
    assert accepts(token) is (abs(age_s) <= WINDOW_S)


@pytest.mark.parametrize(
    "changed",
    [
        {"iat": None},
        {"iat": "now"},
        {"iat": True},
        {"iss": "Somebody"},
        {"iss": None},
        {"payload_hash": None},
        {"payload_hash": ""},
        {"payload_hash": "\u00e9"},
        {"exp": NOW_S},
        {"exp": "never"},
        {"exp": False},
    ],
)
def test_what_is_missing_or_over_is_refused(changed: dict[str, object]) -> None:
    """Signs tokens that leave a claim out, say nonsense, or have expired: refused, although the signature is right."""
    assert accepts(signed(SECRET, claims(b"{}", exp=NOW_S + 1)))
    assert not accepts(signed(SECRET, claims(b"{}", **changed)))


def test_only_hs256_counts() -> None:
    """Brings a token that says that it needs no signature, and one of another hash: the classic ways around a JWT."""
    said = claims(b"{}")
    assert not accepts(f"{part({'alg': 'none', 'typ': 'JWT'})}.{part(said)}.")
    assert not accepts(signed(SECRET, said, {"alg": "HS512", "typ": "JWT"}))
    assert not accepts(jwt.encode(said, SECRET + SECRET, algorithm="HS512"), secret=SECRET + SECRET)


@given(st.dictionaries(st.text(max_size=8), st.text(max_size=20), max_size=5))
def test_of_a_get_its_query_is_hashed(told: dict[str, str]) -> None:
    """Asks by GET, as Vonage's answer webhook does unless it is told otherwise: the parameters in their order, as JSON
    without spaces."""
    text = json.dumps(told, separators=(",", ":"), ensure_ascii=False)
    target = f"/v1/voice/vonage?{urlencode(told, quote_via=quote)}"
    assert payload_hash(target, b"") == hashlib.sha256(text.encode()).hexdigest()
    token = signed(SECRET, claims(text.encode()))
    assert accepts(token, b"", target=target)
    assert not accepts(token, b"", target=f"{target}&more=1")


def test_the_empty_secret_fits_nothing() -> None:
    """Verifies what the empty secret signed: refused, or an account without a secret would be open."""
    assert not accepts(signed("", claims(b"{}")), secret="")


DEEP = base64.urlsafe_b64encode(b"[" * 2000).decode()


@given(
    st.text()
    | st.builds("{}.{}.{}".format, st.text(), st.text(), st.text())
    | st.sampled_from(["", "..", f"{DEEP}.e30.AA", f"e30.{DEEP}.AA", "\udcff.a.b", signed(SECRET, {}), "a" * 10_000])
)
def test_nonsense_is_refused_and_no_error(token: str) -> None:
    """Whatever an outsider sends as token: refused, never another exception, which would be a server error."""
    assert not accepts(token, target="/v1/voice/vonage?a=\udcff")
