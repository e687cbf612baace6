"""Everything on one machine: embeds what has no address configured, then runs every service under a supervisor."""

import http.client
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from pydantic import BaseModel, SecretStr

from audiotext.embedded import clickhouse, log, objects, qdrant
from audiotext.embedded.server import LOOPBACK, Server, ServerError, wait_until_it_answers
from audiotext.embedded.state import State
from audiotext.stack.datadir import ALARM_BYTES, DataDir, RunningStack
from audiotext.stack.environment import child_environment, variables
from audiotext.stack.preflight import validate_startup
from audiotext.stack.services import LIVE, SERVICES, WITH_METRICS_PORT
from audiotext.stack.supervisor import Program, RestartPolicy, Status, Supervisor
from core.errors import UserError
from core.settings import ApiSettings, Settings, SettingsError
from redpanda import topics
from sinks.object_store import ObjectStore, ObjectStoreError

_SERVER_START_S = 30.0
_SERVICES_START_S = 60.0
_LOOK_S = 4.5  # the gateway asks the API, for 4 s at most, and that asks the stores
_PATIENCE_S = 10.0  # what is not there by then is named
_DISK_CHECK_S = 10.0
_ALARM_EVERY_S = 60.0
_NICE = 10  # of services that are not live

# All must be over 5 s after Ctrl-C. Seconds from it until what is left of a group is killed: the gateway ends first, so
# that every live stream gets its marker on the log, and the log last.
_GATEWAY_END_S = 3.4
_SERVICES_END_S = 4.2
_SERVERS_TAKE_S = 0.7  # from when they are asked: SeaweedFS dawdles for 2 s, and all of them survive a kill
# The log saves itself, and the gateway marks its live streams.
_LAST_WORDS = frozenset({"gateway", log.NAME, "log-front"})
_USERS_MISTAKE = 2  # the exit code of a service that its settings keep from running
_LOG_END_S = 30.0  # never killed while it saves: that would lose what nobody else has


class StackError(UserError):
    """The stack cannot be started; the message is one sentence that says why."""


class ServiceRefusedError(SettingsError):
    """A service cannot run with such settings; the message names it and says why."""


class Stack:
    """A stack over `settings.data_dir`.

    say: is told, one line at a time, what a user should know; called from several threads.
    services: names and commands of what to run besides the servers; by default every service there is.
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
        self._services = services if services is not None else _all_services()
        self._policy = policy
        self._data: DataDir | None = None
        self._supervisor: Supervisor | None = None
        self._servers: list[Server] = []
        self._stopping = threading.Event()
        self._refusal: str | None = None
        self._hurry = threading.Event()

    def start(self) -> None:
        """Takes the data directory, starts the servers, makes topics and bucket, starts the services.

        Afterwards `settings` are those of the running stack, addresses included. What was started is ended if this
        fails. Raises StackError, DataDirError, MissingExtraError, LogUnavailableError, and SettingsError for what could
        never run.
        """
        self._data = DataDir(self.settings.data_dir)
        try:
            self._start(self._data)
        except BaseException:
            self.force_stop()
            self.stop()
            raise

    def wait_ready(self, timeout_s: float = _SERVICES_START_S) -> None:
        """Returns once everything is there that a call needs (the gateway's `/readyz` is 200). Says what is waited for
        where that takes long. Raises StackError after `timeout_s`, ServiceRefusedError as soon as a service cannot run.
        """
        gateway = self.settings.gateway
        began = time.monotonic()
        said = ""
        while missing := _missing(_reachable(gateway.host), gateway.port):
            waited_s = time.monotonic() - began
            what = "; ".join(f"{name} ({why})" for name, why in sorted(missing.items()))
            if self._stopping.is_set():
                self._raise_if_unsupported()
                raise StackError("stopped before it was ready")
            if waited_s > timeout_s:
                raise StackError(
                    f"not ready after {timeout_s:g} s, for want of {what}: see `audiotext doctor`, and the logs in "
                    f"{self._log_dir}"
                )
            if waited_s > _PATIENCE_S and what != said:
                self._say(f"waiting for {what}")
                said = what
            time.sleep(0.05)
        self._raise_if_unsupported()

    def wait(self) -> None:
        """Returns once the stack is to end: after `give_up`. Raises ServiceRefusedError if a service cannot run."""
        self._stopping.wait()
        self._raise_if_unsupported()

    @property
    def embedded(self) -> list[str]:
        """Names of the servers that are embedded, once started."""
        return [server.name for server in self._servers]

    def status(self) -> dict[str, Status]:
        """How each server and service fares, by name."""
        return self._supervisor.status() if self._supervisor else {}

    def cancel(self) -> None:
        """Makes `start` or `wait_ready`, under way in another thread or below a signal handler, raise StackError."""
        self._stopping.set()

    def force_stop(self) -> None:
        """Makes `stop`, also one under way, kill what it would wait for; only the log still saves itself."""
        self._hurry.set()

    def stop(self) -> None:
        """Ends everything, in the order in which nothing is lost. Safe to call twice."""
        self._stopping.set()
        supervisor, self._supervisor = self._supervisor, None
        if supervisor:
            began = time.monotonic()
            supervisor.stop(["gateway"], partial(self._left, began + _GATEWAY_END_S))
            services = [name for name in self._services if name != "gateway"]
            supervisor.stop(services, partial(self._left, began + _SERVICES_END_S))
            servers = [name for name in self.embedded if name != log.NAME]
            supervisor.stop(servers, partial(self._left, time.monotonic() + _SERVERS_TAKE_S))
            supervisor.stop([log.NAME], lambda: began + _LOG_END_S - time.monotonic())
            supervisor.close()
        if self._data:
            self._data.release()
            self._data = None

    @property
    def _log_dir(self) -> Path:
        return self.settings.data_dir.absolute() / "logs"

    def _refused(self, why: str) -> None:
        self._refusal = why
        self._stopping.set()

    def _raise_if_unsupported(self) -> None:
        if self._refusal is not None:
            raise ServiceRefusedError(self._refusal)

    def _left(self, deadline: float) -> float:
        return 0.0 if self._hurry.is_set() else deadline - time.monotonic()

    def _start(self, data: DataDir) -> None:
        validate_startup(self.settings, self._services)
        state = State(data.path)
        self._servers = _servers(self.settings, state)
        self.settings = self._with_addresses(state)
        supervisor = Supervisor(
            self._log_dir, self._say, policy=self._policy, keep_open=(data.lock_fd,), refused=self._refused
        )
        self._supervisor = supervisor
        supervisor.start(
            Program(
                server.name,
                server.command,
                dict(os.environ) | dict(server.env),
                server.cwd,
                orphaned=_when_orphaned(server.name),
            )
            for server in self._servers
        )
        for server in self._servers:
            self._wait_for(server, supervisor)
        self._prepare()
        data.publish(RunningStack(variables(self.settings), self.embedded))
        env = child_environment(os.environ, self.settings)
        supervisor.start(
            Program(
                name,
                command,
                env | self._metrics_port(name),
                nice=0 if name in LIVE else _NICE,
                orphaned=_when_orphaned(name),
                refuses=_USERS_MISTAKE,
            )
            for name, command in self._services.items()
        )
        threading.Thread(target=self._watch_disk, args=(data,), name="disk", daemon=True).start()

    def _with_addresses(self, state: State) -> Settings:
        """The settings with every address filled in."""
        addresses = {name: value for server in self._servers for name, value in server.addresses.items()}
        api = self.settings.api
        if "port" not in api.model_fields_set:  # nobody but the gateway talks to it: any port will do
            api = api.model_copy(update={"port": state.port("api", api.port)})
        session_secret = self.settings.api.session_secret or SecretStr(state.secret("sessions"))
        api = api.model_copy(update={"session_secret": session_secret, "watched": self._watched(state, api)})
        # Made up once and kept, so that a token given out before a restart is good after it.
        secret = self.settings.gateway.stream_token_secret or SecretStr(state.secret("stream-tokens"))
        api_url = f"http://{_reachable(api.host)}:{api.port}"
        gateway = self.settings.gateway.model_copy(update={"api_url": api_url, "stream_token_secret": secret})
        settings = self.settings.model_copy(update={"data_dir": state.data_dir, "api": api, "gateway": gateway})
        if "AUDIOTEXT_KAFKA__BOOTSTRAP_SERVERS" in addresses:
            # The embedded log never expires a dead member; one that comes back under the same name is let in at once.
            addresses["AUDIOTEXT_KAFKA__INSTANCE_ID"] = settings.kafka.instance_id or "embedded"
        return _with_variables(settings, addresses)

    def _watched(self, state: State, api: ApiSettings) -> dict[str, str]:
        """Where each service says how it fares. Ports are consecutive from the configured one, else any."""
        gateway, metrics = self.settings.gateway, self.settings.metrics
        ports = {"gateway": (gateway.host, gateway.port), "api": (api.host, api.port)}
        for number, name in enumerate(WITH_METRICS_PORT):
            port = metrics.port + number if metrics.port is not None else state.port(f"metrics-{name}")
            ports[name] = (metrics.host, port)
        return {
            name: f"http://{_reachable(host)}:{port}" for name, (host, port) in ports.items() if name in self._services
        }

    def _metrics_port(self, service: str) -> dict[str, str]:
        """The variable with the service's own port for its metrics."""
        if service not in WITH_METRICS_PORT or service not in self.settings.api.watched:
            return {}
        return {"AUDIOTEXT_METRICS__PORT": self.settings.api.watched[service].rpartition(":")[2]}

    def _wait_for(self, server: Server, supervisor: Supervisor) -> None:
        def alive() -> bool:
            return not supervisor.status()[server.name].hopeless and not self._stopping.is_set()

        try:
            wait_until_it_answers(server, _SERVER_START_S, alive)
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
                self._say(f"THE DISK IS NEARLY FULL: {free // 1_000_000} MB free for {data.path}; recordings will fail")


def _when_orphaned(name: str) -> signal.Signals:
    """What a child gets when the supervisor was killed. All but these survive a kill by design, while asked to end
    some would wait for others that are ending too (the recorder for the log, for ever), and hold the data directory."""
    return signal.SIGTERM if name in _LAST_WORDS else signal.SIGKILL


def _all_services() -> dict[str, Sequence[str]]:
    return {name: (sys.executable, "-m", "audiotext", "run", name) for name in SERVICES}


def _servers(settings: Settings, state: State) -> list[Server]:
    """What is embedded: whatever has no address."""
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
    """The settings with those of these variables (AUDIOTEXT_SECTION__NAME)."""
    for variable, value in addresses.items():
        section, _, name = variable.removeprefix("AUDIOTEXT_").lower().partition("__")
        old: BaseModel = getattr(settings, section)
        new = type(old).model_validate(old.model_dump() | {name: value})
        settings = settings.model_copy(update={section: new})
    return settings


def _reachable(host: str) -> str:
    """Where this machine reaches a server that listens on `host`."""
    return LOOPBACK if host in ("0.0.0.0", "::", "") else host


def _missing(host: str, port: int) -> dict[str, str]:
    """What the gateway there misses, by part; empty once it is ready."""
    connection = http.client.HTTPConnection(host, port, timeout=_LOOK_S)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        if answer.status == http.HTTPStatus.OK:
            return {}
        return {str(name): str(why) for name, why in json.loads(answer.read())["missing"].items()}
    except (OSError, http.client.HTTPException, ValueError, LookupError, AttributeError):
        return {"the gateway": "it does not answer"}
    finally:
        connection.close()
