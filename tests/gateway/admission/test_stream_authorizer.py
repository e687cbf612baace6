"""Tests of stream authorization: all valid credentials, and invalid ones that resemble them."""

import base64
import hashlib
import hmac
import time
from collections.abc import Mapping

import pytest
from pydantic import SecretStr

from core.settings import GatewaySettings, PlivoSettings, Settings, TwilioAccount, TwilioSettings, VonageSettings
from core.token_signer import TokenSigner
from gateway.admission.stream_authorizer import StreamAuthorizer
from gateway.carriers import load_carriers
from gateway.carriers.base import IncomingRequest, StreamStart, UnauthorizedError
from gateway.carriers.common.signatures import HEADER, sign
from gateway.media.session import Admit, SessionClosedError
from schemas.media import Codec

CARRIERS = load_carriers()
SECRET = "a-secret-of-some-length"
PUBLIC_URL = "https://calls.example.com"


def settings(**gateway: object) -> Settings:
    """Returns settings with two Twilio accounts of two tenants, an account of Vonage and Plivo, and stream tokens."""
    accounts = {name: TwilioAccount(auth_token=SecretStr(f"token-{name}"), tenant=name) for name in ("ACone", "ACtwo")}
    return Settings(
        public_url=PUBLIC_URL,
        twilio=TwilioSettings(accounts=accounts),
        vonage=VonageSettings(signature_secret=SecretStr("a-secret-of-vonage")),
        plivo=PlivoSettings(auth_token=SecretStr("a-token-of-plivo")),
        gateway=GatewaySettings.model_validate({"stream_token_secret": SECRET} | gateway),
    )


def start(call_id: str = "c-1", stream_id: str = "s-1", account: str = "", token: str | None = None) -> StreamStart:
    custom = {"agent": "7"} | ({"token": token} if token is not None else {})
    return StreamStart(call_id, stream_id, account, (), Codec.PCMU, 8000, custom=custom)


def proof(target: str, headers: Mapping[str, str] | None = None) -> IncomingRequest:
    return IncomingRequest(target, headers or {}, at_s=time.time())


def refused(admit: Admit, start: StreamStart, words: str, label: str = "unauthorized") -> None:
    with pytest.raises(SessionClosedError, match=words) as closed:
        admit(start)
    assert closed.value.label == label


@pytest.mark.parametrize("name", sorted(set(CARRIERS) - {"audiosocket"}))
def test_stream_token_is_valid_for_its_call_and_carrier(name: str) -> None:
    """Sends a token in the query string, as a bearer token and as the Basic password.

    It must be accepted for its tenant and its call, also for a second stream, and rejected for another call or carrier.
    """
    admissions = StreamAuthorizer(settings())
    token = admissions.issue("acme", name, "c-1")
    basic = base64.b64encode(f"audiotext:{token}".encode()).decode()
    ways = (
        proof(f"/v1/media/{name}?token={token}"),
        proof(f"/v1/media/{name}", {"Authorization": f"Bearer {token}"}),
        proof(f"/v1/media/{name}", {"Authorization": f"Basic {basic}"}),
    )
    for way in ways:
        admit = admissions.authorize(name, CARRIERS[name], way)
        assert admit(start()) == ("acme", start())
        assert admit(start(stream_id="s-2"))[0] == "acme"
        refused(admit, start(call_id="c-2"), "another call")
    other = "twilio" if name != "twilio" else "telnyx"
    with pytest.raises(UnauthorizedError, match=f"for {name}, not {other}"):
        admissions.authorize(other, CARRIERS[other], proof(f"/v1/media/{other}?token={token}"))


def test_token_without_call_id_is_bound_to_its_first_call() -> None:
    """Uses a token without a call id for two calls: only the first may use it.

    A leaked token must not allow another call.
    """
    admissions = StreamAuthorizer(settings())
    admit = admissions.authorize(
        "telnyx", CARRIERS["telnyx"], proof(f"/v1/media/telnyx?token={admissions.issue('acme', 'telnyx', '')}")
    )
    assert admit(start())[0] == "acme"
    assert admit(start(stream_id="s-2"))[0] == "acme"
    refused(admit, start(call_id="c-2"), "another call")


def test_an_expired_token_is_refused() -> None:
    """Sends a token one second after its expiry, in the upgrade and in the start: both must be rejected."""
    admissions = StreamAuthorizer(settings())
    old = TokenSigner(SECRET).sign("stream", {"tenant": "acme", "carrier": "vonage", "call": "c-1"}, -1)
    with pytest.raises(UnauthorizedError, match="expired"):
        admissions.authorize("vonage", CARRIERS["vonage"], proof(f"/v1/media/vonage?token={old}"))
    refused(admissions.authorize("vonage", CARRIERS["vonage"], proof("/v1/media/vonage")), start(token=old), "expired")


@pytest.mark.parametrize("name", ["vonage", "plivo"])
def test_token_in_the_start_is_accepted_and_removed(name: str) -> None:
    """Sends no credentials with the upgrade and a token with the start, for carriers that allow nothing else.

    It must be accepted and removed from the stored start. Without it, or with another carrier's token, the stream must
    be rejected.
    """
    admissions = StreamAuthorizer(settings())
    admit = admissions.authorize(name, CARRIERS[name], proof(f"/v1/media/{name}"))
    assert admit(start(token=admissions.issue("acme", name, "c-1"))) == ("acme", start())
    refused(admit, start(), "has no stream token")
    refused(admit, start(token="nonsense"), "has no stream token")
    refused(admit, start(token=admissions.issue("acme", "twilio", "c-1")), "for twilio")
    refused(admit, start(token=admissions.issue("acme", name, "c-9")), "another call")


@pytest.mark.parametrize("name", sorted(CARRIERS))
def test_nothing_configured_is_denied(name: str) -> None:
    """Uses a gateway without any secret, without credentials and with a token signed by the empty secret.

    Both must fail.
    """
    admissions = StreamAuthorizer(Settings())
    assert admissions.issue("acme", name, "c-1") == ""
    forged = TokenSigner("").sign("stream", {"tenant": "acme", "carrier": name, "call": "c-1"}, 60)
    for target in (f"/v1/media/{name}", f"/v1/media/{name}?token={forged}"):
        with pytest.raises(UnauthorizedError):
            admissions.authorize(name, CARRIERS[name], proof(target))


@pytest.mark.parametrize("name", sorted(set(CARRIERS) - {"vonage", "plivo"}))
def test_upgrade_without_credentials_is_rejected(name: str) -> None:
    """Sends an upgrade without credentials for carriers that can send them.

    It must be rejected before a socket opens.
    """
    with pytest.raises(UnauthorizedError):
        StreamAuthorizer(settings()).authorize(name, CARRIERS[name], proof(f"/v1/media/{name}"))


def twilio(admissions: StreamAuthorizer, account: str) -> Admit:
    """Returns the admission of a Twilio socket signed by that account."""
    signature = sign(f"token-{account}", f"{PUBLIC_URL.replace('https', 'wss')}/v1/media/twilio")
    return admissions.authorize("twilio", CARRIERS["twilio"], proof("/v1/media/twilio", {HEADER: signature}))


def test_accounts_are_tenants() -> None:
    """Signs with the tokens of two accounts: each must belong to its own tenant.

    Neither may bring a stream or a token of the other, and the signature of a third account must be rejected.
    """
    admissions = StreamAuthorizer(settings())
    for account, other in (("ACone", "ACtwo"), ("ACtwo", "ACone")):
        admit = twilio(admissions, account)
        assert admit(start(account=account))[0] == account
        refused(admit, start(account=other), "another account")
        refused(admit, start(call_id="c-2", token=admissions.issue(other, "twilio", "c-2")), "another tenant")
        assert admit(start(call_id="c-2", token=admissions.issue(account, "twilio", "c-2")))[0] == account
    with pytest.raises(UnauthorizedError):
        twilio(admissions, "ACthree")


def test_streams_of_a_call_are_limited() -> None:
    """Opens one stream too many: it must be rejected, but a second socket of an open stream must not."""
    admissions = StreamAuthorizer(settings(max_streams_per_call=2))
    admit = twilio(admissions, "ACone")
    admissions.streams.update([("ACone", "c-1", "s-1"), ("ACone", "c-1", "s-2"), ("ACtwo", "c-1", "s-9")])
    refused(admit, start(stream_id="s-3"), "MAX_STREAMS_PER_CALL", "call-streams")
    assert admit(start(stream_id="s-2"))[0] == "ACone"
    assert admit(start(call_id="c-2"))[0] == "ACone"


def test_calls_of_a_tenant_are_limited() -> None:
    """Opens one call too many of a tenant: it must be rejected; streams of open calls and other tenants must not."""
    admissions = StreamAuthorizer(settings(max_calls_per_tenant=1))
    admissions.streams.update([("ACone", "c-1", "s-1")])
    refused(twilio(admissions, "ACone"), start(call_id="c-2"), "MAX_CALLS_PER_TENANT", "tenant-calls")
    assert twilio(admissions, "ACone")(start(stream_id="s-2"))[0] == "ACone"
    assert twilio(admissions, "ACtwo")(start(call_id="c-2"))[0] == "ACtwo"


PROVEN = {
    "twilio": {"auth_token": "token-of-twilio"},
    "signalwire": {"stream_token": "token-of-signalwire"},
    "plivo": {"auth_token": "token-of-plivo"},
}


def proven(name: str, **plan: object) -> tuple[StreamAuthorizer, Admit]:
    """Returns an authorizer, and the admission of a socket with the carrier's own proof but without our token."""
    section = {name: {**PROVEN[name], "tenant": "acme", **plan}}
    admissions = StreamAuthorizer(
        Settings.model_validate({"public_url": PUBLIC_URL, "gateway": {"stream_token_secret": SECRET}, **section})
    )
    path, secret = f"/v1/media/{name}", next(iter(PROVEN[name].values()))
    url = f"{PUBLIC_URL.replace('https', 'wss')}{path}"
    digest = base64.b64encode(hmac.digest(secret.encode(), f"{url}.nonce".encode(), hashlib.sha256)).decode()
    headers = {
        "twilio": {HEADER: sign(secret, url)},
        "signalwire": {"Authorization": f"Bearer {secret}"},
        "plivo": {"X-Plivo-Signature-V3": digest, "X-Plivo-Signature-V3-Nonce": "nonce"},
    }
    return admissions, admissions.authorize(name, CARRIERS[name], proof(path, headers[name]))


@pytest.mark.parametrize("name", PROVEN)
@pytest.mark.parametrize("plan", [{"dial": "+15550100"}, {"say": "Hello"}, {"require_stream_token": True}])
def test_the_carrier_s_proof_alone_starts_no_stream(name: str, plan: dict[str, object]) -> None:
    """Opens sockets whose proof is the same for every stream, where our voice webhook answers the calls.

    Without a stream token, or with one for another call, the start is refused; with the call's own token it is
    accepted. A failure means that somebody who has seen one upgrade request can record and bill calls of that tenant.
    """
    admissions, admit = proven(name, **plan)
    refused(admit, start(), f"set AUDIOTEXT_{name.upper()}__REQUIRE_STREAM_TOKEN=false")
    refused(admit, start(token=admissions.issue("acme", name, "c-2")), "another call")
    assert admit(start(token=admissions.issue("acme", name, "c-1")))[0] == "acme"


@pytest.mark.parametrize("name", PROVEN)
def test_a_call_that_our_voice_webhook_answered_needs_its_token(name: str) -> None:
    """Opens a socket for a call that our voice webhook has answered, and for one that it has not, in an installation
    whose settings do not say how calls continue: only the first must present the token."""
    admissions, admit = proven(name)
    token = admissions.issue("acme", name, "c-1")
    refused(admit, start(), "has no stream token")
    assert admit(start(token=token))[0] == "acme"
    assert admit(start(call_id="c-2"))[0] == "acme"


@pytest.mark.parametrize("name", PROVEN)
def test_foreign_instructions_need_a_setting(name: str) -> None:
    """Opens a socket without a token where the settings allow streams of foreign instructions: it is accepted."""
    admissions, admit = proven(name, dial="+15550100", require_stream_token=False)
    admissions.issue("acme", name, "c-1")
    assert admit(start())[0] == "acme"
