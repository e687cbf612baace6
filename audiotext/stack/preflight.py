"""Checks of `audiotext up` before it starts anything, so that a wrong setting does not cause endless restarts."""

from collections.abc import Container, Iterator
from dataclasses import dataclass

from api.auth.admin_key import require_long_admin_key
from audiotext.embedded.server import port_is_free
from audiotext.stack.services import METRICS_PORT_SERVICES
from core.settings import Settings, SettingsError
from pipelines.providers import registry

_HIGHEST = 65_535


@dataclass(frozen=True, slots=True)
class Port:
    """Port that a service will use. owner: the service; fix: the way to choose another port."""

    owner: str
    host: str
    number: int
    fix: str


def validate_startup(settings: Settings, services: Container[str]) -> None:
    """Raises SettingsError with the fix if a service could not run: an engine's key is missing, or a port is in use."""
    registry.require_settings(settings)
    require_long_admin_key(settings)
    owners: dict[tuple[str, int], str] = {}
    for port in ports(settings, services):
        other = owners.setdefault((port.host, port.number), port.owner)
        if port.number > _HIGHEST:
            reason = f"is higher than {_HIGHEST}"
        elif other != port.owner:
            reason = f"is also the port of {other}"
        elif not port_is_free(port.number, port.host):
            reason = "is in use by another program"
        else:
            continue
        raise SettingsError(f"port {port.number} of {port.owner} {reason}: {port.fix}")


def ports(settings: Settings, services: Container[str]) -> Iterator[Port]:
    """Yields the ports that the settings fix. The stack chooses free ports for the rest."""
    gateway, api, audiosocket, metrics = settings.gateway, settings.api, settings.audiosocket, settings.metrics
    yield Port("the gateway", gateway.host, gateway.port, "choose one with --port")
    if "port" in api.model_fields_set:
        yield Port("the API", api.host, api.port, "set AUDIOTEXT_API__PORT")
    if audiosocket.port is not None:
        yield Port("AudioSocket", audiosocket.host, audiosocket.port, "set AUDIOTEXT_AUDIOSOCKET__PORT")
    if metrics.port is not None:
        fix = f"set AUDIOTEXT_METRICS__PORT to the first of {len(METRICS_PORT_SERVICES)} free ports"
        for number, name in enumerate(METRICS_PORT_SERVICES):
            if name in services:
                yield Port(f"{name}'s metrics", metrics.host, metrics.port + number, fix)
