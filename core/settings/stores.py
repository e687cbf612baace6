"""Settings of the systems that AudioText connects to: the log and the stores."""

from typing import Literal, Self

from pydantic import Field, FilePath, SecretStr, model_validator

from core.settings.base import Dsn, HttpAddress, Section, Tls


class KafkaSettings(Section):
    """The log: Redpanda, Apache Kafka, or any server that speaks their protocol."""

    bootstrap_servers: str | None = None
    """Addresses of the log: host:port,host:port. If it is not set, `audiotext up` embeds a log."""
    security_protocol: Literal["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"] = "plaintext"
    """plaintext, ssl, sasl_plaintext or sasl_ssl."""
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = None
    """PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512."""
    sasl_username: str | None = None
    """User at the log."""
    sasl_password: SecretStr | None = None
    """Password at the log."""
    # The names of the files are librdkafka's.
    ssl_ca_location: FilePath | None = None
    """PEM file with the certificate authority of the log. Default: the system's authorities."""
    ssl_certificate_location: FilePath | None = None
    """PEM file with a client certificate, if the brokers require one."""
    ssl_key_location: FilePath | None = None
    """PEM file with the private key of the client certificate."""
    ssl_key_password: SecretStr | None = None
    """Password of that private key."""
    # Static membership: a restarted process takes its partitions back at once and does not wait for the session to
    # time out.
    instance_id: str | None = None
    """Static name of this process in its consumer group, unique per service. A restart then takes over at once."""
    session_timeout_ms: int = Field(30_000, ge=6_000)
    """A consumer that is silent for this long loses its partitions (ms)."""
    partitions: int | None = Field(None, ge=1)
    """Partitions of each topic. Default: the numbers in redpanda/topics.yaml."""
    replication_factor: int = Field(1, ge=1)
    """Copies of each topic."""

    @model_validator(mode="after")
    def _protocol_fits(self) -> Self:
        """Rejects settings that the protocol would ignore, and missing settings that it needs."""
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
    """Object storage: MinIO, SeaweedFS, AWS S3 and compatible servers."""

    endpoint: str | None = None
    """Address of the object storage: http(s)://host:port. If it is not set, `audiotext up` embeds one."""
    access_key: str | None = None
    """Access key at the object storage."""
    secret_key: SecretStr | None = None
    """Secret key at the object storage."""
    session_token: SecretStr | None = None
    """Session token of temporary credentials."""
    region: str = "us-east-1"
    """Region of the object storage."""
    bucket: str = "audiotext"
    """Bucket for recordings, transcripts and summaries."""
    addressing: Literal["auto", "path", "host"] = "auto"
    """Position of the bucket in URLs. path: https://host/bucket; host: https://bucket.host; auto: host at AWS, else
    path."""


class ClickHouseSettings(Tls):
    """ClickHouse."""

    dsn: Dsn | None = None
    """clickhouse://user:password@host:8123/database, or clickhouses://…:8443/… with TLS. If it is not set,
    `audiotext up` embeds an engine."""


class QdrantSettings(Tls):
    """The vector store."""

    url: HttpAddress | None = None
    """Address of the vector store: http(s)://host:port. If it is not set, `audiotext up` embeds one."""
    api_key: SecretStr | None = None
    """API key of the vector store."""
