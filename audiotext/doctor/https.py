"""Check that carriers reach the gateway at the public URL: name, certificate, proxy and media sockets."""

import asyncio
import json
import socket
from urllib.parse import urlsplit

import aiohttp

from core.checks import Check
from core.settings import Settings
from gateway.admission.stream_authorizer import StreamAuthorizer

_NAME = "public URL"
_TIMEOUT = aiohttp.ClientTimeout(total=8, sock_connect=5)
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_ALIVE = {"status": "alive"}
_NO_UPGRADE = 400  # response of the gateway to a request for a media socket that is not an upgrade
_REFUSED = 403


class _ProblemError(Exception):
    """The public URL does not lead to the gateway's media sockets. fix: the way to repair it."""

    def __init__(self, problem: str, fix: str) -> None:
        super().__init__(problem)
        self.fix = fix


async def public_url(settings: Settings) -> Check:
    """Requests /healthz and opens a media socket at the public URL, as a carrier would. No call is made."""
    try:
        return Check(_NAME, True, await _reached(settings))
    except _ProblemError as problem:
        return Check(_NAME, False, str(problem), problem.fix)


async def _reached(settings: Settings) -> str:
    """Returns the parts that work. Raises _ProblemError."""
    _check_setting(settings)
    if settings.public_url is None:
        return "not set: only this machine reaches the gateway"
    url = settings.base_url
    await _resolve(url)
    async with aiohttp.ClientSession(timeout=_TIMEOUT) as client:
        await _check_health(client, url)
        streaming = _streaming_carriers(settings)
        if not streaming:
            return f"{url} leads to a gateway; its media sockets are not checked, because no carrier is configured"
        return f"{url} leads to a gateway; {await _check_socket(client, settings, streaming[0])}"


def _check_setting(settings: Settings) -> None:
    """Raises _ProblemError if the setting cannot be right."""
    if settings.public_url is None:
        if used := _streaming_carriers(settings):
            raise _ProblemError(
                f"not set, but signatures of {', '.join(used)} contain it", "set AUDIOTEXT_PUBLIC_URL=https://your.host"
            )
        return
    url = urlsplit(settings.public_url)
    if url.scheme == "http" and url.hostname not in _LOOPBACK:
        raise _ProblemError(
            f"{settings.public_url}: carriers stream only to wss",
            "put a proxy with TLS in front of the gateway (docs/https.md), and use https",
        )


def _streaming_carriers(settings: Settings) -> list[str]:
    """Returns the carriers in use that connect to the public URL."""
    return [carrier for carrier in settings.carriers_in_use if carrier != "audiosocket"]


async def _resolve(url: str) -> None:
    host = urlsplit(url).hostname or ""
    try:
        await asyncio.get_running_loop().getaddrinfo(host, None)
    except socket.gaierror as error:
        raise _ProblemError(
            f"{host} does not resolve: {error.strerror}",
            "create a DNS record with the address of your proxy, or correct AUDIOTEXT_PUBLIC_URL",
        ) from None


async def _check_health(client: aiohttp.ClientSession, url: str) -> None:
    """Checks that /healthz is the gateway's. Raises _ProblemError."""
    try:
        async with client.get(f"{url}/healthz", allow_redirects=False) as response:
            status, body = response.status, await response.content.read(200)
    except aiohttp.ClientConnectorCertificateError as error:
        reason = getattr(error.certificate_error, "verify_message", "") or str(error.certificate_error)
        raise _ProblemError(
            f"{url}: the certificate is not valid: {reason}",
            "install a certificate of a public authority for this name, with its chain (docs/https.md)",
        ) from None
    except (aiohttp.ClientError, TimeoutError) as error:
        raise _ProblemError(
            f"{url} does not answer: {error or 'timeout'}", "start the proxy; check its port, the firewall and DNS"
        ) from None
    if status in (502, 503, 504):
        raise _ProblemError(
            f"{url}/healthz answers {status}, so the proxy does not reach the gateway",
            "start the gateway; correct the port in the proxy's configuration",
        )
    if status != 200 or not _is_alive(body):
        raise _ProblemError(
            f"{url}/healthz answers {status}, but not with the gateway's answer",
            "let the proxy forward all paths to the gateway, without redirects and sign-in pages (docs/https.md)",
        )


def _is_alive(body: bytes) -> bool:
    try:
        return bool(json.loads(body) == _ALIVE)
    except ValueError:
        return False


async def _check_socket(client: aiohttp.ClientSession, settings: Settings, carrier: str) -> str:
    """Opens and closes a media socket with a stream token of our own. Returns the result. Raises _ProblemError.

    Without the secret of the stream tokens, the gateway must refuse the socket.
    """
    token = StreamAuthorizer(settings).issue(getattr(settings, carrier).tenant, carrier, call_id="")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    address = f"{settings.base_url}/v1/media/{carrier}"
    try:
        async with client.ws_connect(address, headers=headers):
            return "media sockets open"
    except aiohttp.WSServerHandshakeError as error:
        if error.status == _REFUSED and not token:
            return (
                "it refuses a media socket without a token; with AUDIOTEXT_GATEWAY__STREAM_TOKEN_SECRET this check "
                "opens one"
            )
        raise _refused(address, error.status) from None
    except (aiohttp.ClientError, TimeoutError) as error:
        raise _ProblemError(f"{address}: {error or 'timeout'}", "check the proxy's log") from None


def _refused(address: str, status: int) -> _ProblemError:
    """Returns the problem with a media socket that was answered with this status."""
    if status == _NO_UPGRADE:
        return _ProblemError(
            f"{address}: the proxy removes the headers Upgrade and Connection",
            "let the proxy forward WebSockets (docs/https.md)",
        )
    if status == _REFUSED:
        return _ProblemError(
            f"{address} refuses our stream token",
            "let the public URL lead to the gateway of this installation; several gateways need the same "
            "AUDIOTEXT_GATEWAY__STREAM_TOKEN_SECRET",
        )
    return _ProblemError(
        f"{address} answers {status} instead of opening a WebSocket",
        "let the proxy forward /v1/media/ to the gateway (docs/https.md)",
    )
