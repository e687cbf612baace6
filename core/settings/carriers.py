"""Settings of the carriers: credentials, tenants, and the continuation of a call after our voice webhook.

Access that is not configured is denied.
"""

from typing import Literal, Self

from pydantic import Field, IPvAnyNetwork, SecretStr, model_validator

from core.settings.base import Section

DEFAULT_MESSAGE = "This call is recorded. Please leave a message, and hang up when you have finished."


class MessageSettings(Section):
    """A call that is connected to nobody: the caller hears a text and can leave a message."""

    say: str | None = None
    """Text that the caller hears first. Default: a request to leave a message, unless the call is connected."""
    message_s: int = Field(120, ge=1, le=3_600)
    """Time to leave a message if the call is not connected. Then the carrier hangs up (s)."""

    @property
    def spoken(self) -> str:
        """Text that the caller hears first, or ""."""
        return DEFAULT_MESSAGE if self.say is None else self.say


class VoicePlanSettings(MessageSettings):
    """The continuation of a call whose voice webhook we answer, after its stream has started.

    `say` comes first. `dial` and `redirect` exclude each other. Without any of them the caller can leave a message.
    """

    dial: str | None = None
    """Number (E.164) or sip: address that the call is connected to."""
    redirect: str | None = None
    """URL of your own instructions, which the call continues with."""

    @property
    def spoken(self) -> str:
        """Text that the caller hears first, or ""."""
        return (self.say or "") if self.dial or self.redirect else super().spoken

    @model_validator(mode="after")
    def _one_continuation(self) -> Self:
        if self.dial and self.redirect:
            raise ValueError("dial and redirect exclude each other")
        return self


class ReusableProofSettings(VoicePlanSettings):
    """A carrier whose proof at the media socket is the same for every stream."""

    require_stream_token: bool | None = None
    """true: each stream must present a stream token of our voice webhook. false: the carrier's own proof is enough, for
    streams that your own instructions start. Default: required if `say`, `dial` or `redirect` is set, and for every
    call that our voice webhook has answered."""

    @property
    def answers_calls(self) -> bool:
        """True if the settings say how calls continue, so that our voice webhook answers them."""
        return any((self.say, self.dial, self.redirect))


class NetworkCredentialSettings(Section):
    """Credentials for carriers that do not sign requests.

    Every field that is set must match; without any, access is denied.
    """

    username: str | None = None
    """HTTP Basic user of the carrier's requests."""
    password: SecretStr | None = None
    """HTTP Basic password of the carrier's requests."""
    allowed_peers: tuple[IPvAnyNetwork, ...] = ()
    """Networks that the carrier's requests come from (JSON list, for example ["10.0.0.0/24"])."""
    tenant: str = "default"
    """Tenant that owns the carrier's calls."""


class TwilioAccount(Section):
    """One account at Twilio."""

    auth_token: SecretStr | None = None
    """Auth token: verifies Twilio's signatures. Without it every Twilio request is rejected."""
    signing_keys: dict[str, SecretStr] = {}
    """Secrets of Twilio's SHA-256 signatures by key id (JSON object)."""
    tenant: str = "default"
    """Tenant that owns the calls."""


class TwilioSettings(TwilioAccount, ReusableProofSettings):
    """Twilio: one account, or several by account SID."""

    accounts: dict[str, TwilioAccount] = {}
    """Several accounts by SID: JSON {SID: {"auth_token", "signing_keys", "tenant"}}."""


class TelnyxAccount(Section):
    """One account at Telnyx."""

    stream_token: SecretStr | None = None
    """Token of the media sockets. Without it every media socket is rejected."""
    public_key: str | None = None
    """Public key (base64) of the webhooks' Ed25519 signatures. Without it every webhook is rejected."""
    tenant: str = "default"
    """Tenant that owns the calls."""


class TelnyxSettings(TelnyxAccount, VoicePlanSettings):
    """Telnyx: one account, or several by user id."""

    accounts: dict[str, TelnyxAccount] = {}
    """Several accounts by user id: JSON {id: {"stream_token", "public_key", "tenant"}}."""
    # Telnyx does not document the byte order; big-endian is RTP's.
    l16_byte_order: Literal["big", "little"] = "big"
    """Byte order of linear audio (L16): big or little."""


class SignalWireAccount(Section):
    """One project at SignalWire."""

    stream_token: SecretStr | None = None
    """Token of the media sockets. Without it every media socket is rejected."""
    signing_key: SecretStr | None = None
    """Signing key: verifies the webhooks' signatures. Without it every webhook is rejected."""
    tenant: str = "default"
    """Tenant that owns the calls."""


class SignalWireSettings(SignalWireAccount, ReusableProofSettings):
    """SignalWire: one project, or several by project id."""

    accounts: dict[str, SignalWireAccount] = {}
    """Several projects by id: JSON {id: {"stream_token", "signing_key", "tenant"}}."""
    # SignalWire does not document the byte order; speech engines expect little-endian.
    l16_byte_order: Literal["big", "little"] = "little"
    """Byte order of linear audio (L16): big or little."""


class PlivoAccount(Section):
    """One account at Plivo."""

    auth_token: SecretStr | None = None
    """Auth token: verifies Plivo's signatures. Without it every Plivo request is rejected."""
    tenant: str = "default"
    """Tenant that owns the calls."""


class PlivoSettings(PlivoAccount, ReusableProofSettings):
    """Plivo: one account, or several by auth id."""

    accounts: dict[str, PlivoAccount] = {}
    """Several accounts by auth id: JSON {id: {"auth_token", "tenant"}}."""
    # Plivo does not document the byte order.
    l16_byte_order: Literal["big", "little"] = "little"
    """Byte order of linear audio (L16): big or little."""


class ExotelSettings(NetworkCredentialSettings):
    """Exotel. Its own call flow decides how a call continues."""

    accounts: dict[str, NetworkCredentialSettings] = {}
    """Several accounts by id: JSON {id: {"username", "password", "allowed_peers", "tenant"}}."""


class VonageAccount(NetworkCredentialSettings):
    """One account at Vonage."""

    signature_secret: SecretStr | None = None
    """Signature secret of the account. If it is set, webhooks must be signed; user and password are then for
    sockets only."""


class VonageSettings(VonageAccount, MessageSettings):
    """Vonage: one account, or several by API key.

    A call cannot be connected elsewhere while it streams; see docs/carriers/vonage.md.
    """

    accounts: dict[str, VonageAccount] = {}
    """Several accounts by API key: JSON {key: {"signature_secret", "username", "password", "allowed_peers",
    "tenant"}}."""


class JambonzSettings(NetworkCredentialSettings, VoicePlanSettings):
    """jambonz."""

    accounts: dict[str, NetworkCredentialSettings] = {}
    """Several accounts by id: JSON {id: {"username", "password", "allowed_peers", "tenant"}}."""


class AudioSocketSettings(Section):
    """Asterisk AudioSocket: a TCP port of its own."""

    host: str = "127.0.0.1"
    """Address that the AudioSocket listener (Asterisk) binds."""
    port: int | None = Field(None, ge=1, le=65535)
    """Port of the AudioSocket listener. If it is not set, the listener does not start."""
    # The protocol has no credentials.
    allowed_peers: tuple[IPvAnyNetwork, ...] = ()
    """Networks whose AudioSocket calls are accepted (JSON list, for example ["10.0.0.5"])."""
    tenant: str = "default"
    """Tenant that owns the AudioSocket calls."""


CREDENTIALS = {
    "twilio": ("auth_token", "signing_keys"),
    "telnyx": ("stream_token", "public_key"),
    "signalwire": ("stream_token", "signing_key"),
    "plivo": ("auth_token",),
    "exotel": ("password", "allowed_peers"),
    "vonage": ("signature_secret", "password", "allowed_peers"),
    "jambonz": ("password", "allowed_peers"),
}
"""Settings that authorize a carrier, by its section. If one of them is set, the carrier is in use."""
