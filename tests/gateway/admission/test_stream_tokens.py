"""Our own stream tokens: only what we signed, only while it is good."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.admission.stream_tokens import StreamClaims, TokenError, issue, verify

SECRET = "a-secret-of-some-length"
CLAIMS = StreamClaims("acme", "vonage", "c-1", "", 1000)


@given(st.text(), st.text(), st.text(max_size=100), st.text(), st.integers(1, 2**40))
def test_what_is_issued_is_what_is_verified(tenant: str, carrier: str, call: str, nonce: str, expires_s: int) -> None:
    """Issues tokens about anything and reads them back; they fit into a URL as they are."""
    claims = StreamClaims(tenant[:50], carrier[:20], call, nonce[:20], expires_s)
    token = issue(SECRET, claims)
    assert verify(SECRET, token, expires_s - 1) == claims
    assert token.replace("-", "").replace("_", "").replace(".", "").isalnum()


@given(st.text() | st.builds("at1.{}.{}".format, st.text(), st.text()))
def test_anything_else_is_refused(token: str) -> None:
    """Verifies whatever an outsider may think of: a TokenError, never another exception."""
    with pytest.raises(TokenError):
        verify(SECRET, token, 0)


def test_a_changed_token_is_refused() -> None:
    """Changes each character of a good token: none of them may be changed."""
    token = issue(SECRET, CLAIMS)
    for place in range(4, len(token) - 1):  # the last digit of base64url has bits that say nothing
        other = "A" if token[place] != "A" else "B"
        with pytest.raises(TokenError):
            verify(SECRET, token[:place] + other + token[place + 1 :], 0)


def test_an_expired_token_is_refused_and_says_so_without_secrets() -> None:
    """Verifies at the second it expires: refused, with its age and nothing of the token."""
    token = issue(SECRET, CLAIMS)
    with pytest.raises(TokenError, match="expired 0 s ago") as refused:
        verify(SECRET, token, CLAIMS.expires_s)
    assert token.split(".")[2] not in str(refused.value)


def test_another_secret_or_none_is_refused() -> None:
    """Verifies with another secret and with the empty one: refused; the latter names the setting."""
    with pytest.raises(TokenError, match="signature"):
        verify(SECRET + "x", issue(SECRET, CLAIMS), 0)
    with pytest.raises(TokenError, match="STREAM_TOKEN_SECRET"):
        verify("", issue("", CLAIMS), 0)
