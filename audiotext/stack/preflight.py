"""What `audiotext up` looks at before it starts anything: what can never run must not be started again and again."""

from collections.abc import Container, Iterator
from dataclasses import dataclass

from audiotext.embedded.server import port_is_free
from audiotext.stack.services import WITH_METRICS_PORT
from core.settings import Settings, SettingsError
from pipelines.providers import registry

_HIGHEST = 65_535


@dataclass(frozen=True, slots=True)
class Port:
    """A port that will be listened on. owner: what for; cure: how to choose another."""

    owner: str
    host: str
    number: int
    cure: str


def validate_startup(settings: Settings, services: Container[str]) -> None:
    """Raises SettingsError, with the cure, if one of the services could not run: an engine lacks its key, or a port is
    taken."""
    registry.refuse_incomplete(settings)
    owners: dict[tuple[str, int], str] = {}
    for port in ports(settings, services):
        other = owners.setdefault((port.host, port.number), port.owner)
        if port.number > _HIGHEST:
            why = f"would be higher than {_HIGHEST}"
        elif other != port.owner:
            why = f"is that of {other}, too"
        elif not port_is_free(port.number, port.host):
            why = "is taken by another program"
        else:
            continue
        raise SettingsError(f"port {port.number} of {port.owner} {why}: {port.cure}")


def ports(settings: Settings, services: Container[str]) -> Iterator[Port]:
    """The ports that are settled: those that nobody chose go where there is room."""
    gateway, api, audiosocket, metrics = settings.gateway, settings.api, settings.audiosocket, settings.metrics
    yield Port("the gateway", gateway.host, gateway.port, "choose one with --port")
    if "port" in api.model_fields_set:
        yield Port("the API", api.host, api.port, "set AUDIOTEXT_API__PORT")
    if audiosocket.port is not None:
        yield Port("AudioSocket", audiosocket.host, audiosocket.port, "set AUDIOTEXT_AUDIOSOCKET__PORT")
    if metrics.port is not None:
        cure = f"set AUDIOTEXT_METRICS__PORT to the first of {len(WITH_METRICS_PORT)} that are free"
        for number, name in enumerate(WITH_METRICS_PORT):
            if name in services:
                yield Port(f"{name}'s metrics", metrics.host, metrics.port + number, cure)
