"""Settings of the carriers: what lets each in, whose calls they are, and how a call goes on whose webhook we answer."""

from typing import Literal, Self

from pydantic import Field, IPvAnyNetwork, SecretStr, model_validator

from core.settings.stores import Section


class Plan(Section):
    """What becomes of a call whose voice webhook we answer, once its audio streams; nothing = the line stays open.

    `say` comes first; of the two others only one can be.
    """

    say: str | None = None
    dial: str | None = None  # a number in E.164, or a sip: address
    redirect: str | None = None  # URL of the user's own answer

    @model_validator(mode="after")
    def _one_way_on(self) -> Self:
        if self.dial and self.redirect:
            raise ValueError("dial and redirect exclude each other")
        return self


class Doors(Section):
    """For carriers that sign nothing. What is set has to hold, all of it; nothing set lets nobody in."""

    username: str | None = None  # HTTP Basic
    password: SecretStr | None = None
    allowed_peers: tuple[IPvAnyNetwork, ...] = ()  # networks ("10.0.0.5", "10.0.0.0/24")
    tenant: str = "default"


class TwilioAccount(Section):
    """One account at Twilio. Without the auth token everything of it is refused."""

    auth_token: SecretStr | None = None
    signing_keys: dict[str, SecretStr] = {}  # id to secret, of the newer signatures (HMAC-SHA256)
    tenant: str = "default"


class TwilioSettings(TwilioAccount, Plan):
    """Twilio: one account, or several by account SID."""

    accounts: dict[str, TwilioAccount] = {}


class TelnyxAccount(Section):
    """One account at Telnyx. Without the stream token its sockets, without the public key its webhooks are refused."""

    stream_token: SecretStr | None = None
    public_key: str | None = None  # base64, of the webhooks' Ed25519 signatures
    tenant: str = "default"


class TelnyxSettings(TelnyxAccount, Plan):
    """Telnyx: one account, or several by user id."""

    accounts: dict[str, TelnyxAccount] = {}
    l16_byte_order: Literal["big", "little"] = "big"  # RTP's; no page of Telnyx' says


class SignalWireAccount(Section):
    """One project at SignalWire. Without the stream token its sockets, without the signing key its webhooks are
    refused."""

    stream_token: SecretStr | None = None
    signing_key: SecretStr | None = None
    tenant: str = "default"


class SignalWireSettings(SignalWireAccount, Plan):
    """SignalWire: one project, or several by project id."""

    accounts: dict[str, SignalWireAccount] = {}
    l16_byte_order: Literal["big", "little"] = "little"  # what speech engines want; no page of SignalWire's says


class PlivoAccount(Section):
    """One account at Plivo. Without the auth token everything of it is refused."""

    auth_token: SecretStr | None = None
    tenant: str = "default"


class PlivoSettings(PlivoAccount, Plan):
    """Plivo: one account, or several by auth id."""

    accounts: dict[str, PlivoAccount] = {}
    l16_byte_order: Literal["big", "little"] = "little"  # no page of Plivo's says


class ExotelSettings(Doors):
    """Exotel. How a call goes on is said in its own flow."""

    accounts: dict[str, Doors] = {}


class VonageAccount(Doors):
    """One account at Vonage. With a signature secret its webhooks have to be signed; the password is for sockets."""

    signature_secret: SecretStr | None = None


class VonageSettings(VonageAccount):
    """Vonage: one account, or several by API key. Its calls cannot go on elsewhere while they stream (see
    docs/carriers/vonage.md)."""

    accounts: dict[str, VonageAccount] = {}
    say: str | None = None


class JambonzSettings(Doors, Plan):
    """jambonz."""

    accounts: dict[str, Doors] = {}


class AudioSocketSettings(Section):
    """Asterisk AudioSocket: a port of its own, closed unless it is set here."""

    host: str = "127.0.0.1"
    port: int | None = Field(None, ge=1, le=65535)
    # The protocol proves nothing: who may connect is told by address, as networks ("10.0.0.5", "10.0.0.0/24").
    allowed_peers: tuple[IPvAnyNetwork, ...] = ()
    tenant: str = "default"
