"""Addresses of our own HTTP servers: `http://host:port`, or `unix:/path` for a Unix socket."""

import os
from pathlib import Path

import aiohttp

_SCHEME = "unix:"
_LONGEST_PATH = 100  # bytes; the system's limit is 108, with a zero at the end


def unix_address(path: Path) -> str:
    """Returns the address of a server that listens on this Unix socket."""
    return f"{_SCHEME}{path}"


def connector_for(address: str) -> tuple[aiohttp.BaseConnector, str]:
    """Returns a connector for the address, and the beginning of the URLs that reach it. Needs a running event loop."""
    if address.startswith(_SCHEME):
        path = socket_path(Path(address.removeprefix(_SCHEME)))
        return aiohttp.UnixConnector(path, limit=0), "http://localhost"
    return aiohttp.TCPConnector(limit=0), address.rstrip("/")


def socket_path(path: Path) -> str:
    """Returns a path with which this process can use the socket. A long path goes through its open directory."""
    if len(os.fsencode(path)) <= _LONGEST_PATH or not Path("/proc/self/fd").exists():
        return str(path)
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)  # stays open for as long as the process runs
    return f"/proc/self/fd/{directory}/{path.name}"
