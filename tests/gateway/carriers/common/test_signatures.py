"""Signatures are checked against Twilio's own SDK: both must say the same of every request."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twilio.request_validator import RequestValidator

from gateway.carriers.common.signatures import sign, socket_url, verify

TOKENS = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=40)
URLS = st.builds(
    "{}://{}{}{}".format,
    st.sampled_from(["https", "http"]),
    st.sampled_from(["example.com", "10.0.0.1", "xn--caf-dma.example"]),
    st.sampled_from(["", ":8443", ":443", ":80"]),
    st.sampled_from(["/", "/v1/voice/twilio", "/v1/voice/twilio?a=1&b=%20", "/%2F"]),
)
FORMS = st.dictionaries(st.text(min_size=1), st.text(), max_size=5)


@settings(max_examples=250)
@given(TOKENS, URLS, FORMS)
def test_signing_is_the_sdk_s(token: str, url: str, form: dict[str, str]) -> None:
    """Signs generated requests here and with the SDK: equal to the character."""
    assert sign(token, url, list(form.items())) == RequestValidator(token).compute_signature(url, form)


@settings(max_examples=250)
@given(TOKENS, URLS, FORMS)
def test_what_the_sdk_accepts_is_accepted(token: str, url: str, form: dict[str, str]) -> None:
    """Lets the SDK sign a request to its URL with and without the port: both are accepted here, as the SDK does."""
    validator = RequestValidator(token)
    for spelling in {url, url.replace(":8443", "").replace(":443", "").replace(":80/", "/")}:
        signature = validator.compute_signature(spelling, form)
        assert verify(token, url, signature, list(form.items()))
        assert validator.validate(url, form, signature)


@settings(max_examples=250)
@given(TOKENS, URLS, FORMS, st.text())
def test_what_the_sdk_refuses_is_refused(token: str, url: str, form: dict[str, str], other: str) -> None:
    """Verifies random signatures, another token's, another URL's and another form's: all refused."""
    good = sign(token, url, list(form.items()))
    assert verify(token, url, other, list(form.items())) == (other == good)
    assert not verify(token + "x", url, good, list(form.items()))
    assert not verify(token, url + "x", good, list(form.items()))
    assert not verify(token, url, good, [*form.items(), ("one", "more")])


def test_a_repeated_field_is_signed_as_the_sdk_does() -> None:
    """Signs a form with a field given twice, once with the same value: the SDK sorts values and drops repeats."""

    class MultiDict(dict[str, list[str]]):
        def getall(self, name: str) -> list[str]:
            return self[name]

    fields = MultiDict(To=["b", "a", "b"])
    expected = RequestValidator("t").compute_signature("https://x/", fields)
    assert sign("t", "https://x/", [("To", "b"), ("To", "a"), ("To", "b")]) == expected


@pytest.mark.parametrize(
    ("base", "url"),
    [
        ("https://a.example", "wss://a.example/v1/media/twilio"),
        ("http://127.0.0.1:8080", "ws://127.0.0.1:8080/v1/media/twilio"),
        ("wss://a.example/prefix", "wss://a.example/prefix/v1/media/twilio"),
    ],
)
def test_a_socket_s_url_is_the_public_one(base: str, url: str) -> None:
    """Media sockets are signed over ws and wss, not over the http URL they were derived from."""
    assert socket_url(base, "/v1/media/twilio") == url
    assert verify("t", url, sign("t", url))
    assert not verify("t", url, sign("t", url.replace("ws", "http", 1)))


def test_a_default_port_may_be_written_or_not() -> None:
    """Signs wss://host:443/… for a gateway known as https://host: accepted; port 80 or 8443 is another place."""
    url = "wss://a.example/v1/media/twilio"
    assert verify("t", url, sign("t", "wss://a.example:443/v1/media/twilio"))
    assert not verify("t", url, sign("t", "wss://a.example:8443/v1/media/twilio"))


def test_an_empty_token_fits_nothing() -> None:
    """Verifies what an empty token would sign: refused, or an unconfigured gateway would be open to everybody."""
    assert not verify("", "wss://a/", sign("", "wss://a/"))
