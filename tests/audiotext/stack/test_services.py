"""Tests of the table of services."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from audiotext.stack.environment import child_environment
from audiotext.stack.services import NEEDED_SETTINGS, SERVICES
from core.settings import Settings, load

REPOSITORY = Path(__file__).parents[3]

# Source code by the services whose processes run it. The longest matching path counts.
RUN_BY: dict[str, tuple[str, ...]] = {
    "gateway": ("gateway",),
    "gateway/simulator": (),
    "api": ("api",),
    "pipelines/recorder": ("recorder",),
    "pipelines/transcribe": ("transcriber", "replayer"),
    "pipelines/summarize": ("summarizer", "replayer"),
    "pipelines/embed": ("embedder", "replayer"),
    "pipelines/billing/ledger.py": ("usage",),
    "pipelines/analytics.py": ("analytics",),
    "pipelines/replay": ("replayer",),
    "pipelines/runtime": ("transcriber", "summarizer", "embedder", "analytics", "replayer"),
    # The API checks a replay's engine before it starts the replay.
    "pipelines/providers/registry.py": ("api", "replayer"),
    "pipelines/providers/spec.py": ("api", "transcriber", "replayer"),
    "pipelines/providers/whisper": ("api", "transcriber", "replayer"),
    "pipelines/providers/soniox": ("api", "transcriber", "replayer"),
    "pipelines/providers/openai": ("api", "transcriber", "replayer"),
    "pipelines/providers/gemini": ("api", "replayer"),
    "redpanda": tuple(SERVICES),
}


def _settings_read(path: Path) -> Iterator[str]:
    """Yields `section.name`, or the name outside of sections, for each `settings.…` in the file."""
    fields = Settings.model_fields
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Attribute):
            continue
        inner, outer = node.value, ""
        if isinstance(inner, ast.Attribute) and inner.attr in fields:  # settings.section.name
            outer, inner = inner.attr, inner.value
        owner = inner.attr if isinstance(inner, ast.Attribute) else inner.id if isinstance(inner, ast.Name) else ""
        if owner.lstrip("_") != "settings":
            continue
        if outer:
            yield f"{outer}.{node.attr}"
        elif node.attr == "base_url":
            yield from ("public_url", "gateway.port")
        elif node.attr in fields:
            yield node.attr


def _covers(needed: tuple[str, ...], name: str) -> bool:
    return name in needed or name.partition(".")[0] in needed or any(one.startswith(f"{name}.") for one in needed)


@pytest.mark.parametrize("folder", ["gateway", "api", "pipelines", "redpanda"])
def test_a_service_receives_every_setting_that_its_code_reads(folder: str) -> None:
    """Reads all `settings.section.name` in the source, and compares them with the settings of the services' processes.

    A failure means that a service silently uses a default instead of the user's setting. Add the setting to
    NEEDED_SETTINGS, or the new source file to RUN_BY.
    """
    read = 0
    for path in (REPOSITORY / folder).rglob("*.py"):
        relative = path.relative_to(REPOSITORY).as_posix()
        owners = [prefix for prefix in RUN_BY if relative == prefix or relative.startswith(f"{prefix}/")]
        for name in _settings_read(path):
            assert owners, f"{relative} reads {name}: add it to RUN_BY"
            for service in RUN_BY[max(owners, key=len)]:
                assert _covers(NEEDED_SETTINGS[service], name), f"{service} ({relative}) does not receive {name}"
                read += 1
    assert read > 3


def test_only_the_needed_secrets_reach_a_service() -> None:
    """Gives every secret a value, and compares the ones in each service's environment with the ones it uses.

    A failure means that somebody who controls one process gets the credentials of others.
    """
    secrets: dict[str, dict[str, object]] = {
        "admin key": {"admin_key": "secret-admin-key"},
        "sessions": {"api": {"session_secret": "secret-sessions-0"}},
        "stream tokens": {"gateway": {"stream_token_secret": "secret-streams-00"}},
        "carrier": {"twilio": {"auth_token": "secret-twilio"}},
        "soniox": {"soniox": {"api_key": "secret-soniox"}},
        "openai": {"openai": {"api_key": "secret-openai"}},
        "gemini": {"gemini": {"api_key": "secret-gemini"}},
        "objects": {"s3": {"secret_key": "secret-objects"}},
        "database": {"clickhouse": {"dsn": "http://u:secret@h:1/d"}},
        "vectors": {"qdrant": {"api_key": "secret-vectors"}},
    }
    merged: dict[str, object] = {}
    for part in secrets.values():
        merged |= part
    settings = load(**merged)
    values = {name: str(_only_value(part)) for name, part in secrets.items()}
    found = {
        service: {name for name, value in values.items() if value in child_environment({}, settings, needed).values()}
        for service, needed in NEEDED_SETTINGS.items()
    }
    assert found == {
        "gateway": {"stream tokens", "carrier"},
        "api": {"admin key", "sessions", "soniox", "openai", "gemini", "objects", "database", "vectors"},
        "recorder": {"objects"},
        "transcriber": {"soniox", "openai", "objects"},
        "summarizer": {"gemini", "objects"},
        "embedder": {"gemini", "objects", "vectors"},
        "usage": {"database"},
        "analytics": {"objects", "database"},
        "replayer": {"soniox", "openai", "gemini", "objects", "database", "vectors"},
    }
    assert set(NEEDED_SETTINGS) == set(SERVICES)


def _only_value(part: object) -> object:
    while isinstance(part, dict):
        (part,) = part.values()
    return part
