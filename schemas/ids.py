"""Deterministic ids: the same thing always gets the same id, which makes every effect idempotent."""

import hashlib
import json
import uuid
from collections.abc import Mapping

# Never change these two: every existing id depends on them.
_NAMESPACE = uuid.UUID("5b1d3f1e-6c1c-5a57-9a7e-0d2a4b7f0a11")
_SEPARATOR = "\x1f"


def uuid_of(*parts: str | int) -> str:
    """Returns the UUID (version 5) of a sequence of parts, as text."""
    return str(uuid.uuid5(_NAMESPACE, _SEPARATOR.join(str(part) for part in parts)))


def job_key(*, tenant: str, call_id: str, stage: str, input_sha256: str, config_hash: str) -> str:
    """Returns the key of one paid job: the same input with the same configuration is the same job."""
    return uuid_of(tenant, call_id, stage, input_sha256, config_hash)


def config_hash(config: Mapping[str, object]) -> str:
    """Returns the first 16 hex digits of the SHA-256 of the canonical JSON of a stage's configuration."""
    canonical = json.dumps(config, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def sha256_hex(data: bytes) -> str:
    """Returns the SHA-256 of the bytes, as hex."""
    return hashlib.sha256(data).hexdigest()
