"""Checks of the environment: secrets, time limits, disk and clock."""

import base64
import binascii
import shutil
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx
from pydantic import SecretStr

from audiotext.stack.datadir import ALARM_BYTES, NEEDED_BYTES
from core.checks import Check
from core.settings import CREDENTIALS, S3Settings, Settings
from core.tls import client_context

_TIMEOUT_S = 5.0
_SKEW_S = 60.0  # S3 refuses signatures that are 15 min off; tokens of carriers and of the gateway are stricter
_SHORTEST_SECRET = 16
_LONGER = f"use at least {_SHORTEST_SECRET} random characters"
_ED25519_BYTES = 32


def admin_key(settings: Settings) -> Check:
    """Checks that the admin key, which opens every tenant, is not too short."""
    name = "admin key"
    if settings.admin_key is None:
        return Check(name, True, "not set: `audiotext keys create` makes keys")
    length = len(settings.admin_key.get_secret_value())
    if length < _SHORTEST_SECRET:
        return Check(name, False, f"AUDIOTEXT_ADMIN_KEY has only {length} characters", _LONGER)
    return Check(name, True, f"{length} characters")


def time_limits(settings: Settings) -> Check:
    """Checks that a recorder which takes over calls reads their frames before it closes them as idle."""
    name = "time limits"
    idle_s, session_s = settings.recorder.idle_timeout_ms / 1000, settings.kafka.session_timeout_ms / 1000
    if idle_s < 2 * session_s:
        text = (
            f"AUDIOTEXT_RECORDER__IDLE_TIMEOUT_MS ({idle_s:g} s) is less than twice "
            f"AUDIOTEXT_KAFKA__SESSION_TIMEOUT_MS ({session_s:g} s)"
        )
        return Check(name, False, text, "raise the first: a live call could be split in two parts")
    return Check(name, True, f"calls whose gateway is gone are closed after {idle_s:g} s")


def carriers(settings: Settings) -> Check:
    """Checks the secrets of the carriers and lists the carriers in use."""
    name = "carriers"
    used = settings.carriers_in_use
    for problem, cure in _problems(settings):
        return Check(name, False, problem, cure)
    if not used:
        return Check(name, True, "no carrier is configured, so every call is refused: see docs/carriers")
    return Check(name, True, f"accepted: {', '.join(used)}")


def _problems(settings: Settings) -> Iterator[tuple[str, str]]:
    for variable, secret in _secrets(settings):
        if len(secret) < _SHORTEST_SECRET:
            yield f"{variable} has only {len(secret)} characters", _LONGER
    key = settings.telnyx.public_key
    if key and _decoded_length(key) != _ED25519_BYTES:
        yield "AUDIOTEXT_TELNYX__PUBLIC_KEY is not an Ed25519 key in base64", "copy it again from the Telnyx portal"
    if settings.audiosocket.port and not settings.audiosocket.allowed_peers:
        yield "AudioSocket listens, but no peer may connect", "set AUDIOTEXT_AUDIOSOCKET__ALLOWED_PEERS"


def _secrets(settings: Settings) -> Iterator[tuple[str, str]]:
    for carrier, names in CREDENTIALS.items():
        for name in names:
            value = getattr(getattr(settings, carrier), name)
            if isinstance(value, SecretStr):
                yield f"AUDIOTEXT_{carrier}__{name}".upper(), value.get_secret_value()


def _decoded_length(text: str) -> int:
    try:
        return len(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError):
        return 0


def disk(data_dir: Path) -> Check:
    """Checks the free space on the disk of the data directory."""
    name = "disk"
    existing = next(parent for parent in (data_dir.absolute(), *data_dir.absolute().parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    text = f"{free / 1e9:.1f} GB free for {data_dir}"
    if free < NEEDED_BYTES:
        effect = "recordings will fail" if free < ALARM_BYTES else "`audiotext up` will not start"
        return Check(name, False, f"{text}: {effect}", "free some space, or set AUDIOTEXT_DATA_DIR")
    return Check(name, True, text)


def clock(settings: S3Settings) -> Check:
    """Compares this machine's clock with that of the object storage. Signatures and tokens depend on it."""
    name = "clock"
    if not settings.endpoint:
        return Check(name, True, "no object storage to compare it with")
    endpoint = settings.endpoint if "//" in settings.endpoint else f"http://{settings.endpoint}"
    verify = client_context(settings) if endpoint.startswith("https") else True
    try:
        date = httpx.head(endpoint, timeout=_TIMEOUT_S, verify=verify).headers.get("Date")
    except httpx.HTTPError:
        date = None  # the check of S3 reports that it is unreachable
    if not date:
        return Check(name, True, "the object storage sends no Date header to compare it with")
    skew = time.time() - parsedate_to_datetime(date).timestamp()
    if abs(skew) > _SKEW_S:
        side = "ahead of" if skew > 0 else "behind"
        return Check(name, False, f"{abs(skew):.0f} s {side} the object storage's", "set it by NTP (timedatectl)")
    return Check(name, True, f"within {max(abs(skew), 1):.0f} s of the object storage's")
