"""All settings, with types.

The sources, in order of precedence: environment variables (`AUDIOTEXT_…`; `__` separates section and field), the file
`audiotext.toml`, the defaults.

The defaults suit one machine. `audiotext up` embeds every server whose address is not set. Keys, tokens and other
credentials have no default: access that is not configured is denied.
"""

import json
import os
from pathlib import Path
from typing import Literal, get_origin

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)
from pydantic_settings import SettingsError as SettingsSourceError

from core.errors import UserError
from core.settings.base import HttpAddress
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
from core.settings.pricing import BundledRate, PricingSettings, TokenRates
from core.settings.services import (
    ApiSettings,
    GatewaySettings,
    KratosSettings,
    MetricsSettings,
    RecorderSettings,
    ReplaySettings,
    RetrySettings,
)
from core.settings.stores import ClickHouseSettings, KafkaSettings, QdrantSettings, S3Settings

# Other modules import every settings class from here.
__all__ = [
    "OPENAI_URL",
    "ApiSettings",
    "AudioSocketSettings",
    "BundledRate",
    "ClickHouseSettings",
    "EmbeddingSettings",
    "ExotelSettings",
    "GatewaySettings",
    "GeminiSettings",
    "JambonzSettings",
    "KafkaSettings",
    "KratosSettings",
    "MetricsSettings",
    "OpenAiSettings",
    "PlivoAccount",
    "PlivoSettings",
    "PricingSettings",
    "QdrantSettings",
    "RecorderSettings",
    "ReplaySettings",
    "RetrySettings",
    "S3Settings",
    "Settings",
    "SettingsError",
    "SignalWireAccount",
    "SignalWireSettings",
    "SonioxSettings",
    "SttSettings",
    "SummaryField",
    "SummarySettings",
    "TelnyxAccount",
    "TelnyxSettings",
    "TokenRates",
    "TwilioAccount",
    "TwilioSettings",
    "VonageAccount",
    "VonageSettings",
    "descriptions",
    "load",
    "variable_names",
]


class SettingsError(UserError):
    """Settings that cannot be used. The message names each wrong setting and its allowed values."""

    exit_code = 2


class Settings(BaseSettings):
    """All settings: a few of their own, and one field per section."""

    model_config = SettingsConfigDict(
        env_prefix="AUDIOTEXT_",
        env_nested_delimiter="__",
        toml_file="audiotext.toml",
        extra="forbid",
        use_attribute_docstrings=True,
    )

    data_dir: Path = Path("data")
    """Directory for the files of `audiotext up` and of the recorder."""
    admin_key: SecretStr | None = None
    """API key that sees every tenant. Further keys: `audiotext keys create`."""
    public_url: HttpAddress | None = None
    """Address at which carriers reach the gateway. Signatures are verified against it. Default:
    http://127.0.0.1:{port}."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """Lowest level that is logged: DEBUG, INFO, WARNING or ERROR."""
    log_format: Literal["text", "json"] = "text"
    """Format of the services' logs: text, or json with one object per line."""

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
        """The public URL without a trailing slash."""
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
        """Returns the sources in order of precedence: arguments, environment, file."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)


def load(**overrides: object) -> Settings:
    """Loads the settings of this process.

    Args:
        overrides: Values by field name. They take precedence over every source.

    Raises:
        SettingsError: A setting is unknown or invalid.
    """
    unknown = _unknown_variables()
    if unknown:
        raise SettingsError(f"unknown setting {', '.join(unknown)}: `audiotext settings` lists all settings")
    try:
        return Settings(**overrides)  # type: ignore[arg-type]
    except ValidationError as error:
        raise SettingsError(_explain(error)) from None
    except SettingsSourceError as error:  # names only the section
        raise SettingsError("; ".join(_malformed_variables()) or str(error)) from None
    except ValueError as error:  # a malformed audiotext.toml
        raise SettingsError(f"audiotext.toml cannot be read: {error}") from None


def variable_names() -> list[str]:
    """Returns the environment variable of every setting."""
    return list(_fields())


def descriptions() -> dict[str, str]:
    """Returns the description of every setting by its environment variable."""
    return {variable: field.description or "" for variable, field in _fields().items()}


def _unknown_variables() -> list[str]:
    """Returns the variables with our prefix that name no setting, so that a typo is an error and not a default."""
    known = _fields()
    return sorted(name for name in os.environ if name.startswith("AUDIOTEXT_") and name.upper() not in known)


def _malformed_variables() -> list[str]:
    """Returns one message for each variable whose value is not valid JSON. A message never contains the value."""
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
            found.append(f"{variable} is not valid JSON ({error}): write {example}, in single quotes for a shell")
    return found


_JSON: dict[object, str] = {
    tuple: 'a list, like ["one", "two"] or [1, 10]',
    dict: 'an object, like {"name": …}',
}


def _fields() -> dict[str, FieldInfo]:
    """Returns every setting by its environment variable."""
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
