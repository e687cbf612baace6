"""The stack under attack: its processes by name, and the faults that can be caused."""

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from audiotext.embedded import kafka
from audiotext.embedded.server import Server, wait_until_ready
from audiotext.embedded.state import State
from audiotext.stack.datadir import running_stack
from core import process
from tests.chaos.faults import FRONT, PROVIDER, SERVICES, STORES, SUPERVISOR, Action, Card
from tests.chaos.provider import Provider
from tests.support.up_process import UpProcess

LOGS = {"embedded": 0, "kafka": 1, "kafka-cluster": 3}  # brokers of each lane

IDLE_S = 12.0  # a call that says nothing for so long is closed: longer than any pause here

SESSION_S = 6  # a consumer that does not answer a real broker for so long is thrown out

_DISK_MB = 192  # of the recorder: most of it is what RocksDB sets aside for itself
_BOOTSTRAP = "AUDIOTEXT_KAFKA__BOOTSTRAP_SERVERS"
# A word of each server's command line, and the variable that holds its address.
_WORDS = {"clickhouse": "audiotext.embedded.clickhouse_shim", "qdrant": "audiotext.embedded.qdrant_shim"}
_WORDS[FRONT] = "audiotext.embedded.kafka_longpoll_proxy"
_ADDRESSES = {
    "objects": "AUDIOTEXT_S3__ENDPOINT",
    "clickhouse": "AUDIOTEXT_CLICKHOUSE__DSN",
    "qdrant": "AUDIOTEXT_QDRANT__URL",
    FRONT: _BOOTSTRAP,
}


class Broker:
    """A node of Apache Kafka that can be started again on its data."""

    def __init__(self, server: Server, log: Path) -> None:
        self.server = server
        self._log = log
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it without waiting. It ends with the calling thread."""
        with self._log.open("ab") as output:
            env = os.environ | dict(self.server.env)
            self.process = process.spawn(self.server.command, env=env, output=output, cwd=self.server.cwd)

    @property
    def port(self) -> int:
        """Returns its port."""
        properties = Path(self.server.command[-1]).read_text()
        listeners = next(line for line in properties.splitlines() if line.startswith("listeners="))
        return int(listeners.split(",")[0].rpartition(":")[2])


class Target:
    """`audiotext up` on `directory`, with one kind of log ("embedded", "kafka", "kafka-cluster")."""

    def __init__(self, directory: Path, log: str) -> None:
        self._directory = directory
        self._nodes = LOGS[log]
        self._brokers: dict[str, Broker] = {}
        self._disk = directory / "data" / "recorder"
        self._stopped: dict[str, list[int]] = {}
        self._restarting = False
        self._addresses: dict[str, str] = {}
        self.disk = False
        self.provider = Provider()
        self.up = UpProcess(directory / "data")

    @property
    def brokers(self) -> Sequence[str]:
        """Returns the names of the nodes of the log; empty for the embedded log."""
        return list(self._brokers)

    @property
    def spool(self) -> Path:
        """Returns the folder of the recorder for recordings that are not uploaded."""
        return self._disk / "spool"

    def start(self) -> None:
        """Starts the log and the stack, and returns when calls are accepted."""
        environment = {
            "AUDIOTEXT_RECORDER__IDLE_TIMEOUT_MS": str(round(IDLE_S * 1000)),
            # Faults come much faster than in life, so must the attempts: an hour of patience in a minute.
            "AUDIOTEXT_RETRY__DELAYS_S": "[1, 2, 3, 5, 5, 5, 5, 5, 5, 5, 5, 5]",
            "AUDIOTEXT_RETRY__OUTAGE_PAUSE_S": "1",
        } | self.provider.environment
        if self._nodes:
            environment |= self._start_brokers()
        self._mount()
        self.up = UpProcess(self._directory / "data", environment)
        self.up.start(120)
        stack = running_stack(self.up.data_dir)
        assert stack is not None
        self._addresses = stack.environment  # they stay the same over restarts
        for name in (*SERVICES, *STORES, *(self.brokers or [FRONT])):
            assert len(self.pids(name)) == 1, f"{name} cannot be told from the others by its command line"

    def stop(self) -> None:
        """Stops everything and unmounts the disk of the recorder."""
        self.heal()
        if self.up.running:
            self.up.stop()
        for broker in self._brokers.values():
            if broker.process is not None:
                process.end(broker.process, 20)
        self.provider.stop()
        if self.disk:
            shutil.copytree(self._disk, self._directory / "recorder", dirs_exist_ok=True)
            subprocess.run(["umount", "--lazy", str(self._disk)], check=True)
            self.disk = False

    def begin(self, card: Card) -> str:
        """Begins a fault. Returns its target, or "" if the target was down already."""
        if card.target == SUPERVISOR:
            return self._restart()
        if card.target == PROVIDER:
            return self.provider.begin(card.action)
        if self._restarting:
            return ""
        does: dict[Action, Callable[[str], str]] = {
            Action.KILL: partial(self._send, number=signal.SIGKILL),
            Action.END: partial(self._send, number=signal.SIGTERM),
            Action.PAUSE: partial(self._send, number=signal.SIGSTOP),
            Action.CUT: self._cut,
            Action.FILL: self._fill,
            Action.LOSE: self._lose,
        }
        return does[card.action](card.target)

    def end(self, card: Card) -> None:
        """Ends the fault."""
        if card.target == PROVIDER:
            self.provider.end()
        elif card.action is Action.PAUSE:
            self._resume(card.target)
        elif card.action is Action.FILL:
            self._ballast.unlink(missing_ok=True)
        elif card.action is Action.KILL and card.target in self._brokers:
            self._brokers[card.target].start()

    def heal(self) -> None:
        """Ends every pause, full disk and outage."""
        self.provider.end()
        for name in list(self._stopped):
            self._resume(name)
        self._ballast.unlink(missing_ok=True)
        for broker in self._brokers.values():
            if broker.process is not None and broker.process.poll() is not None:
                broker.start()

    def pids(self, name: str) -> list[int]:
        """Returns the process ids of a service, a server or a broker."""
        if name in self._brokers:
            running = self._brokers[name].process
            return [running.pid] if running is not None and running.poll() is None else []
        if name == "objects":
            return [pid for pid in self.up.pids("mini") if b"weed" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        return self.up.pids(_WORDS.get(name, name))

    @property
    def _ballast(self) -> Path:
        return self._disk / "ballast"

    def _start_brokers(self) -> dict[str, str]:
        folder = self._directory / "log"
        folder.mkdir()
        for server in kafka.servers(State(folder), nodes=self._nodes):
            broker = self._brokers[server.name] = Broker(server, folder / f"{server.name}.log")
            broker.start()
        for broker in self._brokers.values():
            wait_until_ready(broker.server, 90)
        bootstrap = next(iter(self._brokers.values())).server.addresses[_BOOTSTRAP]
        return {
            _BOOTSTRAP: bootstrap,
            "AUDIOTEXT_KAFKA__PARTITIONS": "2",
            "AUDIOTEXT_KAFKA__REPLICATION_FACTOR": str(self._nodes),
            "AUDIOTEXT_KAFKA__SESSION_TIMEOUT_MS": str(SESSION_S * 1000),
        }

    def _mount(self) -> None:
        self._disk.mkdir(parents=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={_DISK_MB}m,mode=700", "audiotext-chaos", str(self._disk)]
        with contextlib.suppress(OSError):
            self.disk = subprocess.run(command, capture_output=True, check=False).returncode == 0

    def _restart(self) -> str:
        """Kills the supervisor. The kernel ends its children, and a new supervisor waits for them."""
        self._restarting = True
        self.up.kill()
        self.up.start(120)
        self._restarting = False
        return "started again"

    def _lose(self, name: str) -> str:
        """Kills the recorder and deletes its files. The supervisor restarts it later than the deletion takes."""
        hit = self._send(name, signal.SIGKILL)
        if hit:
            for entry in self._disk.iterdir():
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        return hit

    def _send(self, name: str, number: signal.Signals) -> str:
        hit = []
        for pid in self.pids(name):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
                hit.append(pid)
        if number == signal.SIGSTOP:
            self._stopped[name] = hit
        return " ".join(map(str, hit))

    def _resume(self, name: str) -> None:
        for pid in self._stopped.pop(name, ()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def _cut(self, name: str) -> str:
        if name in self._brokers:
            port: int | None = self._brokers[name].port
        else:
            port = urlsplit(_url(self._addresses[_ADDRESSES[name]])).port
        command = ["ss", "-K", "-t", "-n", "-H", "dst", "127.0.0.1", "dport", "=", f":{port}"]
        with contextlib.suppress(OSError):
            cut = subprocess.run(command, capture_output=True, text=True, check=False, timeout=5)
            return f"{len(cut.stdout.splitlines())} connections" if cut.stdout.strip() else ""
        return ""

    def _fill(self, _name: str) -> str:
        if not self.disk:
            return ""
        with contextlib.suppress(OSError), self._ballast.open("ab", buffering=0) as file:
            for size in (1 << 20, 1 << 12, 1):
                with contextlib.suppress(OSError):
                    while file.write(bytes(size)):
                        pass
        return f"{self._ballast.stat().st_size >> 20} MB of ballast"


def _url(address: str) -> str:
    return address if "://" in address else f"//{address}"
