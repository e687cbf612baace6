"""Persistent state of an embedded stack: its ports, so that addresses stay the same, and its secrets."""

import json
import os
import random
import secrets
from pathlib import Path
from typing import TypedDict

from audiotext.embedded.server import port_is_free

_FILE = "stack.json"
# Below the range of ports for outgoing connections, which could take one of these ports between two runs.
_PORTS = range(20_000, 32_000)


class _Content(TypedDict):
    ports: dict[str, int]
    secrets: dict[str, str]


class State:
    """Ports and secrets by name, stored in the data directory in a file that only its owner can read."""

    def __init__(self, data_dir: Path) -> None:
        """Reads the directory's file if it exists. Raises OSError, or ValueError if the file is damaged."""
        self.data_dir = data_dir
        self._path = data_dir / _FILE
        self._content: _Content = {"ports": {}, "secrets": {}}
        if self._path.exists():
            self._content = json.loads(self._path.read_text())
        self._given: set[int] = set()

    def port(self, name: str, preferred: int | None = None) -> int:
        """Returns the port of that name: the previous run's if it is free, else the preferred one, else any."""
        for port in (self._content["ports"].get(name), preferred):
            if port and port not in self._given and port_is_free(port):
                break
        else:
            port = self._random_port()
        self._given.add(port)
        if self._content["ports"].get(name) != port:
            self._content["ports"][name] = port
            self._save()
        return port

    def secret(self, name: str) -> str:
        """Returns the secret of that name, 32 URL-safe characters; the first call generates it."""
        if name not in self._content["secrets"]:
            self._content["secrets"][name] = secrets.token_urlsafe(24)
            self._save()
        return self._content["secrets"][name]

    def _random_port(self) -> int:
        while True:
            port = random.choice(_PORTS)
            if port not in self._given and port_is_free(port):
                return port

    def _save(self) -> None:
        write_private(self._path, json.dumps(self._content, indent=1, sort_keys=True))


def write_private(path: Path, text: str) -> None:
    """Replaces the file atomically (a reader sees the old or the new text), readable by its owner only."""
    partial = path.with_name(path.name + ".partial")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
