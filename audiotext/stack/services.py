"""List of AudioText's services. Each is a process of its own and communicates with the others only through the log.

The services that process the log come from the table of stages (pipelines/stages.py). The gateway and the API are
described here.
"""

import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from core.errors import UserError
from pipelines.stages import STAGES, StageSpec, Store

if TYPE_CHECKING:
    from core.settings import Settings

Run = Callable[["Settings"], None]


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    """A service, and what the stack and the deployment must know about it.

    Attributes:
        name: Name of the service, for example in `audiotext run`.
        run: Function `run(settings)` of the service, written as "module:function".
        settings: Settings that the service reads, besides those of its stores and engines: a section, a field
            `section.field`, or a field without section.
        stores: Stores that the service uses. Each is also a section of the settings.
        engines: Sections of the settings that select an engine that the service creates. The sections of all providers
            of this engine belong to the service as well.
        carriers: True if the service reads the sections of all carriers.
        latency_critical: True if a call or a user waits for the service. The others can catch up, so they run with a
            lower priority: a transcription must not delay audio.
        own_port: True if the service serves /metrics and /healthz on the port of its own HTTP server. The others need
            a separate port.
    """

    name: str
    run: str
    settings: frozenset[str]
    stores: frozenset[Store] = frozenset()
    engines: frozenset[str] = frozenset()
    carriers: bool = False
    latency_critical: bool = False
    own_port: bool = False


_COMMON = frozenset({"data_dir", "log_level", "log_format", "kafka"})
_ENGINES = frozenset({"stt", "summary", "embedding"})

_GATEWAY = ServiceSpec(
    name="gateway",
    run="gateway.app:run",
    # Soniox sends its callbacks to the gateway, which verifies their secret.
    settings=_COMMON | {"public_url", "gateway", "recorder", "soniox.webhook_secret"},
    carriers=True,
    latency_critical=True,
    own_port=True,
)
_API = ServiceSpec(
    name="api",
    run="api.app:run",
    # The port of the gateway is part of the default of `public_url`. The engines embed queries and estimate replays.
    settings=_COMMON
    | {"api", "kratos", "admin_key", "public_url", "gateway.port", "pricing", "replay"}
    | {"gateway.host", "gateway.trusted_proxies"},
    stores=frozenset({"s3", "clickhouse", "qdrant"}),
    engines=_ENGINES,
    latency_critical=True,
    own_port=True,
)


def _pipeline_service(name: str, stages: Iterable[StageSpec]) -> ServiceSpec:
    """Returns the service that runs these stages."""
    specs = list(stages)
    settings = frozenset(setting for spec in specs for setting in spec.settings)
    engines = {spec.engine for spec in specs if spec.engine} | (settings & _ENGINES)
    return ServiceSpec(
        name=name,
        run=specs[0].run,
        settings=_COMMON | (settings - _ENGINES) | {"metrics"},
        stores=frozenset(store for spec in specs for store in spec.stores),
        engines=frozenset(engines),
        latency_critical=any(spec.latency_critical for spec in specs),
    )


# In start order.
SERVICES: Mapping[str, ServiceSpec] = {
    spec.name: spec
    for spec in (
        _GATEWAY,
        _API,
        *(_pipeline_service(name, stages) for name, stages in groupby(STAGES, lambda stage: stage.service)),
    )
}

# Services that need a separate port for /metrics. `audiotext up` assigns the ports in this order.
METRICS_PORT_SERVICES = tuple(spec.name for spec in SERVICES.values() if not spec.own_port)

# Consumer groups. Each writes dead letters under its name.
GROUPS = tuple(spec.group for spec in STAGES)

# For each store with a schema, the function that checks that no newer version has migrated it.
_SCHEMA_CHECKS: Mapping[Store, str] = {
    "clickhouse": "sinks.clickhouse.client:require_known_schema",
    "qdrant": "sinks.qdrant.store:require_known_schema",
}


class UnknownServiceError(UserError):
    """The service's name is unknown; the message lists the valid names."""


def entry_point(name: str) -> Run:
    """Returns the service's `run(settings)`, which blocks until SIGTERM or SIGINT. Raises UnknownServiceError.

    The service's module is imported here and not earlier, so that no process loads another's libraries.
    """
    if name not in SERVICES:
        raise UnknownServiceError(f"unknown service {name!r}: choose one of {', '.join(SERVICES)}")
    return _import(SERVICES[name].run)


def refuse_newer_stores(service: str, settings: "Settings") -> None:
    """Raises SchemaTooNewError if a newer version has migrated a store of the service.

    An unavailable store does not prevent the start: the service waits for the store and checks again then.
    """
    for store, check in _SCHEMA_CHECKS.items():
        if store in SERVICES[service].stores:
            _import(check)(settings)


def needed_settings(service: str) -> frozenset[str]:
    """Returns the settings that the service's process receives.

    Each is a section, a field `section.field`, or a field without section. A process must not hold a secret that it
    does not use.
    """
    spec = SERVICES[service]
    carriers = _carrier_sections() if spec.carriers else frozenset()
    return spec.settings | spec.stores | spec.engines | _provider_sections(spec.engines) | carriers


def secret_variables(service: str) -> frozenset[str]:
    """Returns the environment variables that contain the service's passwords, keys and tokens."""
    from core.settings import secret_names  # noqa: PLC0415 - `audiotext --help` must not load the settings

    needed = needed_settings(service)
    return frozenset(variable for variable in secret_names() if _is_needed(variable, needed))


def _is_needed(variable: str, needed: frozenset[str]) -> bool:
    section, _, field = variable.removeprefix("AUDIOTEXT_").lower().partition("__")
    return section in needed or f"{section}.{field}" in needed


def _carrier_sections() -> frozenset[str]:
    from core.settings import carrier_sections  # noqa: PLC0415 - see above

    return carrier_sections()


def _provider_sections(engines: Iterable[str]) -> frozenset[str]:
    """Returns the settings sections of all providers of these engines."""
    from pipelines.providers.registry import provider_sections  # noqa: PLC0415 - see above

    return frozenset(section for engine in engines for section in provider_sections(engine))


def _import(name: str) -> Run:
    module, _, function = name.partition(":")
    named: Run = getattr(importlib.import_module(module), function)
    return named
