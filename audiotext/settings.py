"""All settings, typed. Sources, first wins: environment (`AUDIOTEXT_…`, `__` nests), `audiotext.toml`, the defaults.

A default says what is right for one machine; what has no address configured is embedded by `audiotext up`. What lets
somebody in (keys, tokens) has no default: not configured is denied.
"""

import os
from decimal import Decimal
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, IPvAnyNetwork, SecretStr, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from audiotext.store_settings import ClickHouseSettings, KafkaSettings, QdrantSettings, S3Settings

# Of what is imported, these belong to this module's users.
__all__ = ["ClickHouseSettings", "KafkaSettings", "QdrantSettings", "S3Settings"]


OPENAI_URL = "https://api.openai.com/v1"
_URL = r"^https?://\S+$"


class SettingsError(Exception):
    """Settings that cannot be used; the message names each wrong setting and what it may be."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Plan(_Section):
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


class _Doors(_Section):
    """For carriers that sign nothing. What is set has to hold, all of it; nothing set lets nobody in."""

    username: str | None = None  # HTTP Basic
    password: SecretStr | None = None
    allowed_peers: tuple[IPvAnyNetwork, ...] = ()  # networks ("10.0.0.5", "10.0.0.0/24")
    tenant: str = "default"


class TwilioAccount(_Section):
    """One account at Twilio. Without the auth token everything of it is refused."""

    auth_token: SecretStr | None = None
    signing_keys: dict[str, SecretStr] = {}  # id to secret, of the newer signatures (HMAC-SHA256)
    tenant: str = "default"


class TwilioSettings(TwilioAccount, _Plan):
    """Twilio: one account, or several by account SID."""

    accounts: dict[str, TwilioAccount] = {}


class TelnyxAccount(_Section):
    """One account at Telnyx. Without the stream token its sockets, without the public key its webhooks are refused."""

    stream_token: SecretStr | None = None
    public_key: str | None = None  # base64, of the webhooks' Ed25519 signatures
    tenant: str = "default"


class TelnyxSettings(TelnyxAccount, _Plan):
    """Telnyx: one account, or several by user id."""

    accounts: dict[str, TelnyxAccount] = {}
    l16_byte_order: Literal["big", "little"] = "big"  # RTP's; no page of Telnyx' says


class SignalWireAccount(_Section):
    """One project at SignalWire. Without the stream token its sockets, without the signing key its webhooks are
    refused."""

    stream_token: SecretStr | None = None
    signing_key: SecretStr | None = None
    tenant: str = "default"


class SignalWireSettings(SignalWireAccount, _Plan):
    """SignalWire: one project, or several by project id."""

    accounts: dict[str, SignalWireAccount] = {}
    l16_byte_order: Literal["big", "little"] = "little"  # what speech engines want; no page of SignalWire's says


class PlivoAccount(_Section):
    """One account at Plivo. Without the auth token everything of it is refused."""

    auth_token: SecretStr | None = None
    tenant: str = "default"


class PlivoSettings(PlivoAccount, _Plan):
    """Plivo: one account, or several by auth id."""

    accounts: dict[str, PlivoAccount] = {}
    l16_byte_order: Literal["big", "little"] = "little"  # no page of Plivo's says


class ExotelSettings(_Doors):
    """Exotel. How a call goes on is said in its own flow."""

    accounts: dict[str, _Doors] = {}


class VonageAccount(_Doors):
    """One account at Vonage. With a signature secret its webhooks have to be signed; the password is for sockets."""

    signature_secret: SecretStr | None = None


class VonageSettings(VonageAccount):
    """Vonage: one account, or several by API key. Its calls cannot go on elsewhere while they stream (see
    docs/carriers/vonage.md)."""

    accounts: dict[str, VonageAccount] = {}
    say: str | None = None


class JambonzSettings(_Doors, _Plan):
    """jambonz."""

    accounts: dict[str, _Doors] = {}


class AudioSocketSettings(_Section):
    """Asterisk AudioSocket: a port of its own, closed unless it is set here."""

    host: str = "127.0.0.1"
    port: int | None = Field(None, ge=1, le=65535)
    # The protocol proves nothing: who may connect is told by address, as networks ("10.0.0.5", "10.0.0.0/24").
    allowed_peers: tuple[IPvAnyNetwork, ...] = ()
    tenant: str = "default"


# Loopback, private use, carrier-grade NAT and link-local: RFC 1122, 1918, 6598, 3927, 4291, 4193.
_PRIVATE_NETWORKS = tuple(
    ip_network(network)
    for network in (
        *("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16"),
        *("::1/128", "fe80::/10", "fc00::/7"),
    )
)


class GatewaySettings(_Section):
    """The edge: media sockets and, on one machine, the front of the API."""

    host: str = "127.0.0.1"
    port: int = Field(8080, ge=1, le=65535)
    merge_ms: int = Field(500, ge=20, le=5_000)  # audio per record of call.media and track
    buffer_bytes: int = Field(256 * 1024 * 1024, ge=1024 * 1024)  # held for a log that is slow or away
    max_message_bytes: int = Field(64 * 1024, ge=4096)
    idle_timeout_s: float = Field(60.0, gt=0)  # a media socket that says nothing for so long is closed
    start_timeout_s: float = Field(10.0, gt=0)  # a media socket whose stream has not started by then is closed
    handshake_timeout_s: float = Field(10.0, gt=0)  # how long a connection may take to make a request
    max_unproven_sockets: int = Field(100, ge=1)  # whose proof comes with their start, and has not come yet
    max_stranger_requests: int = Field(100, ge=1)  # in 10 s, of an address that has proved nothing yet
    max_unproven_requests: int = Field(500, ge=1)  # in 10 s, of all such addresses together
    # For whom those limits are not, as networks: what may be a proxy, a tunnel or a load balancer, and so everybody.
    unlimited_peers: tuple[IPvAnyNetwork, ...] = _PRIVATE_NETWORKS
    max_speed: float = Field(100.0, ge=1)  # audio a stream may send, times real time
    max_streams_per_call: int = Field(8, ge=1)  # at the same time, per process, as the next
    max_calls_per_tenant: int = Field(5_000, ge=1)
    call_end_delay_s: float = Field(2.0, ge=0)  # audio may be on its way when a webhook says that the call is over
    # Signs our own stream tokens; None = made up and kept by `audiotext up`, else there are none.
    stream_token_secret: SecretStr | None = Field(None, min_length=16)
    stream_token_ttl_s: int = Field(900, ge=10)  # a stream has to start within
    # Whose X-Forwarded-For is believed, as networks: without, a proxy's address is everybody's.
    trusted_proxies: tuple[IPvAnyNetwork, ...] = ()
    drain_timeout_s: float = Field(3.0, gt=0)  # how long shutdown waits for the log to take what is held
    api_url: str | None = None  # where everything that is not a carrier's path is passed on to


class ApiSettings(_Section):
    """The HTTP API and the web page."""

    host: str = "127.0.0.1"
    port: int = Field(8081, ge=1, le=65535)
    # Signs sessions and links; a new one ends all there are. None = made up and kept by `audiotext up`, else made up at
    # each start: several API processes need the same one.
    session_secret: SecretStr | None = Field(None, min_length=16)
    session_ttl_s: int = Field(43_200, ge=60)  # after which a browser has to sign in again
    # What /v1/operations looks at: where each service's /healthz and /metrics are, by name. `audiotext up` fills it in.
    watched: dict[str, str] = {}


class KratosSettings(_Section):
    """Ory Kratos, whose sessions the API takes besides API keys."""

    url: str | None = Field(None, pattern="^https?://")  # of its public API; None = no such sessions
    cookie: str = Field("ory_kratos_session", pattern=r"^[A-Za-z0-9_.-]+$")
    # Where an identity's tenant is written. Traits are people's own to change, metadata_public is not.
    tenant_field: str = Field("metadata_public.tenant", pattern=r"^(metadata_public|traits)(\.[A-Za-z0-9_-]+)+$")
    tenants: dict[str, str] = {}  # by identity id; goes before that field
    admins: tuple[str, ...] = ()  # ids of identities that see every tenant
    cache_s: float = Field(5.0, ge=0, le=60)  # how long a session that was ended may still work
    login_url: str | None = Field(None, pattern="^https?://")  # where people sign in: a link on our sign-in page


class RecorderSettings(_Section):
    """The recorder."""

    grace_ms: int = Field(400, ge=0)  # after its last stream ended, a call waits this long for another
    idle_timeout_ms: int = Field(120_000, ge=1_000)  # a call that says nothing for so long is closed
    commit_interval_s: float = Field(0.5, gt=0)  # bytes are fsynced and offsets committed this often
    uploads: int = Field(2, ge=1)  # recordings finished at the same time


class SttSettings(_Section):
    """Speech to text."""

    provider: Literal["whisper", "soniox", "openai"] = "whisper"
    model: str = "base"  # whisper: "base" (99 languages), "tiny.en", or a path to a CTranslate2 model
    language: str | None = None  # ISO 639-1; None = the engine finds out
    timeout_s: float = Field(900.0, gt=0)  # of one attempt
    # Calls at the same time, per process; None = 1 with Whisper, which has this machine's cores to share, 4 with
    # openai, 16 with soniox, where all there is to do is to wait.
    concurrency: int | None = Field(None, ge=1)
    per_minute: int | None = Field(None, ge=1)  # attempts begun per minute and process; None = as many as there are

    @property
    def calls(self) -> int:
        """Calls at the same time, per process."""
        return self.concurrency or {"whisper": 1, "openai": 4, "soniox": 16}[self.provider]


class SummaryField(_Section):
    """Something a tenant wants to know of every call. description: for the model; values: all it can be, if not any
    text."""

    description: str = Field(min_length=1, max_length=500)
    values: tuple[Annotated[str, Field(min_length=1, max_length=100)], ...] = ()


FieldName = Annotated[str, Field(pattern="^[a-z][a-z0-9_]{0,39}$")]


class SummarySettings(_Section):
    """Summaries."""

    provider: Literal["extractive", "gemini"] = "extractive"
    timeout_s: float = Field(60.0, gt=0)
    concurrency: int = Field(2, ge=1)
    per_minute: int | None = Field(None, ge=1)
    fields: dict[str, dict[FieldName, SummaryField]] = {}  # by tenant and name; a language model fills them in
    # A longer call is summarized in stretches, which are then merged. By our own estimate, three bytes a token: about
    # five hours of talk.
    max_prompt_tokens: int = Field(60_000, ge=500)
    max_output_tokens: int = Field(8_192, ge=256)  # of one answer, thoughts included


class EmbeddingSettings(_Section):
    """Embeddings."""

    provider: Literal["local", "gemini"] = "local"
    timeout_s: float = Field(60.0, gt=0)
    concurrency: int = Field(2, ge=1)
    per_minute: int | None = Field(None, ge=1)


class SonioxSettings(_Section):
    """Soniox, for speech to text. A key belongs to a region, and so does the URL (api.eu.soniox.com)."""

    api_key: SecretStr | None = None
    base_url: str = Field("https://api.soniox.com/v1", pattern=_URL)
    model: str = Field("stt-async-v5", max_length=32)
    # How it gets the audio: uploaded, or from a presigned URL of our object storage, which it must be able to reach.
    send: Literal["upload", "url"] = "upload"
    language_hints: tuple[str, ...] = ()  # ISO 639-1, the expected ones; AUDIOTEXT_STT__LANGUAGE goes before it
    terms: tuple[str, ...] = ()  # names and words of the trade, so that they are spelled right
    tenant_terms: dict[str, tuple[str, ...]] = {}  # the same per tenant, in addition
    context: str | None = Field(None, max_length=8_000)  # what calls are about, in a few sentences
    # With it and AUDIOTEXT_PUBLIC_URL Soniox tells when an order is done; without, it is only asked.
    webhook_secret: SecretStr | None = Field(None, min_length=16, max_length=256)

    @model_validator(mode="after")
    def _context_fits(self) -> Self:
        """Soniox takes 10,000 characters, and would refuse every call of a tenant with more."""
        longest = max((len("".join(terms)) + 4 * len(terms) for terms in self.tenant_terms.values()), default=0)
        if len(self.context or "") + len("".join(self.terms)) + 4 * len(self.terms) + longest > 9_900:
            raise ValueError("context and terms together are longer than the 10,000 characters Soniox takes")
        return self


class OpenAiSettings(_Section):
    """Speech to text by OpenAI, or by any server that speaks its /v1/audio/transcriptions (speaches, vLLM)."""

    api_key: SecretStr | None = None  # servers of your own may want none
    base_url: str = Field(OPENAI_URL, pattern=_URL)
    model: str = "whisper-1"
    prompt: str | None = Field(None, max_length=1_000)  # names and words to spell right, as a text
    timestamps: Literal["word", "segment"] = "word"  # "segment" for servers that refuse the other; times are coarser


class GeminiSettings(_Section):
    """Gemini, for summaries and embeddings. What its models cost: pricing.gemini_rates."""

    api_key: SecretStr | None = None
    base_url: str = "https://generativelanguage.googleapis.com"
    summary_model: str = "gemini-3.5-flash-lite"
    summary_prompt: str | None = Field(None, max_length=20_000)  # what else to heed; the answer's shape stays
    embedding_model: str = "gemini-embedding-2"
    embedding_dimension: int = Field(768, ge=128, le=3072)


class ReplaySettings(_Section):
    """Replays: calls processed again, beside the live ones."""

    concurrency: int = Field(1, ge=1)  # jobs at the same time, per process
    per_minute: int | None = Field(None, ge=1)  # jobs begun per minute and process; None = as fast as it goes
    timeout_s: float = Field(900.0, gt=0)  # of one attempt


class RetrySettings(_Section):
    """What a slow stage does about a failed attempt."""

    delays_s: tuple[float, ...] = (1, 10, 60, 300, 420, 600)  # before attempt 2, 3, …; then the dead letters
    outage_pause_s: float = Field(5.0, gt=0)  # how long a stage waits when its provider is away altogether


class MetricsSettings(_Section):
    """Prometheus' figures of the services that have no port of their own."""

    host: str = "127.0.0.1"
    port: int | None = Field(None, ge=1, le=65535)  # None = not served


class TokenRates(_Section):
    """What a million tokens cost. cached: of a prompt that is in the model's cache; None = like any other."""

    input: Decimal = Field(ge=0)
    output: Decimal = Field(Decimal(0), ge=0)
    cached: Decimal | None = Field(None, ge=0)


class BundledRate(_Section):
    """What a service that bundles recording and transcription charges. source: where that was read, and when."""

    per_minute: Decimal = Field(ge=0)
    currency: str = "USD"
    source: str


class PricingSettings(_Section):
    """Money. Decimal strings; per hour of audio where not said otherwise."""

    currency: str = "USD"
    price_per_unit: Decimal = Decimal("0.0002")  # 50 units a minute: 0.60 an hour
    # Nobody bills Whisper on your own machine; this is what a rented 2-core machine (0.05 an hour) costs while it
    # transcribes an hour of two-channel audio at the measured 0.06 x real time.
    whisper_per_hour: Decimal = Decimal("0.003")
    soniox_per_hour: Decimal = Decimal("0.10")
    openai_per_hour: Decimal = Decimal("0.36")
    # Whether who had a call transcribed before pays for it again when it is replayed with other settings, by tenant;
    # "*" is everybody else. What the provider costs is on the bill in any case.
    charge_replays: dict[str, bool] = {}
    # What a customer pays for a call's summary and for its being searchable: nothing, since its minutes are paid.
    price_per_summary: Decimal = Field(Decimal(0), ge=0)
    price_per_embedding: Decimal = Field(Decimal(0), ge=0)
    # What the usage page sets beside our own prices, by name. Look at the price list you would be charged by.
    bundled: dict[str, BundledRate] = {
        "Carrier's own recording and transcription": BundledRate(
            per_minute=Decimal("0.0525"),
            source="Twilio: 0.0025 to record, 0.05 to transcribe, as reported by "
            "usesherlock.ai/blog/hidden-costs-twilio-voice-ai-stack, read on 2026-11-24",
        )
    }
    gemini_rates: dict[str, TokenRates] = {}  # by model; goes before what pipelines/pricing.py knows


class Settings(BaseSettings):
    """Everything. See the sections."""

    model_config = SettingsConfigDict(
        env_prefix="AUDIOTEXT_", env_nested_delimiter="__", toml_file="audiotext.toml", extra="forbid"
    )

    data_dir: Path = Path("data")
    admin_key: SecretStr | None = None  # bootstraps one API key that sees every tenant
    public_url: str | None = None  # how carriers reach the gateway; None = http://127.0.0.1:{gateway.port}
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    kafka: KafkaSettings = KafkaSettings()
    s3: S3Settings = S3Settings()
    clickhouse: ClickHouseSettings = ClickHouseSettings()
    qdrant: QdrantSettings = QdrantSettings()
    twilio: TwilioSettings = TwilioSettings()
    telnyx: TelnyxSettings = TelnyxSettings()
    signalwire: SignalWireSettings = SignalWireSettings()
    plivo: PlivoSettings = PlivoSettings()
    exotel: ExotelSettings = ExotelSettings()
    vonage: VonageSettings = VonageSettings()
    jambonz: JambonzSettings = JambonzSettings()
    audiosocket: AudioSocketSettings = AudioSocketSettings()
    gateway: GatewaySettings = GatewaySettings()
    api: ApiSettings = ApiSettings()
    kratos: KratosSettings = KratosSettings()
    recorder: RecorderSettings = RecorderSettings()
    stt: SttSettings = SttSettings()
    summary: SummarySettings = SummarySettings()
    embedding: EmbeddingSettings = EmbeddingSettings()
    soniox: SonioxSettings = SonioxSettings()
    openai: OpenAiSettings = OpenAiSettings()
    gemini: GeminiSettings = GeminiSettings()
    retry: RetrySettings = RetrySettings()
    replay: ReplaySettings = ReplaySettings()
    pricing: PricingSettings = PricingSettings()
    metrics: MetricsSettings = MetricsSettings()

    @property
    def base_url(self) -> str:
        """The public URL without a slash at its end."""
        return (self.public_url or f"http://127.0.0.1:{self.gateway.port}").rstrip("/")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then environment, then the file."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)


def load(**overrides: object) -> Settings:
    """The settings of this process. `overrides` (by field name) win over everything. Raises SettingsError."""
    try:
        settings = Settings(**overrides)  # type: ignore[arg-type]
    except ValidationError as error:
        raise SettingsError(_explain(error)) from None
    except ValueError as error:  # a malformed audiotext.toml
        raise SettingsError(f"audiotext.toml cannot be read: {error}") from None
    unknown = _unknown_variables()
    if unknown:
        raise SettingsError(f"unknown setting {', '.join(unknown)}: see `audiotext settings` for all there are")
    return settings


def _unknown_variables() -> list[str]:
    """Variables with our prefix that name no setting: a typo must not be taken for a default."""
    known = set(variable_names())
    return sorted(name for name in os.environ if name.startswith("AUDIOTEXT_") and name.upper() not in known)


def variable_names() -> list[str]:
    """The environment variable of every setting."""
    names: list[str] = []
    for name, field in Settings.model_fields.items():
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            names += [f"AUDIOTEXT_{name}__{inner}".upper() for inner in annotation.model_fields]
        else:
            names.append(f"AUDIOTEXT_{name}".upper())
    return names


def _explain(error: ValidationError) -> str:
    lines = []
    for problem in error.errors():
        name = "AUDIOTEXT_" + "__".join(str(part) for part in problem["loc"]).upper()
        lines.append(f"{name}: {problem['msg']}")
    return "; ".join(lines)
