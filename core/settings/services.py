"""Settings of AudioText's own services."""

from ipaddress import ip_network
from pathlib import Path
from typing import Annotated

from pydantic import Field, IPvAnyNetwork, SecretStr

from core.settings.base import Section

# Loopback, private use, carrier-grade NAT and link-local: RFC 1122, 1918, 6598, 3927, 4291, 4193.
_PRIVATE_NETWORKS = tuple(
    ip_network(network)
    for network in (
        *("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16"),
        *("::1/128", "fe80::/10", "fc00::/7"),
    )
)


EngineName = Annotated[str, Field(pattern=r"^[a-z]+:\S+$")]
"""Provider and model, as in "soniox:stt-async-v5"."""


class GatewaySettings(Section):
    """The gateway: media sockets, webhooks and, on one machine, the front of the API."""

    host: str = "127.0.0.1"
    """Address that the gateway listens on."""
    port: int = Field(8080, ge=1, le=65535)
    """Port that the gateway listens on."""
    merge_ms: int = Field(500, ge=20, le=5_000)
    """Audio per record of call.media and track (ms)."""
    buffer_bytes: int = Field(256 * 1024 * 1024, ge=1024 * 1024)
    """Audio that the gateway holds while the log is slow or unreachable (bytes)."""
    max_message_bytes: int = Field(64 * 1024, ge=4096)
    """Largest message that the gateway accepts from a carrier (bytes)."""
    idle_timeout_s: float = Field(3600.0, gt=0)
    """A media socket that is silent for this long is closed, even if the call is on hold (s)."""
    # TCP keepalive probes AudioSocket connections instead.
    ping_interval_s: float = Field(30.0, gt=0)
    """Interval of the pings to a silent media socket (s). After three unanswered pings the socket is closed."""
    start_timeout_s: float = Field(10.0, gt=0)
    """A media socket whose stream does not start within this time is closed (s)."""
    handshake_timeout_s: float = Field(10.0, gt=0)
    """A connection is closed if its request, or the request's body, is not complete within this time (s)."""
    max_unproven_sockets: int = Field(100, ge=1)
    """Media sockets per gateway that may wait for the stream token in their start message."""
    max_stranger_requests: int = Field(100, ge=1)
    """Requests in 10 s from one address that has not authenticated yet."""
    max_unproven_requests: int = Field(500, ge=1)
    """Requests in 10 s from all unauthenticated addresses together, without carriers' requests."""
    # A proxy, a tunnel or a load balancer has a private address and stands for many clients.
    unlimited_peers: tuple[IPvAnyNetwork, ...] = _PRIVATE_NETWORKS
    """Networks without these limits (JSON list). Default: private networks."""
    max_speed: float = Field(100.0, ge=1)
    """A stream that sends audio faster than this multiple of real time is closed."""
    max_streams_per_call: int = Field(8, ge=1)
    """Streams of one call at the same time, per gateway."""
    max_calls_per_tenant: int = Field(5_000, ge=1)
    """Calls of one tenant at the same time, per gateway."""
    call_end_delay_s: float = Field(2.0, ge=0)
    """Time that audio may arrive after a webhook reports the end of the call (s)."""
    stream_token_secret: SecretStr | None = Field(None, min_length=16)
    """Secret that signs our stream tokens, 16 characters or more. `audiotext up` generates one."""
    stream_token_ttl_s: int = Field(900, ge=10)
    """A stream must start within this time after its token was issued (s)."""
    trusted_proxies: tuple[IPvAnyNetwork, ...] = ()
    """Networks of proxies whose X-Forwarded-For is trusted (JSON list). Without it, no request limits apply to the
    clients of a proxy with a private address."""
    drain_timeout_s: float = Field(3.0, gt=0)
    """Time that a shutdown waits for the log to accept the held audio (s)."""
    api_url: str | None = None
    """Address that requests for the API are forwarded to: http://host:port, or unix:/path of a Unix socket.
    `audiotext up` fills it in."""


class ApiSettings(Section):
    """The HTTP API and the web UI."""

    host: str = "127.0.0.1"
    """Address that the API listens on."""
    port: int = Field(8081, ge=1, le=65535)
    """Port that the API listens on."""
    socket: Path | None = None
    """Unix socket that the API listens on instead of host and port. `audiotext up` creates one in the data directory
    unless you set the port."""
    # Several API processes need the same secret.
    session_secret: SecretStr | None = Field(None, min_length=16)
    """Secret that signs sessions and share links. A new secret ends all of them. `audiotext up` generates one."""
    session_ttl_s: int = Field(43_200, ge=60)
    """A browser has to sign in again after this time (s)."""
    failed_sign_ins: int = Field(60, ge=1)
    """Failed sign-ins per minute from one address; from all addresses together ten times as many. Further ones get
    429. Valid keys and sessions are not limited."""
    watched: dict[str, str] = {}
    """Services on the operations page: JSON {name: "http://host:port"} of their /healthz and /metrics. `audiotext
    up` fills it in."""


class KratosSettings(Section):
    """Ory Kratos, whose sessions the API accepts besides API keys."""

    url: str | None = Field(None, pattern="^https?://")
    """Public API of Ory Kratos. If it is not set, the API accepts only keys."""
    cookie: str = Field("ory_kratos_session", pattern=r"^[A-Za-z0-9_.-]+$")
    """Name of the Kratos session cookie."""
    # People can change their traits themselves; metadata_public is read-only for them.
    tenant_field: str = Field("metadata_public.tenant", pattern=r"^(metadata_public|traits)(\.[A-Za-z0-9_-]+)+$")
    """Field of an identity that names its tenant: metadata_public.… (or traits.…)."""
    tenants: dict[str, str] = {}
    """Tenants by identity id (JSON object). They take precedence over that field."""
    admins: tuple[str, ...] = ()
    """Ids of the identities that see every tenant (JSON list)."""
    cache_s: float = Field(5.0, ge=0, le=60)
    """Longest time that a session still works after it was ended (s)."""
    login_url: str | None = Field(None, pattern="^https?://")
    """Address where people sign in with their account. The sign-in page links to it."""


class RecorderSettings(Section):
    """The recorder."""

    grace_ms: int = Field(400, ge=0)
    """Time that a call waits for another stream after its last stream ended (ms)."""
    idle_timeout_ms: int = Field(120_000, ge=1_000)
    """A call is closed if no gateway mentions it for this long (ms)."""
    commit_interval_s: float = Field(0.5, gt=0)
    """Interval between fsyncs of audio and commits of offsets (s)."""
    uploads: int = Field(2, ge=1)
    """Recordings that are finished at the same time."""

    @property
    def alive_s(self) -> float:
        """Interval at which a gateway reports that a silent stream is open: a quarter of the idle time (s)."""
        return self.idle_timeout_ms / 4000


class ReplaySettings(Section):
    """Replays: calls that are processed again, beside the live calls."""

    concurrency: int = Field(1, ge=1)
    """Replay jobs that one process runs at the same time."""
    per_minute: int | None = Field(None, ge=1)
    """Replay jobs that one process starts per minute. Default: no limit."""
    timeout_s: float = Field(900.0, gt=0)
    """Deadline of one attempt of a replay job (s)."""
    tenant_engines: dict[str, tuple[EngineName, ...]] = {}
    """Engines that a tenant's key may choose for its replays: JSON {tenant: ["provider:model", …]}, for example
    {"acme": ["whisper:tiny.en"]}. Default: only the configured engines. Keys that see every tenant may choose any."""


class RetrySettings(Section):
    """Retries of the slow stages."""

    delays_s: tuple[float, ...] = (1, 10, 60, 300, 420, 600)
    """Delays before attempts 2, 3, … (JSON list of s). After the last attempt the record becomes a dead letter."""
    outage_pause_s: float = Field(5.0, gt=0)
    """Time that a stage pauses when its provider is unreachable (s)."""


class MetricsSettings(Section):
    """Prometheus metrics of the services that have no HTTP port of their own."""

    host: str = "127.0.0.1"
    """Address that /metrics and /healthz of recorder, stages and sinks listen on."""
    port: int | None = Field(None, ge=1, le=65535)
    """Port of /metrics and /healthz. Under `audiotext up` it is the first of one port per service. Default: not
    served."""
