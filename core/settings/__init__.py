"""All settings, with types.

The sources, in order of precedence: environment variables (`AUDIOTEXT_…`; `__` separates section and field), the file
`audiotext.toml`, the defaults.

The defaults suit one machine. `audiotext up` embeds every server whose address is not set. Keys, tokens and other
credentials have no default: access that is not configured is denied.
"""

import difflib
import json
import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, get_args, get_origin

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
from core.settings import carriers
from core.settings.base import HttpAddress
from core.settings.carriers import (
    CREDENTIALS,
    AudioSocketSettings,
    ExotelSettings,
    JambonzSettings,
    PlivoAccount,
    PlivoSettings,
    ReusableProofSettings,
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
    "CREDENTIALS",
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
    "ReusableProofSettings",
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
    "carrier_sections",
    "descriptions",
    "load",
    "secret_names",
    "variable_names",
]


_FILE = Path("audiotext.toml")
_PREFIX = "AUDIOTEXT_"
_CLOSE = 0.75  # smallest similarity of a name that is suggested instead of an unknown one


class SettingsError(UserError):
    """Settings that cannot be used. The message names each wrong setting and its allowed values."""

    exit_code = 2


class Settings(BaseSettings):
    """All settings: a few of their own, and one field per section."""

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX,
        env_nested_delimiter="__",
        toml_file=_FILE,
        extra="forbid",
        use_attribute_docstrings=True,
    )

    data_dir: Path = Path("data")
    """Directory for the files of `audiotext up` and of the recorder, and for the services' temporary files."""
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

    @property
    def has_servers(self) -> bool:
        """True if the address of the log or of a store is configured."""
        return any((self.kafka.bootstrap_servers, self.s3.endpoint, self.clickhouse.dsn, self.qdrant.url))

    @property
    def carriers_in_use(self) -> list[str]:
        """Names of the carriers that have at least one setting that authorizes them."""
        used = [
            carrier
            for carrier, names in CREDENTIALS.items()
            if any(getattr(getattr(self, carrier), name) for name in ("accounts", *names))
        ]
        return used + (["audiosocket"] if self.audiosocket.port else [])

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
        SettingsError: A setting is unknown or invalid, or the file cannot be read.
    """
    file = _read_file()
    if problem := _unknown_names(os.environ, file):
        raise SettingsError(problem)
    try:
        return Settings(**overrides)  # type: ignore[arg-type]
    except ValidationError as error:
        raise SettingsError(_explain(error, os.environ, file)) from None
    except SettingsSourceError as error:  # names only the section
        raise SettingsError("; ".join(_malformed_variables()) or str(error)) from None


def variable_names() -> list[str]:
    """Returns the environment variable of every setting."""
    return list(_fields())


def descriptions() -> dict[str, str]:
    """Returns the description of every setting by its environment variable."""
    return {variable: field.description or "" for variable, field in _fields().items()}


def carrier_sections() -> frozenset[str]:
    """Returns the sections that belong to carriers: those whose class is in core/settings/carriers.py."""
    annotations = {name: field.annotation for name, field in Settings.model_fields.items()}
    return frozenset(name for name, of in annotations.items() if getattr(of, "__module__", "") == carriers.__name__)


def secret_names() -> frozenset[str]:
    """Returns the environment variables whose values contain a password, a key or a token."""
    return frozenset(variable for variable, field in _fields().items() if _holds_secret(field.annotation))


def _holds_secret(annotation: object) -> bool:
    """True if a value of this type is or contains a secret."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return any(_holds_secret(field.annotation) for field in annotation.model_fields.values())
    return annotation is SecretStr or any(_holds_secret(argument) for argument in get_args(annotation))


def _read_file() -> dict[str, object]:
    """Returns the content of audiotext.toml, or {} if there is no such file. Raises SettingsError."""
    try:
        return tomllib.loads(_FILE.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except IsADirectoryError:
        raise SettingsError(f"{_FILE} is a directory: rename it, or replace it by a file with settings") from None
    except OSError as error:
        raise SettingsError(f"{_FILE} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise SettingsError(f"{_FILE} cannot be read: {error}") from None


def _unknown_names(environment: Mapping[str, str], file: Mapping[str, object]) -> str:
    """Returns one message about all names that are not settings, each with a suggestion, or "".

    Without this check a typo would silently leave the default. environment: variables. file: content of audiotext.toml.
    """
    known = list(_fields())
    known_in_file = {_file_name(variable) for variable in known}
    found = [
        f"unknown setting {name}{_suggestion(name.upper(), known)}"
        for name in sorted(environment)
        if name.startswith(_PREFIX) and name.upper() not in known
    ]
    found += [
        f"{_FILE}: unknown setting {name}{_suggestion(_variable(name), known, in_file=True)}"
        for name in _names(file)
        if name not in known_in_file
    ]
    return "; ".join(found) + ": `audiotext settings` lists all settings" if found else ""


def _names(file: Mapping[str, object]) -> list[str]:
    """Returns the names of the settings in audiotext.toml: `section.field`, or one name outside of sections."""
    found = []
    for name, value in file.items():
        field = Settings.model_fields.get(name)
        is_section = field is not None and _section(field) is not None
        if isinstance(value, dict) and (field is None or is_section):
            found += [f"{name}.{inner}" for inner in value]
        elif not is_section:  # a value in the place of a section is reported as invalid
            found.append(name)
    return found


def _variable(name: str) -> str:
    """Returns the environment variable for a name in audiotext.toml, also if the name is written like a variable."""
    return _PREFIX + name.upper().replace(".", "__").removeprefix(_PREFIX)


def _file_name(variable: str) -> str:
    """Returns the name in audiotext.toml of a setting."""
    return variable.removeprefix(_PREFIX).lower().replace("__", ".")


def _suggestion(variable: str, known: Sequence[str], *, in_file: bool = False) -> str:
    """Returns a question that names the settings that the user may have meant, or ""."""
    plain = {name.removeprefix(_PREFIX): name for name in known}
    wanted = variable.removeprefix(_PREFIX)
    close = difflib.get_close_matches(wanted, plain, n=1, cutoff=_CLOSE)
    same_field = [name for name in plain if name.rpartition("__")[2] == wanted.rpartition("__")[2]]
    names = [_file_name(plain[name]) if in_file else plain[name] for name in (close or same_field[:4])]
    return f" (did you mean {' or '.join(names)}?)" if names else ""


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
        section = _section(field)
        if section is None:
            found[_variable(name)] = field
        else:
            found |= {_variable(f"{name}.{inner}"): of for inner, of in section.model_fields.items()}
    return found


def _section(field: FieldInfo) -> type[BaseModel] | None:
    """Returns the class of a field that is a section, or None."""
    annotation = field.annotation
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _explain(error: ValidationError, environment: Mapping[str, str], file: Mapping[str, object]) -> str:
    """Returns one message about all invalid values. Each names the variable, or the name in the file that has it."""
    set_variables = {name.upper() for name in environment}
    lines = []
    for problem in error.errors():
        section, *rest = (str(part) for part in problem["loc"])
        variable = _variable(".".join([section, *rest]))
        table = file.get(section)
        value = table.get(rest[0]) if rest and isinstance(table, dict) else table
        # Several settings of a section can contradict each other. Then the section has the problem.
        in_environment = any(name == variable or name.startswith(f"{variable}__") for name in set_variables)
        name = f"{_FILE}: {'.'.join([section, *rest])}" if value is not None and not in_environment else variable
        text = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "model_type" and not rest:
            text = f"a section and not a value: write [{section}], and its settings below"
        lines.append(f"{name}: {text}")
    return "; ".join(lines)
