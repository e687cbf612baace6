"""Bearer tokens: the right one gets in, and nothing else does."""

import pytest
from pydantic import SecretStr

from audiotext.settings import Settings, SignalWireSettings, TelnyxSettings
from gateway.access import require_bearer
from gateway.carriers import Proof, UnauthorizedError, load_carriers


def proof(header: str | None) -> Proof:
    return Proof("/v1/media/telnyx", {} if header is None else {"Authorization": header})


@pytest.mark.parametrize("header", ["Bearer s3cret", "bearer s3cret", "BEARER  s3cret "])
def test_the_token_gets_in(header: str) -> None:
    """Sends the token; the scheme's case is not part of it (RFC 7235)."""
    require_bearer(proof(header), SecretStr("s3cret"), "SETTING")


@pytest.mark.parametrize(
    "header", [None, "", "s3cret", "Bearer", "Bearer ", "Bearer s3cre", "Basic s3cret", "Bearer \udcff"]
)
def test_anything_else_does_not(header: str | None) -> None:
    """Sends nothing, half of it, another scheme, octets that are no text: refused, and not by a crash."""
    with pytest.raises(UnauthorizedError):
        require_bearer(proof(header), SecretStr("s3cret"), "SETTING")


@pytest.mark.parametrize("token", [None, SecretStr("")])
def test_not_configured_is_denied(token: SecretStr | None) -> None:
    """Sends the empty token to a gateway that has none: refused, and the log's text names the setting."""
    with pytest.raises(UnauthorizedError, match="SETTING"):
        require_bearer(proof("Bearer "), token, "SETTING")


def test_each_carrier_has_its_own_token() -> None:
    """Configures two carriers: each lets its own token in and not the other's."""
    settings = Settings(
        telnyx=TelnyxSettings(stream_token=SecretStr("one")),
        signalwire=SignalWireSettings(stream_token=SecretStr("two")),
    )
    carriers = load_carriers()
    carriers["telnyx"].authorize_socket(proof("Bearer one"), settings)
    carriers["signalwire"].authorize_socket(proof("Bearer two"), settings)
    with pytest.raises(UnauthorizedError):
        carriers["telnyx"].authorize_socket(proof("Bearer two"), settings)


@pytest.mark.parametrize("name", ["plivo", "exotel", "vonage", "jambonz", "audiosocket"])
def test_what_nothing_proves_is_denied(name: str) -> None:
    """Asks carriers for which nothing is configured, socket and webhook: refused whatever is brought."""
    carrier = load_carriers()[name]
    for authorize in (carrier.authorize_socket, carrier.authorize_webhook):
        with pytest.raises(UnauthorizedError):
            authorize(proof("Bearer anything"), Settings())
