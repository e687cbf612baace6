"""The services AudioText is made of: each a process of its own that meets the others only on the log."""

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from audiotext.errors import UserError

if TYPE_CHECKING:
    from audiotext.settings import Settings

# In the order they are started. Imported only when run: no service pays for another's libraries.
SERVICES = {
    "gateway": "gateway.app:run",
    "api": "gateway.api.app:run",
    "recorder": "pipelines.recorder.app:run",
    "transcriber": "pipelines.transcriber:run",
    "summarizer": "pipelines.summarizer:run",
    "embedder": "pipelines.embedder:run",
    "usage": "pipelines.usage:run",
    "analytics": "pipelines.analytics:run",
    "replayer": "pipelines.replay.app:run",
}

# What a call or a user waits for. The others can catch up, so they step back where processors are scarce: no
# transcription may delay audio.
LIVE = frozenset({"gateway", "api", "recorder"})

# The others serve /metrics beside what they are there for. Ports of `audiotext up` are given in this order.
WITH_METRICS_PORT = tuple(name for name in SERVICES if name not in ("gateway", "api"))

Run = Callable[["Settings"], None]


class UnknownServiceError(UserError):
    """There is no service of that name; the message lists those there are."""


def entry_point(name: str) -> Run:
    """The service's `run(settings)`, which blocks until SIGTERM or SIGINT. Raises UnknownServiceError."""
    if name not in SERVICES:
        raise UnknownServiceError(f"no service is called {name!r}; there are {', '.join(SERVICES)}")
    module, _, function = SERVICES[name].partition(":")
    run: Run = getattr(importlib.import_module(module), function)
    return run
