"""Who may stream: every way in, and every way that looks like one."""

import base64
import time
from collections.abc import Mapping

import pytest
from pydantic import SecretStr

from core.settings import GatewaySettings, Settings, TwilioAccount, TwilioSettings
from gateway.admission.stream_authorizer import StreamAuthorizer
from gateway.admission.stream_tokens import StreamClaims, issue
from gateway.carriers import load_carriers
from gateway.carriers.base import IncomingRequest, StreamStart, UnauthorizedError
from gateway.carriers.common.signatures import HEADER, sign
from gateway.media.session import Admit, SessionClosedError
from schemas.media import Codec

CARRIERS = load_carriers()
SECRET = "a-secret-of-some-length"
PUBLIC_URL = "https://calls.example.com"


def settings(**gateway: object) -> Settings:
    """Two Twilio accounts of two tenants, and stream tokens."""
    accounts = {name: TwilioAccount(auth_token=SecretStr(f"token-{name}"), tenant=name) for name in ("ACone", "ACtwo")}
    return Settings(
        public_url=PUBLIC_URL,
        twilio=TwilioSettings(accounts=accounts),
        gateway=GatewaySettings.model_validate({"stream_token_secret": SECRET} | gateway),
    )


def start(call_id: str = "c-1", stream_id: str = "s-1", account: str = "", token: str | None = None) -> StreamStart:
    custom = {"agent": "7"} | ({"token": token} if token is not None else {})
    return StreamStart(call_id, stream_id, account, (), Codec.PCMU, 8000, custom=custom)


def proof(target: str, headers: Mapping[str, str] | None = None) -> IncomingRequest:
    return IncomingRequest(target, headers or {}, at_s=time.time())


def refused(admit: Admit, told: StreamStart, words: str, label: str = "unauthorized") -> None:
    with pytest.raises(SessionClosedError, match=words) as closed:
        admit(told)
    assert closed.value.label == label


@pytest.mark.parametrize("name", sorted(set(CARRIERS) - {"audiosocket"}))
def test_a_stream_token_opens_every_carrier_s_socket(name: str) -> None:
    """Brings a token in the query string, as bearer token and as Basic password: let in for its tenant and its call,
    and for a second stream of that call; not for another call, nor at another carrier."""
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


def test_a_token_that_names_no_call_is_its_first_user_s() -> None:
    """Uses a token without a call id for two calls: the first one has it from then on. A token that leaks cannot bring
    in a call of somebody else's."""
    admissions = StreamAuthorizer(settings())
    admit = admissions.authorize(
        "telnyx", CARRIERS["telnyx"], proof(f"/v1/media/telnyx?token={admissions.issue('acme', 'telnyx', '')}")
    )
    assert admit(start())[0] == "acme"
    assert admit(start(stream_id="s-2"))[0] == "acme"
    refused(admit, start(call_id="c-2"), "another call")


def test_an_expired_token_is_refused() -> None:
    """Brings a token a second too late, at the upgrade and at the start."""
    admissions = StreamAuthorizer(settings())
    old = issue(SECRET, StreamClaims("acme", "vonage", "c-1", "", int(time.time()) - 1))
    with pytest.raises(UnauthorizedError, match="expired"):
        admissions.authorize("vonage", CARRIERS["vonage"], proof(f"/v1/media/vonage?token={old}"))
    refused(admissions.authorize("vonage", CARRIERS["vonage"], proof("/v1/media/vonage")), start(token=old), "expired")


@pytest.mark.parametrize("name", ["vonage", "plivo"])
def test_a_token_in_the_start_is_good_where_it_can_only_come_there(name: str) -> None:
    """Brings nothing with the upgrade and the token with the start: let in, and the token is taken out, or it would be
    kept with the call. Without it, or with another carrier's: refused."""
    admissions = StreamAuthorizer(settings())
    admit = admissions.authorize(name, CARRIERS[name], proof(f"/v1/media/{name}"))
    assert admit(start(token=admissions.issue("acme", name, "c-1"))) == ("acme", start())
    refused(admit, start(), "no stream token")
    refused(admit, start(token="nonsense"), "no stream token")
    refused(admit, start(token=admissions.issue("acme", "twilio", "c-1")), "for twilio")
    refused(admit, start(token=admissions.issue("acme", name, "c-9")), "another call")


@pytest.mark.parametrize("name", sorted(CARRIERS))
def test_nothing_configured_is_denied(name: str) -> None:
    """Asks a gateway without any secret, with nothing and with a token made with the empty secret: refused."""
    admissions = StreamAuthorizer(Settings())
    assert admissions.issue("acme", name, "c-1") == ""
    forged = issue("", StreamClaims("acme", name, "c-1", "", 2**40))
    for target in (f"/v1/media/{name}", f"/v1/media/{name}?token={forged}"):
        with pytest.raises(UnauthorizedError):
            admissions.authorize(name, CARRIERS[name], proof(target))


@pytest.mark.parametrize("name", sorted(set(CARRIERS) - {"vonage", "plivo"}))
def test_whose_upgrade_can_carry_a_proof_must_bring_it_there(name: str) -> None:
    """Brings nothing with the upgrade, though tokens are given out: refused before a socket is opened."""
    with pytest.raises(UnauthorizedError):
        StreamAuthorizer(settings()).authorize(name, CARRIERS[name], proof(f"/v1/media/{name}"))


def twilio(admissions: StreamAuthorizer, account: str) -> Admit:
    """A Twilio socket signed by that account."""
    signature = sign(f"token-{account}", f"{PUBLIC_URL.replace('https', 'wss')}/v1/media/twilio")
    return admissions.authorize("twilio", CARRIERS["twilio"], proof("/v1/media/twilio", {HEADER: signature}))


def test_accounts_are_tenants() -> None:
    """Signs with each of two accounts' tokens: each is its own tenant's, and neither can bring a stream of the
    other's, nor one with a token of the other's. A third account's signature is refused."""
    admissions = StreamAuthorizer(settings())
    for account, other in (("ACone", "ACtwo"), ("ACtwo", "ACone")):
        admit = twilio(admissions, account)
        assert admit(start(account=account))[0] == account
        refused(admit, start(account=other), "another account")
        refused(admit, start(token=admissions.issue(other, "twilio", "c-1")), "another tenant")
        assert admit(start(token=admissions.issue(account, "twilio", "c-1")))[0] == account
    with pytest.raises(UnauthorizedError):
        twilio(admissions, "ACthree")


def test_streams_of_a_call_are_limited() -> None:
    """Opens one stream too many, and a second socket of a stream that is there, which is none."""
    admissions = StreamAuthorizer(settings(max_streams_per_call=2))
    admit = twilio(admissions, "ACone")
    admissions.streams.update([("ACone", "c-1", "s-1"), ("ACone", "c-1", "s-2"), ("ACtwo", "c-1", "s-9")])
    refused(admit, start(stream_id="s-3"), "MAX_STREAMS_PER_CALL", "call-streams")
    assert admit(start(stream_id="s-2"))[0] == "ACone"
    assert admit(start(call_id="c-2"))[0] == "ACone"


def test_calls_of_a_tenant_are_limited() -> None:
    """Opens one call too many for a tenant: refused; a stream of a call that is there and another tenant's are not."""
    admissions = StreamAuthorizer(settings(max_calls_per_tenant=1))
    admissions.streams.update([("ACone", "c-1", "s-1")])
    refused(twilio(admissions, "ACone"), start(call_id="c-2"), "MAX_CALLS_PER_TENANT", "tenant-calls")
    assert twilio(admissions, "ACone")(start(stream_id="s-2"))[0] == "ACone"
    assert twilio(admissions, "ACtwo")(start(call_id="c-2"))[0] == "ACtwo"
