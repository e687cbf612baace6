"""Tests of our stream tokens: only tokens with our signature are valid, and only until they expire."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.admission.stream_tokens import StreamClaims, TokenError, issue, verify

SECRET = "a-secret-of-some-length"
CLAIMS = StreamClaims("acme", "vonage", "c-1", "", 1000)


@given(st.text(), st.text(), st.text(max_size=100), st.text(), st.integers(1, 2**40))
def test_verify_returns_the_issued_claims(tenant: str, carrier: str, call: str, nonce: str, expires_s: int) -> None:
    """Issues tokens with generated claims and verifies them; their text must not need escaping in a URL."""
    claims = StreamClaims(tenant[:50], carrier[:20], call, nonce[:20], expires_s)
    token = issue(SECRET, claims)
    assert verify(SECRET, token, expires_s - 1) == claims
    assert token.replace("-", "").replace("_", "").replace(".", "").isalnum()


@given(st.text() | st.builds("at1.{}.{}".format, st.text(), st.text()))
def test_other_texts_raise_token_error(token: str) -> None:
    """Verifies generated texts: each must raise TokenError and no other exception."""
    with pytest.raises(TokenError):
        verify(SECRET, token, 0)


def test_a_changed_token_is_refused() -> None:
    """Changes each character of a valid token: each change must be rejected."""
    token = issue(SECRET, CLAIMS)
    for place in range(4, len(token) - 1):  # the last digit of base64url has bits that say nothing
        other = "A" if token[place] != "A" else "B"
        with pytest.raises(TokenError):
            verify(SECRET, token[:place] + other + token[place + 1 :], 0)


def test_expired_token_error_contains_its_age_only() -> None:
    """Verifies a token at its expiry: the error must contain its age and nothing of the token."""
    token = issue(SECRET, CLAIMS)
    with pytest.raises(TokenError, match="expired 0 s ago") as refused:
        verify(SECRET, token, CLAIMS.expires_s)
    assert token.split(".")[2] not in str(refused.value)


def test_other_and_empty_secrets_are_rejected() -> None:
    """Verifies with another secret and with the empty one: both must fail, and the latter must name the setting."""
    with pytest.raises(TokenError, match="signature"):
        verify(SECRET + "x", issue(SECRET, CLAIMS), 0)
    with pytest.raises(TokenError, match="STREAM_TOKEN_SECRET"):
        verify("", issue("", CLAIMS), 0)
