"""List of AudioText's services. Each is a process of its own and communicates with the others only through the log."""

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from core.errors import UserError

if TYPE_CHECKING:
    from core.settings import Settings

# In start order. A service's module is imported only when it runs, so that no process loads another's libraries.
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

# Services that a call or a user waits for. The others can catch up, so they run with a lower priority: a transcription
# must not delay audio.
LATENCY_CRITICAL = frozenset({"gateway", "api", "recorder"})

# Services that need a separate port for /metrics. `audiotext up` assigns the ports in this order.
METRICS_PORT_SERVICES = tuple(name for name in SERVICES if name not in ("gateway", "api"))

# Consumer groups. The recorder writes no dead letters; the other groups do, under these names.
STAGES = ("transcribe", "summarize", "embed", "usage", "analytics", "replay", "replay-plan", "erase")
GROUPS = ("recorder", *STAGES)

# Settings that each service's process receives: sections, single settings of a section (`section.name`), and settings
# outside of sections. A process must not hold a secret that it does not use.
_ALL_SERVICES_NEED = ("data_dir", "log_level", "kafka", "metrics")
_BASE_URL = ("public_url", "gateway.port")
_STAGE = (*_ALL_SERVICES_NEED, "retry", "s3", "pricing")
_ENGINES = ("stt", "summary", "embedding", "soniox", "openai", "gemini", *_BASE_URL)
_CARRIERS = ("twilio", "telnyx", "signalwire", "plivo", "exotel", "vonage", "jambonz", "audiosocket")
NEEDED_SETTINGS = {
    "gateway": (*_ALL_SERVICES_NEED, "public_url", "gateway", *_CARRIERS, "soniox.webhook_secret", "recorder"),
    "api": (
        *(*_ALL_SERVICES_NEED, "admin_key", "api", "kratos", "s3", "clickhouse", "qdrant", "pricing"),
        *_ENGINES,  # checks a replay's engine before it starts
    ),
    "recorder": (*_ALL_SERVICES_NEED, "s3", "recorder"),
    "transcriber": (*_STAGE, "stt", "soniox", "openai", *_BASE_URL),
    "summarizer": (*_STAGE, "summary", "gemini"),
    "embedder": (*_STAGE, "embedding", "gemini", "qdrant"),
    "usage": (*_ALL_SERVICES_NEED, "clickhouse"),
    "analytics": (*_ALL_SERVICES_NEED, "retry", "s3", "clickhouse"),
    "replayer": (*_STAGE, "clickhouse", "qdrant", "replay", *_ENGINES),
}

Run = Callable[["Settings"], None]

# For each service, the functions that check that no newer version has migrated its stores.
_STORES = {
    "api": ("sinks.clickhouse.client:require_known_schema", "sinks.qdrant.store:require_known_schema"),
    "embedder": ("sinks.qdrant.store:require_known_schema",),
    "usage": ("sinks.clickhouse.client:require_known_schema",),
    "analytics": ("sinks.clickhouse.client:require_known_schema",),
}


class UnknownServiceError(UserError):
    """The service's name is unknown; the message lists the valid names."""


def entry_point(name: str) -> Run:
    """Returns the service's `run(settings)`, which blocks until SIGTERM or SIGINT. Raises UnknownServiceError."""
    if name not in SERVICES:
        raise UnknownServiceError(f"unknown service {name!r}: choose one of {', '.join(SERVICES)}")
    return _import(SERVICES[name])


def refuse_newer_stores(service: str, settings: "Settings") -> None:
    """Raises SchemaTooNewError if a newer version has migrated a store of the service.

    An unavailable store does not prevent the start: the service waits for the store and checks again then.
    """
    for check in _STORES.get(service, ()):
        _import(check)(settings)


def _import(name: str) -> Run:
    module, _, function = name.partition(":")
    named: Run = getattr(importlib.import_module(module), function)
    return named
