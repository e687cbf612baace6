"""Tests of the tokens that AudioText signs: only tokens with our signature are valid, for one audience, until they
expire."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.token_signer import TokenError, TokenSigner

SECRET = "a-secret-of-some-length"


class Clock:
    """Clock that stands still until a test moves it."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@given(st.dictionaries(st.sampled_from(["tenant", "call", "key"]), st.text(max_size=100)), st.integers(1, 2**30))
def test_verify_returns_the_signed_claims(claims: dict[str, str], ttl_s: int) -> None:
    """Signs generated claims and verifies the token; its text must not need escaping in a URL, a header or XML."""
    signer = TokenSigner(SECRET, clock=Clock())
    token = signer.sign("stream", claims, ttl_s)
    found = signer.verify("stream", token)
    assert {name: found[name] for name in claims} == claims
    assert found["exp"] == 1000 + ttl_s
    assert token.replace("-", "").replace("_", "").replace(".", "").isalnum()


@given(st.text() | st.builds("at1.{}.{}.{}".format, st.text(), st.text(), st.text()))
def test_other_texts_raise_token_error(token: str) -> None:
    """Verifies generated texts: each must raise TokenError and no other exception."""
    with pytest.raises(TokenError):
        TokenSigner(SECRET).verify("stream", token)


def test_a_changed_token_is_refused() -> None:
    """Changes each character of a valid token: each change must be rejected."""
    signer = TokenSigner(SECRET)
    token = signer.sign("stream", {"tenant": "acme"}, 60)
    for place in range(len(token) - 1):  # the last digit of base64url has bits without a meaning
        other = "A" if token[place] != "A" else "B"
        with pytest.raises(TokenError):
            signer.verify("stream", token[:place] + other + token[place + 1 :])


def test_a_token_is_for_one_audience() -> None:
    """Verifies a session as a link and as a stream token. A failure means that whoever may share a call can sign in."""
    signer = TokenSigner(SECRET)
    token = signer.sign("session", {"key": "k"}, 60)
    for audience in ("link", "stream", ""):
        with pytest.raises(TokenError):
            signer.verify(audience, token)


def test_expired_token_error_contains_its_age_only() -> None:
    """Verifies a token before and at its expiry: the error must contain its age and nothing of the token."""
    clock = Clock()
    signer = TokenSigner(SECRET, clock=clock)
    token = signer.sign("stream", {}, 60)
    clock.now_s += 59.9
    signer.verify("stream", token)
    clock.now_s = 1063
    with pytest.raises(TokenError, match="expired 3 s ago") as refused:
        signer.verify("stream", token)
    assert token.split(".")[2] not in str(refused.value)


def test_tokens_of_one_second_differ() -> None:
    """Signs the same claims many times at the same moment: every token and every id must be different, so that one
    session can be ended without the others."""
    signer = TokenSigner(SECRET, clock=Clock())
    tokens = {signer.sign("session", {"key": "k"}, 60) for _ in range(100)}
    assert len(tokens) == 100
    assert len({signer.verify("session", token)["jti"] for token in tokens}) == 100


def test_another_secret_is_rejected() -> None:
    """Verifies with another secret and with the empty one: both must fail."""
    token = TokenSigner(SECRET).sign("stream", {}, 60)
    for secret in (SECRET + "x", ""):
        with pytest.raises(TokenError, match="signature"):
            TokenSigner(secret).verify("stream", token)
