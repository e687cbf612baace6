"""Settings of what AudioText connects to: the log and the stores."""

from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, FilePath, SecretStr, model_validator


class Section(BaseModel):
    """A section of the settings: `[kafka]` in the file, AUDIOTEXT_KAFKA__… in the environment."""

    model_config = ConfigDict(extra="forbid")


def _leads_to_a_host(text: str, *schemes: str) -> bool:
    try:
        url = urlsplit(text)
        _ = url.port  # which is read only now
    except ValueError:  # whose message may have a piece of a password in it
        return False
    return url.scheme in schemes and bool(url.hostname)


def _address(text: str) -> str:
    """The text, if other URLs can begin with it; nothing stands for none."""
    if text and (not _leads_to_a_host(text, "http", "https") or "?" in text or "#" in text):
        raise ValueError("is no address: write it like https://your.host, without ? and #")
    return text


def _dsn(secret: SecretStr) -> SecretStr:
    """The secret, if it names a server; nothing stands for none."""
    text = secret.get_secret_value()
    if text and not _leads_to_a_host(text, "clickhouse", "clickhouses", "clickhousedb", "http", "https"):
        raise ValueError(
            "is no DSN: write it like clickhouse://user:password@host:8123/database (clickhouses:// with TLS), what is "
            "special in a password as %2F"
        )
    return secret


HttpAddress = Annotated[str, AfterValidator(_address)]
Dsn = Annotated[SecretStr, AfterValidator(_dsn)]


class Tls(Section):
    """TLS of a store that is reached by https. PEM files; without a CA file the system's authorities are trusted."""

    ca_file: FilePath | None = None
    cert_file: FilePath | None = None  # a client certificate, where the server asks for one
    key_file: FilePath | None = None

    @model_validator(mode="after")
    def _both_or_none(self) -> Self:
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file belong together")
        return self


class KafkaSettings(Section):
    """The log: Redpanda, Apache Kafka or anything that speaks their protocol."""

    bootstrap_servers: str | None = None  # host:port,host:port; None = embedded
    security_protocol: Literal["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"] = "plaintext"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = None
    sasl_username: str | None = None
    sasl_password: SecretStr | None = None
    # PEM files, named as librdkafka names them; without a CA the system's authorities are trusted.
    ssl_ca_location: FilePath | None = None
    ssl_certificate_location: FilePath | None = None  # a client certificate, where the brokers ask for one
    ssl_key_location: FilePath | None = None
    ssl_key_password: SecretStr | None = None
    # Static membership: a restarted process takes its partitions back at once instead of waiting for the session to
    # time out. Unique among the processes of one service; None = dynamic membership.
    instance_id: str | None = None
    session_timeout_ms: int = Field(30_000, ge=6_000)
    # Divides the partitions that redpanda/topics.yaml gives each topic: one machine needs fewer.
    partitions: int | None = Field(None, ge=1)
    replication_factor: int = Field(1, ge=1)

    @model_validator(mode="after")
    def _protocol_fits(self) -> Self:
        """What the protocol has no use for would be ignored silently; what it needs would be missed much later."""
        sasl = (self.sasl_mechanism, self.sasl_username, self.sasl_password)
        if self.security_protocol.startswith("sasl_"):
            if not all(sasl):
                raise ValueError(
                    f"security_protocol {self.security_protocol} needs sasl_mechanism, sasl_username and sasl_password"
                )
        elif any(sasl):
            raise ValueError("sasl_… is set: security_protocol has to be sasl_ssl (or sasl_plaintext)")
        files = (self.ssl_ca_location, self.ssl_certificate_location, self.ssl_key_location)
        if any(files) and not self.security_protocol.endswith("ssl"):
            raise ValueError("ssl_… is set: security_protocol has to be ssl or sasl_ssl")
        if (self.ssl_certificate_location is None) != (self.ssl_key_location is None):
            raise ValueError("ssl_certificate_location and ssl_key_location belong together")
        return self


class S3Settings(Tls):
    """Object storage: MinIO, SeaweedFS, AWS and the like."""

    endpoint: str | None = None  # http(s)://host:port; None = embedded
    access_key: str | None = None
    secret_key: SecretStr | None = None
    session_token: SecretStr | None = None  # of temporary credentials
    region: str = "us-east-1"
    bucket: str = "audiotext"
    # Where the bucket stands in a URL: https://host/bucket or https://bucket.host; "auto": host at AWS, else path.
    addressing: Literal["auto", "path", "host"] = "auto"


class ClickHouseSettings(Tls):
    """ClickHouse. DSN as clickhouse-connect takes it: clickhouse://user:password@host:8123/database; with TLS
    clickhouses://user:password@host:8443/database."""

    dsn: Dsn | None = None  # None = embedded


class QdrantSettings(Tls):
    """The vector store."""

    url: HttpAddress | None = None  # http(s)://host:port; None = embedded
    api_key: SecretStr | None = None
