"""Single-machine stack: embeds each server that has no configured address and runs all services under a supervisor."""

import http.client
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path

from pydantic import BaseModel, SecretStr

from audiotext.embedded import clickhouse, log, objects, qdrant
from audiotext.embedded.server import LOOPBACK, Server, ServerError, wait_until_ready
from audiotext.embedded.state import State
from audiotext.stack.datadir import ALARM_BYTES, DataDir, RunningStack
from audiotext.stack.environment import child_environment, to_variables, without_settings
from audiotext.stack.preflight import validate_startup
from audiotext.stack.services import METRICS_PORT_SERVICES, SERVICES, needed_settings
from audiotext.stack.supervisor import Program, RestartPolicy, Status, Supervisor
from core.errors import UserError
from core.http_address import unix_address
from core.settings import ApiSettings, Settings, SettingsError
from redpanda import topics
from sinks.object_store import ObjectStore, ObjectStoreError

_SERVER_START_S = 30.0
_SERVICES_START_S = 60.0
_READYZ_TIMEOUT_S = 4.5  # the gateway waits up to 2 s for the log
_REPORT_WAIT_AFTER_S = 5.0  # after this time the missing parts are reported
_DISK_CHECK_S = 10.0
_ALARM_EVERY_S = 60.0
_LATENCY_CRITICAL = frozenset(spec.name for spec in SERVICES.values() if spec.latency_critical)
_API_SOCKET = "api.sock"
_NICE = 10  # niceness of services that are not latency-critical

# The whole stop takes at most 5 s. These are the seconds from its start until the rest of a group is killed. The
# gateway ends first, so that it can write the end of every open stream to the log; the log ends last.
_GATEWAY_END_S = 3.4
_SERVICES_END_S = 4.2
_SERVERS_END_S = 0.7  # from their SIGTERM; SeaweedFS would take 2 s, and a kill loses no data of these servers
# The log saves its content, and the gateway writes the ends of its open streams.
_FLUSHES_ON_SIGTERM = frozenset({"gateway", log.NAME, "log-front"})
_CONFIGURATION_ERROR = 2  # exit code of a service that cannot run with its settings
_LOG_END_S = 30.0  # long, because a kill during the save would lose records that no other process has


class StackError(UserError):
    """The stack cannot be started; the message is one sentence with the reason."""


class ServiceRefusedError(SettingsError):
    """A service cannot run with these settings; the message names the service and the reason."""


class Stack:
    """A stack in `settings.data_dir`.

    say: receives messages for the user, one line each, from several threads. services: names and commands of the
    programs to run besides the servers; by default all services.
    """

    def __init__(
        self,
        settings: Settings,
        say: Callable[[str], None],
        *,
        services: Mapping[str, Sequence[str]] | None = None,
        policy: RestartPolicy | None = None,
    ) -> None:
        self.settings = settings
        self._say = say
        self._services = services if services is not None else service_commands()
        self._policy = policy
        self._data: DataDir | None = None
        self._supervisor: Supervisor | None = None
        self._servers: list[Server] = []
        self._stopping = threading.Event()
        self._refusal: str | None = None
        self._started_at = 0.0
        self._forced = threading.Event()

    def start(self) -> None:
        """Locks the data directory, starts the servers, creates topics and bucket, and starts the services.

        Afterwards `settings` contains the addresses of the running stack. If the start fails, all started processes are
        ended. Raises StackError, DataDirError, MissingExtraError, LogUnavailableError, and SettingsError for settings
        that cannot work.
        """
        self._started_at = time.monotonic()
        self._data = DataDir(self.settings.data_dir)
        try:
            self._start(self._data)
        except BaseException:
            self.force_stop()
            self.stop()
            raise

    def wait_ready(self, timeout_s: float = _SERVICES_START_S) -> None:
        """Returns when the stack can accept calls and serve the API (the gateway's `/readyz` names no missing part).

        Reports the missing parts if this takes long. Raises StackError after `timeout_s`, and ServiceRefusedError as
        soon as a service cannot run.
        """
        gateway = self.settings.gateway
        began = time.monotonic()
        reported = ""
        while missing := _missing_parts(_connect_host(gateway.host), gateway.port):
            waited_s = time.monotonic() - began
            parts = "; ".join(f"{name} ({reason})" for name, reason in sorted(missing.items()))
            if self._stopping.is_set():
                self._raise_if_unsupported()
                raise StackError("stopped before it was ready")
            if waited_s > timeout_s:
                raise StackError(
                    f"not ready after {timeout_s:g} s, missing: {parts}; run `audiotext doctor` and see the logs in "
                    f"{self._log_dir}"
                )
            if waited_s > _REPORT_WAIT_AFTER_S and parts != reported:
                self._say(f"waiting for {parts}")
                reported = parts
            time.sleep(0.05)
        self._raise_if_unsupported()

    def wait(self) -> None:
        """Returns after `cancel`. Raises ServiceRefusedError if a service cannot run."""
        self._stopping.wait()
        self._raise_if_unsupported()

    @property
    def embedded(self) -> list[str]:
        """Names of the embedded servers, after the start."""
        return [server.name for server in self._servers]

    @property
    def log_is_open(self) -> bool:
        """True if the embedded log runs without a private network, so that other users of the machine can reach it."""
        return any(server.name == log.NAME and server.network is None for server in self._servers)

    def status(self) -> dict[str, Status]:
        """Returns the status of each server and service, by name."""
        return self._supervisor.status() if self._supervisor else {}

    def cancel(self) -> None:
        """Makes a running `start` or `wait_ready` raise StackError. Safe in other threads and in signal handlers."""
        self._stopping.set()

    def force_stop(self) -> None:
        """Makes `stop`, also a running one, kill the processes without waiting; only the log may still save."""
        self._forced.set()

    def stop(self) -> None:
        """Ends all processes in an order that loses no data. A second call does nothing."""
        self._stopping.set()
        supervisor, self._supervisor = self._supervisor, None
        if supervisor:
            began = time.monotonic()
            supervisor.stop(["gateway"], partial(self._remaining_s, began + _GATEWAY_END_S))
            services = [name for name in self._services if name != "gateway"]
            supervisor.stop(services, partial(self._remaining_s, began + _SERVICES_END_S))
            servers = [name for name in self.embedded if name != log.NAME]
            supervisor.stop(servers, partial(self._remaining_s, time.monotonic() + _SERVERS_END_S))
            supervisor.stop([log.NAME], lambda: began + _LOG_END_S - time.monotonic())
            supervisor.close()
        if self._data:
            self._data.release()
            self._data = None

    @property
    def _log_dir(self) -> Path:
        return self.settings.data_dir.absolute() / "logs"

    def _on_refused(self, reason: str) -> None:
        self._refusal = reason
        self._stopping.set()

    def _raise_if_unsupported(self) -> None:
        if self._refusal is not None:
            raise ServiceRefusedError(self._refusal)

    def _remaining_s(self, deadline: float) -> float:
        return 0.0 if self._forced.is_set() else deadline - time.monotonic()

    def _start(self, data: DataDir) -> None:
        validate_startup(self.settings, self._services)
        state = State(data.path)
        self._servers = _servers(self.settings, state)
        self.settings = self._with_addresses(state)
        supervisor = Supervisor(
            self._log_dir, self._say, policy=self._policy, keep_open=(data.lock_fd,), on_refused=self._on_refused
        )
        self._supervisor = supervisor
        if self._servers:
            self._say(f"starting {', '.join(self.embedded)}")
        supervisor.start(
            Program(
                server.name,
                server.command,
                without_settings(os.environ) | dict(server.env),
                server.cwd,
                keep_open=server.keep_open,
                orphan_signal=_orphan_signal(server.name),
            )
            for server in self._servers
        )
        for server in self._servers:
            self._wait_for(server, supervisor)
        self._prepare()
        data.publish(RunningStack(to_variables(self.settings), self.embedded))
        self._say(f"topics and bucket exist; starting {', '.join(self._services)}")
        supervisor.start(
            Program(
                name,
                command,
                self._environment(name),
                nice=0 if name in _LATENCY_CRITICAL else _NICE,
                orphan_signal=_orphan_signal(name),
                refusal_code=_CONFIGURATION_ERROR,
            )
            for name, command in self._services.items()
        )
        threading.Thread(target=self._watch_disk, args=(data,), name="disk", daemon=True).start()

    def _with_addresses(self, state: State) -> Settings:
        """Returns the settings with every address filled in."""
        addresses = {name: value for server in self._servers for name, value in server.addresses.items()}
        api = self.settings.api
        if "port" not in api.model_fields_set:
            # Only the gateway connects to it. No other user can connect to the socket, or put another one in its place.
            api = api.model_copy(update={"socket": state.data_dir / _API_SOCKET})
        session_secret = self.settings.api.session_secret or SecretStr(state.secret("sessions"))
        api = api.model_copy(update={"session_secret": session_secret, "watched": self._metrics_urls(state, api)})
        # Generated once and stored, so that tokens stay valid after a restart.
        secret = self.settings.gateway.stream_token_secret or SecretStr(state.secret("stream-tokens"))
        api_url = _api_url(api)
        gateway = self.settings.gateway.model_copy(update={"api_url": api_url, "stream_token_secret": secret})
        settings = self.settings.model_copy(update={"data_dir": state.data_dir, "api": api, "gateway": gateway})
        if "AUDIOTEXT_KAFKA__BOOTSTRAP_SERVERS" in addresses:
            # The embedded log never expires a dead member, but accepts a new one with the same name at once.
            addresses["AUDIOTEXT_KAFKA__INSTANCE_ID"] = settings.kafka.instance_id or "embedded"
        return _with_variables(settings, addresses)

    def _metrics_urls(self, state: State, api: ApiSettings) -> dict[str, str]:
        """Returns the URL of each service's metrics. Ports are consecutive from the configured one, else free ones."""
        gateway, metrics = self.settings.gateway, self.settings.metrics
        ports = {"gateway": (gateway.host, gateway.port)}
        for number, name in enumerate(METRICS_PORT_SERVICES):
            port = metrics.port + number if metrics.port is not None else state.port(f"metrics-{name}")
            ports[name] = (metrics.host, port)
        urls = {name: f"http://{_connect_host(host)}:{port}" for name, (host, port) in ports.items()}
        return {name: url for name, url in (urls | {"api": _api_url(api)}).items() if name in self._services}

    def _environment(self, service: str) -> dict[str, str]:
        """Returns the environment of the service, with the settings that it needs and with no others."""
        needed = needed_settings(service) if service in SERVICES else None
        return child_environment(os.environ, self.settings, needed) | self._metrics_port(service)

    def _metrics_port(self, service: str) -> dict[str, str]:
        """Returns the variable that sets the service's metrics port."""
        if service not in METRICS_PORT_SERVICES or service not in self.settings.api.watched:
            return {}
        return {"AUDIOTEXT_METRICS__PORT": self.settings.api.watched[service].rpartition(":")[2]}

    def _wait_for(self, server: Server, supervisor: Supervisor) -> None:
        def alive() -> bool:
            return not supervisor.status()[server.name].failing and not self._stopping.is_set()

        try:
            wait_until_ready(server, _SERVER_START_S, alive)
            self._say(f"{server.name} is ready after {time.monotonic() - self._started_at:.1f} s")
        except ServerError as error:
            raise StackError(f"{error}; its log: {supervisor.log_path(server.name)}") from None

    def _prepare(self) -> None:
        topics.apply(self.settings.kafka, embedded=log.NAME in self.embedded)
        try:
            ObjectStore(self.settings.s3).ensure_bucket()
        except (ObjectStoreError, SettingsError) as error:
            raise StackError(f"object storage cannot be used: {error}") from None

    def _watch_disk(self, data: DataDir) -> None:
        alarm_at = 0.0
        while not self._stopping.wait(_DISK_CHECK_S):
            free = data.free_bytes()
            if free < ALARM_BYTES and time.monotonic() >= alarm_at:
                alarm_at = time.monotonic() + _ALARM_EVERY_S
                self._say(f"THE DISK IS ALMOST FULL: {free // 1_000_000} MB free for {data.path}; recordings will fail")


def _orphan_signal(name: str) -> signal.Signals:
    """Returns the signal that a child gets when the supervisor is killed.

    A kill loses no data of any child except `_FLUSHES_ON_SIGTERM`. After SIGTERM some of the others would wait for
    processes that are ending as well (the recorder would wait for the log forever) and keep the data directory locked.
    """
    return signal.SIGTERM if name in _FLUSHES_ON_SIGTERM else signal.SIGKILL


def service_commands(*, without: Collection[str] = ()) -> dict[str, Sequence[str]]:
    """Returns the command of each service, except for those in `without`."""
    return {name: (sys.executable, "-m", "audiotext", "run", name) for name in SERVICES if name not in without}


def _servers(settings: Settings, state: State) -> list[Server]:
    """Returns the servers to embed: those without a configured address."""
    servers: list[Server] = []
    if not settings.kafka.bootstrap_servers:
        servers += log.servers(state)
    if not settings.s3.endpoint:
        servers.append(objects.server(state, settings.s3.bucket))
    if not settings.clickhouse.dsn:
        servers.append(clickhouse.server(state))
    if not settings.qdrant.url:
        servers.append(qdrant.server(state))
    return servers


def _with_variables(settings: Settings, addresses: Mapping[str, str]) -> Settings:
    """Returns the settings with the values of these variables (AUDIOTEXT_SECTION__NAME)."""
    sections: dict[str, dict[str, str]] = {}
    for variable, value in addresses.items():
        section, _, name = variable.removeprefix("AUDIOTEXT_").lower().partition("__")
        sections.setdefault(section, {})[name] = value
    changed: dict[str, BaseModel] = {}
    for section, values in sections.items():
        old: BaseModel = getattr(settings, section)
        changed[section] = type(old).model_validate(old.model_dump() | values)
    return settings.model_copy(update=changed)


def _connect_host(host: str) -> str:
    """Returns the address at which this machine reaches a server that listens on `host`."""
    return LOOPBACK if host in ("0.0.0.0", "::", "") else host


def _api_url(api: ApiSettings) -> str:
    """Returns the address at which this machine reaches the API."""
    return unix_address(api.socket) if api.socket else f"http://{_connect_host(api.host)}:{api.port}"


def _missing_parts(host: str, port: int) -> dict[str, str]:
    """Returns the missing parts that the gateway's /readyz reports; empty when it is ready."""
    connection = http.client.HTTPConnection(host, port, timeout=_READYZ_TIMEOUT_S)
    try:
        connection.request("GET", "/readyz")
        response = connection.getresponse()
        report = json.loads(response.read())
        return {str(name): str(reason) for name, reason in (report["missing"] | report["api_missing"]).items()}
    except (OSError, http.client.HTTPException, ValueError, LookupError, AttributeError):
        return {"the gateway": "it does not answer"}
    finally:
        connection.close()
