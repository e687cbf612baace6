"""Check of the admin key at the start."""

from ipaddress import ip_address
from urllib.parse import urlsplit

from core.settings import Settings, SettingsError

_SHORTEST = 16


def require_long_admin_key(settings: Settings) -> None:
    """Raises SettingsError if the admin key is short and other machines can reach the gateway or the API."""
    key = settings.admin_key.get_secret_value().strip() if settings.admin_key else ""
    hosts = [settings.gateway.host, urlsplit(settings.base_url).hostname or ""]
    if settings.api.socket is None:
        hosts.append(settings.api.host)
    if key and len(key) < _SHORTEST and not all(map(_is_loopback, hosts)):
        raise SettingsError(
            f"AUDIOTEXT_ADMIN_KEY has only {len(key)} characters, and other machines can reach this one: use at least "
            f"{_SHORTEST} random characters, e.g. `openssl rand -hex 32`"
        )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
