"""The services AudioText is made of: each a process of its own that meets the others only on the log."""

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from core.errors import UserError

if TYPE_CHECKING:
    from core.settings import Settings

# In the order they are started. Imported only when run: no service pays for another's libraries.
SERVICES = {
    "gateway": "gateway.app:run",
    "api": "api.app:run",
    "recorder": "pipelines.recorder.app:run",
    "transcriber": "pipelines.transcribe.handler:run",
    "summarizer": "pipelines.summarize.handler:run",
    "embedder": "pipelines.embed.handler:run",
    "usage": "pipelines.billing.ledger:run",
    "analytics": "pipelines.analytics:run",
    "replayer": "pipelines.replay.app:run",
}

# What a call or a user waits for. The others can catch up, so they step back where processors are scarce: no
# transcription may delay audio.
LIVE = frozenset({"gateway", "api", "recorder"})

# The others serve /metrics beside what they are there for. Ports of `audiotext up` are given in this order.
WITH_METRICS_PORT = tuple(name for name in SERVICES if name not in ("gateway", "api"))

# Their consumer groups. The recorder sends no dead letters; the others do, under these names.
STAGES = ("transcribe", "summarize", "embed", "usage", "analytics", "replay", "replay-plan", "erase")
GROUPS = ("recorder", *STAGES)

Run = Callable[["Settings"], None]

# What tells whether a store has been migrated by a newer version, of the stores a service uses.
_STORES = {
    "api": ("sinks.clickhouse.client:refuse_newer", "sinks.qdrant.store:refuse_newer"),
    "embedder": ("sinks.qdrant.store:refuse_newer",),
    "usage": ("sinks.clickhouse.client:refuse_newer",),
    "analytics": ("sinks.clickhouse.client:refuse_newer",),
}


class UnknownServiceError(UserError):
    """There is no service of that name; the message lists those there are."""


def entry_point(name: str) -> Run:
    """The service's `run(settings)`, which blocks until SIGTERM or SIGINT. Raises UnknownServiceError."""
    if name not in SERVICES:
        raise UnknownServiceError(f"no service is called {name!r}; there are {', '.join(SERVICES)}")
    return _named(SERVICES[name])


def refuse_newer_stores(service: str, settings: "Settings") -> None:
    """Raises SchemaTooNewError if a store the service uses has been migrated by a newer version.

    A store that is away does not keep a service from starting: the service waits for it, and asks again then.
    """
    for check in _STORES.get(service, ()):
        _named(check)(settings)


def _named(name: str) -> Run:
    module, _, function = name.partition(":")
    named: Run = getattr(importlib.import_module(module), function)
    return named
