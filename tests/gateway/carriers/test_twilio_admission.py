"""Tests of Twilio's signatures, made with Twilio's SDK: the public URL is signed, and newer ones name their key."""

from urllib.parse import parse_qsl, urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr
from twilio.request_validator import RequestValidator

from core.settings import Settings, TwilioSettings
from gateway.carriers import load_carriers
from gateway.carriers.base import IncomingRequest, UnauthorizedError
from gateway.carriers.common.signatures import HEADER, SETTINGS_HEADER

CASES = settings(max_examples=250)
TOKEN, OLD, NEW = "auth-token", "old-shared-secret", "new-shared-secret"
TWILIO = load_carriers()["twilio"]
DEFAULTS = Settings()  # once: reading them takes longer than a request

HOSTS = st.sampled_from(["calls.example.com", "10.0.0.1", "xn--caf-dma.example"])
PORTS = st.sampled_from(["", ":443", ":8443"])
PREFIXES = st.sampled_from(["", "/voice", "/a/b"])
QUERIES = st.sampled_from(["", "?a=1&b=%20", "?flag="])
FORMS = st.dictionaries(st.text(min_size=1, max_size=8), st.text(max_size=20), min_size=1, max_size=5)
# What a proxy may send along or an outsider claim; none of it is what was signed.
REWRITTEN = {"Host": "gateway:8080", "X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "http"}


def accepts(public_url: str, proof: IncomingRequest, *, socket: bool) -> bool:
    keys = {"key1": SecretStr(OLD), "key2": SecretStr(NEW)}
    account = TwilioSettings(auth_token=SecretStr(TOKEN), signing_keys=keys, tenant="acme")
    configured = DEFAULTS.model_copy(update={"public_url": public_url, "twilio": account})
    authorize = TWILIO.authorize_socket if socket else TWILIO.authorize_webhook
    try:
        return authorize(proof, configured).tenant == "acme"
    except UnauthorizedError:
        return False


@CASES
@given(HOSTS, PORTS, st.booleans(), PREFIXES, QUERIES)
def test_sockets_are_signed_over_the_public_wss_address(
    host: str, port: str, with_port: bool, prefix: str, query: str
) -> None:
    """Signs the upgrade for the public wss URL, with and without its port: accepted behind a proxy.

    A signature for https, another host or another path is refused.
    """
    target = f"/v1/media/twilio{query}"
    signed_port = {"": ":443" if with_port else "", ":443": port if with_port else "", ":8443": port}[port]
    sdk = RequestValidator(TOKEN)

    def asks(address: str) -> bool:
        headers = {HEADER: sdk.compute_signature(address, {}), **REWRITTEN}
        return accepts(f"https://{host}{port}{prefix}/", IncomingRequest(target, headers), socket=True)

    assert asks(f"wss://{host}{signed_port}{prefix}{target}")
    assert not asks(f"https://{host}{signed_port}{prefix}{target}")
    assert not asks(f"wss://evil.example{signed_port}{prefix}{target}")
    assert not asks(f"wss://{host}{signed_port}{prefix}/x{target}")


@CASES
@given(st.builds("https://{}{}{}".format, HOSTS, PORTS, PREFIXES), QUERIES, FORMS, st.booleans())
def test_webhooks_are_signed_over_the_public_url_and_form(
    base: str, query: str, form: dict[str, str], tampered: bool
) -> None:
    """Signs forms with SHA-1 and the auth token, and with SHA-256 and each of two shared keys: accepted.

    Two keys are valid while one replaces the other.
    """
    target = f"/v1/status/twilio{query}"
    body = urlencode(form | ({"CallSid": "other"} if tampered else {})).encode()
    fields = parse_qsl(body.decode(), keep_blank_values=True)
    if tampered and form.get("CallSid") == "other":
        return
    ways: tuple[tuple[str, str, dict[str, str]], ...] = (
        (TOKEN, "HMAC_SHA1", {}),
        (OLD, "HMAC_SHA256", {SETTINGS_HEADER: "key=key1,algorithm=HMAC_SHA256"}),
        (NEW, "HMAC_SHA256", {SETTINGS_HEADER: "algorithm=HMAC_SHA256, key=key2"}),
        (NEW, "HMAC_SHA1", {SETTINGS_HEADER: "key=key2,algorithm=HMAC_SHA1"}),
    )
    for secret, algorithm, named in ways:
        signature = RequestValidator(secret).compute_signature(base + target, form, algorithm)
        proof = IncomingRequest(target, {HEADER: signature, **named, **REWRITTEN}, form=fields, body=body)
        assert accepts(base, proof, socket=False) is not tampered


@pytest.mark.parametrize(
    ("secret", "algorithm", "told"),
    [
        (TOKEN, "HMAC_SHA256", "algorithm=HMAC_SHA256"),  # the auth token signs SHA-1 only
        (TOKEN, "HMAC_SHA256", "key=key1,algorithm=HMAC_SHA256"),
        (OLD, "HMAC_SHA256", "key=key2,algorithm=HMAC_SHA256"),
        (OLD, "HMAC_SHA256", "key=key9,algorithm=HMAC_SHA256"),
        (OLD, "HMAC_SHA1", "key=key1,algorithm=HMAC_SHA256"),
        (OLD, "HMAC_SHA256", "key=key1,algorithm=HMAC_MD5"),
        (OLD, "HMAC_SHA256", ""),
        (TOKEN, "HMAC_SHA1", "key=key1"),
    ],
)
def test_a_signature_is_valid_for_its_named_key_and_hash(secret: str, algorithm: str, told: str) -> None:
    """Signs with one key or hash and names another: refused, on the socket and for the webhook."""
    for socket, url in ((True, "wss://h/v1/media/twilio"), (False, "https://h/v1/status/twilio")):
        signature = RequestValidator(secret).compute_signature(url, {}, algorithm)
        headers = {HEADER: signature, SETTINGS_HEADER: told} if told else {HEADER: signature}
        assert not accepts("https://h", IncomingRequest(url.partition("//h")[2], headers), socket=socket)


def test_a_socket_may_be_signed_with_a_shared_key() -> None:
    """Signs an upgrade with a shared key, as Twilio signs webhooks: accepted."""
    signature = RequestValidator(NEW).compute_signature("wss://h/v1/media/twilio", {}, "HMAC_SHA256")
    headers = {HEADER: signature, SETTINGS_HEADER: "key=key2,algorithm=HMAC_SHA256"}
    assert accepts("https://h", IncomingRequest("/v1/media/twilio", headers), socket=True)
