"""The base of every settings section, and the field types that several sections use."""

from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, FilePath, SecretStr, model_validator


class Section(BaseModel):
    """One section of the settings: `[kafka]` in the file, `AUDIOTEXT_KAFKA__…` in the environment.

    The docstring below each field is its description. `audiotext settings` prints it.
    """

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class Tls(Section):
    """TLS for a store that is reached by https. Files are PEM."""

    ca_file: FilePath | None = None
    """File with the certificate authority of the server. Default: the system's authorities."""
    cert_file: FilePath | None = None
    """File with a client certificate, if the server requires one."""
    key_file: FilePath | None = None
    """File with the private key of the client certificate."""

    @model_validator(mode="after")
    def _certificate_has_key(self) -> Self:
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file belong together")
        return self


def _has_host(text: str, *schemes: str) -> bool:
    try:
        url = urlsplit(text)
        _ = url.port  # parsed only on access
    except ValueError:  # the message may contain a part of a password
        return False
    return url.scheme in schemes and bool(url.hostname)


def _address(text: str) -> str:
    """Returns the text if it can be the beginning of other URLs, or if it is empty."""
    if text and (not _has_host(text, "http", "https") or "?" in text or "#" in text):
        raise ValueError("not an address: write it like https://your.host, without ? and #")
    return text


def _dsn(secret: SecretStr) -> SecretStr:
    """Returns the secret if it names a server, or if it is empty."""
    text = secret.get_secret_value()
    if text and not _has_host(text, "clickhouse", "clickhouses", "clickhousedb", "http", "https"):
        raise ValueError(
            "not a DSN: write it like clickhouse://user:password@host:8123/database (clickhouses:// with TLS); "
            "percent-encode special characters of the password, for example / as %2F"
        )
    return secret


HttpAddress = Annotated[str, AfterValidator(_address)]
Dsn = Annotated[SecretStr, AfterValidator(_dsn)]
