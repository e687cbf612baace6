"""What is around the systems: the public URL, the carriers' secrets, the disk and the clock."""

import base64
import binascii
import shutil
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from pydantic import SecretStr

from audiotext.stack.datadir import ALARM_BYTES, NEEDED_BYTES
from core.checks import Check
from core.settings import S3Settings, Settings
from core.tls import client_context

_TIMEOUT_S = 5.0
_SKEW_S = 60.0  # S3 refuses signatures 15 min off; carriers' and our own tokens are stricter
_SHORTEST_SECRET = 16
_LONGER = f"make it {_SHORTEST_SECRET} random ones or more"
_ED25519_BYTES = 32
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
# What lets a carrier in, by its section: one of them set means that its calls are wanted.
_SECRETS = {
    "twilio": ("auth_token", "signing_keys"),
    "telnyx": ("stream_token", "public_key"),
    "signalwire": ("stream_token", "signing_key"),
    "plivo": ("auth_token",),
    "exotel": ("password", "allowed_peers"),
    "vonage": ("signature_secret", "password", "allowed_peers"),
    "jambonz": ("password", "allowed_peers"),
}


def admin_key(settings: Settings) -> Check:
    """Whether the key that sees every tenant can be guessed."""
    name = "admin key"
    if settings.admin_key is None:
        return Check(name, True, "not set: `audiotext keys create` makes keys")
    length = len(settings.admin_key.get_secret_value())
    if length < _SHORTEST_SECRET:
        return Check(name, False, f"AUDIOTEXT_ADMIN_KEY has only {length} characters", _LONGER)
    return Check(name, True, f"{length} characters")


def time_limits(settings: Settings) -> Check:
    """Checks that a recorder which takes over calls from another one hears of them before it closes them as idle."""
    name = "time limits"
    idle_s, session_s = settings.recorder.idle_timeout_ms / 1000, settings.kafka.session_timeout_ms / 1000
    if idle_s < 2 * session_s:
        text = (
            f"AUDIOTEXT_RECORDER__IDLE_TIMEOUT_MS ({idle_s:g} s) is less than twice "
            f"AUDIOTEXT_KAFKA__SESSION_TIMEOUT_MS ({session_s:g} s)"
        )
        return Check(name, False, text, "raise the first: live calls could be cut in two")
    return Check(name, True, f"calls without a gateway are closed after {idle_s:g} s")


def carriers(settings: Settings) -> Check:
    """Which carriers can get in, and whether what lets them in is any good."""
    name = "carriers"
    used = carriers_in_use(settings)
    for problem, cure in _problems(settings):
        return Check(name, False, problem, cure)
    if not used:
        return Check(name, True, "none is configured, so every call is refused: see docs/carriers")
    return Check(name, True, f"let in: {', '.join(used)}")


def carriers_in_use(settings: Settings) -> list[str]:
    """Carriers of which anything is set that lets them in."""
    used = [
        carrier
        for carrier, names in _SECRETS.items()
        if any(getattr(getattr(settings, carrier), name) for name in ("accounts", *names))
    ]
    return used + (["audiosocket"] if settings.audiosocket.port else [])


def _problems(settings: Settings) -> Iterator[tuple[str, str]]:
    for variable, secret in _secrets(settings):
        if len(secret) < _SHORTEST_SECRET:
            yield f"{variable} has only {len(secret)} characters", _LONGER
    key = settings.telnyx.public_key
    if key and _decoded_length(key) != _ED25519_BYTES:
        yield "AUDIOTEXT_TELNYX__PUBLIC_KEY is no Ed25519 key in base64", "copy it anew from Telnyx' portal"
    if settings.audiosocket.port and not settings.audiosocket.allowed_peers:
        yield "AudioSocket listens and nobody may connect", "set AUDIOTEXT_AUDIOSOCKET__ALLOWED_PEERS"


def _secrets(settings: Settings) -> Iterator[tuple[str, str]]:
    for carrier, names in _SECRETS.items():
        for name in names:
            value = getattr(getattr(settings, carrier), name)
            if isinstance(value, SecretStr):
                yield f"AUDIOTEXT_{carrier}__{name}".upper(), value.get_secret_value()


def _decoded_length(text: str) -> int:
    try:
        return len(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError):
        return 0


async def public_url(settings: Settings) -> Check:
    """Whether carriers would get to the gateway by it."""
    name = "public URL"
    if problem := _public_url_problem(settings):
        return Check(name, False, *problem)
    if settings.public_url is None:
        return Check(name, True, "not set: only this machine gets to the gateway")
    try:
        async with httpx.AsyncClient(timeout=_TIMEOUT_S) as client:
            status = (await client.get(f"{settings.base_url}/healthz")).status_code
    except httpx.HTTPError as error:
        reason = str(error) or type(error).__name__
        return Check(name, False, f"{settings.base_url}: {reason}", "start the gateway; check DNS, proxy, certificate")
    if status != httpx.codes.OK:
        return Check(name, False, f"{settings.base_url}/healthz answers {status}", "let the proxy pass all on to it")
    return Check(name, True, f"{settings.base_url} leads to a gateway")


def _public_url_problem(settings: Settings) -> tuple[str, str] | None:
    """What is wrong with it as it is written, and the cure."""
    written = "set AUDIOTEXT_PUBLIC_URL=https://your.host"
    if settings.public_url is None:
        used = [carrier for carrier in carriers_in_use(settings) if carrier != "audiosocket"]
        return (f"not set, and {', '.join(used)} signs what it sends for it", written) if used else None
    url = urlsplit(settings.public_url)
    if url.scheme == "http" and url.hostname not in _LOOPBACK:
        return f"{settings.public_url}: carriers stream to wss only", "put TLS in front, and make it https"
    return None


def disk(data_dir: Path) -> Check:
    """Whether the disk of the data directory has room for recordings."""
    name = "disk"
    there = next(parent for parent in (data_dir.absolute(), *data_dir.absolute().parents) if parent.exists())
    free = shutil.disk_usage(there).free
    text = f"{free / 1e9:.1f} GB free for {data_dir}"
    if free < NEEDED_BYTES:
        ends = "recordings will fail" if free < ALARM_BYTES else "`audiotext up` will not start"
        return Check(name, False, f"{text}: {ends}", "make room, or set AUDIOTEXT_DATA_DIR")
    return Check(name, True, text)


def clock(settings: S3Settings) -> Check:
    """This machine's clock against the object storage's: signatures and tokens hang on it."""
    name = "clock"
    if not settings.endpoint:
        return Check(name, True, "nobody to compare it with")
    endpoint = settings.endpoint if "//" in settings.endpoint else f"http://{settings.endpoint}"
    verify = client_context(settings) if endpoint.startswith("https") else True
    try:
        date = httpx.head(endpoint, timeout=_TIMEOUT_S, verify=verify).headers.get("Date")
    except httpx.HTTPError:
        date = None  # that it is away is another line
    if not date:
        return Check(name, True, "the object storage does not tell the time to compare it with")
    skew = time.time() - parsedate_to_datetime(date).timestamp()
    if abs(skew) > _SKEW_S:
        side = "ahead of" if skew > 0 else "behind"
        return Check(name, False, f"{abs(skew):.0f} s {side} the object storage's", "have NTP set it (timedatectl)")
    return Check(name, True, f"within {max(abs(skew), 1):.0f} s of the object storage's")
