"""All settings, typed. Sources, first wins: environment (`AUDIOTEXT_…`, `__` nests), `audiotext.toml`, the defaults.

A default says what is right for one machine; what has no address configured is embedded by `audiotext up`. What lets
somebody in (keys, tokens) has no default: not configured is denied.
"""

import json
import os
from decimal import Decimal
from ipaddress import ip_network
from pathlib import Path
from typing import Literal, get_origin

from pydantic import BaseModel, Field, IPvAnyNetwork, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)
from pydantic_settings import SettingsError as SettingsSourceError

from core.settings.carriers import (
    AudioSocketSettings,
    ExotelSettings,
    JambonzSettings,
    PlivoAccount,
    PlivoSettings,
    SignalWireAccount,
    SignalWireSettings,
    TelnyxAccount,
    TelnyxSettings,
    TwilioAccount,
    TwilioSettings,
    VonageAccount,
    VonageSettings,
)
from core.settings.engines import (
    OPENAI_URL,
    EmbeddingSettings,
    GeminiSettings,
    OpenAiSettings,
    SonioxSettings,
    SttSettings,
    SummaryField,
    SummarySettings,
)
from core.settings.stores import ClickHouseSettings, HttpAddress, KafkaSettings, QdrantSettings, S3Settings, Section

# All settings are imported from here.
__all__ = [
    "OPENAI_URL",
    "AudioSocketSettings",
    "ClickHouseSettings",
    "EmbeddingSettings",
    "ExotelSettings",
    "GeminiSettings",
    "JambonzSettings",
    "KafkaSettings",
    "OpenAiSettings",
    "PlivoAccount",
    "PlivoSettings",
    "QdrantSettings",
    "S3Settings",
    "SignalWireAccount",
    "SignalWireSettings",
    "SonioxSettings",
    "SttSettings",
    "SummaryField",
    "SummarySettings",
    "TelnyxAccount",
    "TelnyxSettings",
    "TwilioAccount",
    "TwilioSettings",
    "VonageAccount",
    "VonageSettings",
]


class SettingsError(Exception):
    """Settings that cannot be used; the message names each wrong setting and what it may be."""


# Loopback, private use, carrier-grade NAT and link-local: RFC 1122, 1918, 6598, 3927, 4291, 4193.
_PRIVATE_NETWORKS = tuple(
    ip_network(network)
    for network in (
        *("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16"),
        *("::1/128", "fe80::/10", "fc00::/7"),
    )
)


class GatewaySettings(Section):
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


class ApiSettings(Section):
    """The HTTP API and the web page."""

    host: str = "127.0.0.1"
    port: int = Field(8081, ge=1, le=65535)
    # Signs sessions and links; a new one ends all there are. None = made up and kept by `audiotext up`, else made up at
    # each start: several API processes need the same one.
    session_secret: SecretStr | None = Field(None, min_length=16)
    session_ttl_s: int = Field(43_200, ge=60)  # after which a browser has to sign in again
    # What /v1/operations looks at: where each service's /healthz and /metrics are, by name. `audiotext up` fills it in.
    watched: dict[str, str] = {}


class KratosSettings(Section):
    """Ory Kratos, whose sessions the API takes besides API keys."""

    url: str | None = Field(None, pattern="^https?://")  # of its public API; None = no such sessions
    cookie: str = Field("ory_kratos_session", pattern=r"^[A-Za-z0-9_.-]+$")
    # Where an identity's tenant is written. Traits are people's own to change, metadata_public is not.
    tenant_field: str = Field("metadata_public.tenant", pattern=r"^(metadata_public|traits)(\.[A-Za-z0-9_-]+)+$")
    tenants: dict[str, str] = {}  # by identity id; goes before that field
    admins: tuple[str, ...] = ()  # ids of identities that see every tenant
    cache_s: float = Field(5.0, ge=0, le=60)  # how long a session that was ended may still work
    login_url: str | None = Field(None, pattern="^https?://")  # where people sign in: a link on our sign-in page


class RecorderSettings(Section):
    """The recorder."""

    grace_ms: int = Field(400, ge=0)  # after its last stream ended, a call waits this long for another
    idle_timeout_ms: int = Field(120_000, ge=1_000)  # a call that says nothing for so long is closed
    commit_interval_s: float = Field(0.5, gt=0)  # bytes are fsynced and offsets committed this often
    uploads: int = Field(2, ge=1)  # recordings finished at the same time


class ReplaySettings(Section):
    """Replays: calls processed again, beside the live ones."""

    concurrency: int = Field(1, ge=1)  # jobs at the same time, per process
    per_minute: int | None = Field(None, ge=1)  # jobs begun per minute and process; None = as fast as it goes
    timeout_s: float = Field(900.0, gt=0)  # of one attempt


class RetrySettings(Section):
    """What a slow stage does about a failed attempt."""

    delays_s: tuple[float, ...] = (1, 10, 60, 300, 420, 600)  # before attempt 2, 3, …; then the dead letters
    outage_pause_s: float = Field(5.0, gt=0)  # how long a stage waits when its provider is away altogether


class MetricsSettings(Section):
    """Prometheus' figures of the services that have no port of their own."""

    host: str = "127.0.0.1"
    port: int | None = Field(None, ge=1, le=65535)  # None = not served


class TokenRates(Section):
    """What a million tokens cost. cached: of a prompt that is in the model's cache; None = like any other."""

    input: Decimal = Field(ge=0)
    output: Decimal = Field(Decimal(0), ge=0)
    cached: Decimal | None = Field(None, ge=0)


class BundledRate(Section):
    """What a service that bundles recording and transcription charges. source: where that was read, and when."""

    per_minute: Decimal = Field(ge=0)
    currency: str = "USD"
    source: str


class PricingSettings(Section):
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
    gemini_rates: dict[str, TokenRates] = {}  # by model; goes before what pipelines/billing/pricing.py knows


class Settings(BaseSettings):
    """Everything. See the sections."""

    model_config = SettingsConfigDict(
        env_prefix="AUDIOTEXT_", env_nested_delimiter="__", toml_file="audiotext.toml", extra="forbid"
    )

    data_dir: Path = Path("data")
    admin_key: SecretStr | None = None  # bootstraps one API key that sees every tenant
    public_url: HttpAddress | None = None  # how carriers reach the gateway; None = http://127.0.0.1:{gateway.port}
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
    unknown = _unknown_variables()
    if unknown:
        raise SettingsError(f"unknown setting {', '.join(unknown)}: see `audiotext settings` for all there are")
    try:
        return Settings(**overrides)  # type: ignore[arg-type]
    except ValidationError as error:
        raise SettingsError(_explain(error)) from None
    except SettingsSourceError as error:  # which says the section only
        raise SettingsError("; ".join(_malformed_variables()) or str(error)) from None
    except ValueError as error:  # a malformed audiotext.toml
        raise SettingsError(f"audiotext.toml cannot be read: {error}") from None


def _unknown_variables() -> list[str]:
    """Variables with our prefix that name no setting: a typo must not be taken for a default."""
    known = _fields()
    return sorted(name for name in os.environ if name.startswith("AUDIOTEXT_") and name.upper() not in known)


def _malformed_variables() -> list[str]:
    """What is wrong with each variable that has to be JSON and is not. Never its value, which may be a secret."""
    found = []
    fields = _fields()
    for variable, text in sorted(os.environ.items()):
        field = fields.get(variable.upper())
        example = _JSON.get(get_origin(field.annotation)) if field else None
        if example is None:
            continue
        try:
            json.loads(text)
        except ValueError as error:
            found.append(f"{variable} is no JSON ({error}): write {example}, in single quotes for a shell")
    return found


_JSON: dict[object, str] = {
    tuple: 'a list, like ["one", "two"] or [1, 10]',
    dict: 'an object, like {"name": …}',
}


def variable_names() -> list[str]:
    """The environment variable of every setting."""
    return list(_fields())


def _fields() -> dict[str, FieldInfo]:
    """Every setting by its environment variable."""
    found: dict[str, FieldInfo] = {}
    for name, field in Settings.model_fields.items():
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            found |= {f"AUDIOTEXT_{name}__{inner}".upper(): of for inner, of in annotation.model_fields.items()}
        else:
            found[f"AUDIOTEXT_{name}".upper()] = field
    return found


def _explain(error: ValidationError) -> str:
    lines = []
    for problem in error.errors():
        name = "AUDIOTEXT_" + "__".join(str(part) for part in problem["loc"]).upper()
        lines.append(f"{name}: {problem['msg'].removeprefix('Value error, ')}")
    return "; ".join(lines)
