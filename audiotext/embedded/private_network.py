"""Private network of the embedded log: programs in it reach each other, and nobody else reaches them.

The log (noida-db) has no authentication, so its port must not be open to other users of the machine. It runs in a
network namespace of Linux, whose loopback interface only processes in the same namespace reach. Only root and the owner
of the namespace can enter it. Creating one needs no privilege, but some systems forbid it (containers without
privileges, Ubuntu's AppArmor); then there is no private network.

Run as a script, this module enters a network and replaces itself with a program (`PrivateNetwork.command`). It imports
only the standard library, so that this takes a few milliseconds.
"""

import ctypes
import fcntl
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO

_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000
_SIOCGIFFLAGS, _SIOCSIFFLAGS = 0x8913, 0x8914
_IFF_UP = 1
_INTERFACE = struct.Struct("16sH14x")  # name and flags of an interface (struct ifreq)


class PrivateNetwork:
    """A network namespace. It exists while this object or a process in it exists.

    descriptors: file descriptors that a program must inherit to enter the network.
    """

    def __init__(self, namespaces: Sequence[IO[bytes]]) -> None:
        self._namespaces = namespaces

    @classmethod
    def create(cls) -> "PrivateNetwork | None":
        """Returns a new network, or None if this system does not allow it."""
        if sys.platform != "linux":
            return None
        user, group = os.geteuid(), os.getegid()
        libc = ctypes.CDLL(None, use_errno=True)  # loaded here, because few operations are safe in the forked child
        try:
            # A child creates the namespaces. They stay when it ends, because this process has opened them.
            child = subprocess.Popen(
                (sys.executable, "-I", "-S", "-c", "input()"),
                stdin=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                preexec_fn=lambda: _create_namespaces(libc, user, group),  # noqa: PLW1509 - system calls only
            )
        except (OSError, subprocess.SubprocessError):
            return None
        try:
            names = [name for name in ("user", "net") if _is_new_namespace(child.pid, name)]
            return cls([open(f"/proc/{child.pid}/ns/{name}", "rb", buffering=0) for name in names])
        finally:
            child.kill()
            child.communicate()

    @property
    def descriptors(self) -> tuple[int, ...]:
        """File descriptors that a program must inherit to enter the network."""
        return tuple(namespace.fileno() for namespace in self._namespaces)

    def command(self, command: Sequence[str]) -> tuple[str, ...]:
        """Returns a command that enters the network and then runs the given one in the same process."""
        numbers = ",".join(str(number) for number in self.descriptors)
        return (sys.executable, "-I", "-S", str(Path(__file__)), numbers, *command)


def enter(descriptors: Sequence[int]) -> None:
    """Moves this process into a network, and closes the descriptors. It must have no other thread. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    for descriptor in descriptors:
        if libc.setns(descriptor, 0) != 0:
            raise OSError(ctypes.get_errno(), "the private network cannot be entered")
        os.close(descriptor)


def _create_namespaces(libc: ctypes.CDLL, user: int, group: int) -> None:
    """Creates the namespaces of this process and activates the loopback interface. Raises OSError."""
    if libc.unshare(_CLONE_NEWNET) != 0:  # works for root; other users need a user namespace for it
        if libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "no network namespace")
        for file, content in (
            ("uid_map", f"{user} {user} 1"),
            ("setgroups", "deny"),
            ("gid_map", f"{group} {group} 1"),
        ):
            with open(f"/proc/self/{file}", "w") as written:
                written.write(content)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        state = fcntl.ioctl(control, _SIOCGIFFLAGS, _INTERFACE.pack(b"lo", 0))
        _, flags = _INTERFACE.unpack(state)
        fcntl.ioctl(control, _SIOCSIFFLAGS, _INTERFACE.pack(b"lo", flags | _IFF_UP))


def _is_new_namespace(pid: int, name: str) -> bool:
    return os.readlink(f"/proc/{pid}/ns/{name}") != os.readlink(f"/proc/self/ns/{name}")


if __name__ == "__main__":
    enter([int(number) for number in sys.argv[1].split(",")])
    os.execv(sys.argv[2], sys.argv[2:])
