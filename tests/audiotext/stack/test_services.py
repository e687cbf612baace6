"""Tests of the list of services: names, order, stores, and the settings that each service reads."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from audiotext.stack import services
from audiotext.stack.environment import child_environment
from audiotext.stack.services import GROUPS, METRICS_PORT_SERVICES, SERVICES, needed_settings
from core.settings import Settings, load

_ROOT = Path(__file__).parents[3]
# Sections that appear only in functions which the service imports and never invokes.
_IMPORTED_ONLY = {"analytics": {"qdrant"}}
_PACKAGES = ("api", "core", "gateway", "pipelines", "redpanda", "schemas", "sinks")


def test_services_start_in_this_order() -> None:
    """Compares the derived list with the expected one: ports of /metrics follow this order, and users know them."""
    assert list(SERVICES) == [
        "gateway",
        "api",
        "recorder",
        "transcriber",
        "summarizer",
        "embedder",
        "usage",
        "analytics",
        "replayer",
    ]
    assert list(METRICS_PORT_SERVICES) == list(SERVICES)[2:]
    assert {name for name, spec in SERVICES.items() if spec.latency_critical} == {"gateway", "api", "recorder"}
    assert GROUPS == (
        "recorder",
        "transcribe",
        "summarize",
        "embed",
        "usage",
        "analytics",
        "replay",
        "replay-plan",
        "erase",
    )


def test_every_service_can_be_found() -> None:
    """Loads the entry point of every service. A failure names a module that does not exist."""
    for name in SERVICES:
        assert callable(services.entry_point(name))
    with pytest.raises(services.UnknownServiceError, match="gateway, api"):
        services.entry_point("nonsense")


def test_a_service_gets_only_its_own_secrets() -> None:
    """Compares the secrets of each service with the expected ones.

    The environment of a service contains these secrets only. A failure means that a service cannot authenticate, or
    that an attacker who controls it finds keys that it does not need.
    """
    log = {"AUDIOTEXT_KAFKA__SASL_PASSWORD", "AUDIOTEXT_KAFKA__SSL_KEY_PASSWORD"}
    s3 = {"AUDIOTEXT_S3__SECRET_KEY", "AUDIOTEXT_S3__SESSION_TOKEN"}
    clickhouse, qdrant = {"AUDIOTEXT_CLICKHOUSE__DSN"}, {"AUDIOTEXT_QDRANT__API_KEY"}
    soniox = {"AUDIOTEXT_SONIOX__API_KEY", "AUDIOTEXT_SONIOX__WEBHOOK_SECRET"}
    openai, gemini = {"AUDIOTEXT_OPENAI__API_KEY"}, {"AUDIOTEXT_GEMINI__API_KEY"}
    expected = {
        "recorder": log | s3,
        "transcriber": log | s3 | soniox | openai,
        "summarizer": log | s3 | gemini,
        "embedder": log | s3 | qdrant | gemini,
        "usage": log | clickhouse,
        "analytics": log | s3 | clickhouse,
        "replayer": log | s3 | clickhouse | qdrant | soniox | openai | gemini,
        "api": log
        | s3
        | clickhouse
        | qdrant
        | soniox
        | openai
        | gemini
        | {"AUDIOTEXT_ADMIN_KEY", "AUDIOTEXT_API__SESSION_SECRET"},
    }
    assert {name: services.secret_variables(name) for name in expected} == expected
    gateway = services.secret_variables("gateway")
    assert gateway >= log | {"AUDIOTEXT_GATEWAY__STREAM_TOKEN_SECRET", "AUDIOTEXT_SONIOX__WEBHOOK_SECRET"}
    assert gateway >= {"AUDIOTEXT_TWILIO__AUTH_TOKEN", "AUDIOTEXT_TWILIO__ACCOUNTS", "AUDIOTEXT_VONAGE__PASSWORD"}
    assert not gateway & (s3 | clickhouse | qdrant | openai | gemini | {"AUDIOTEXT_SONIOX__API_KEY"})


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_receives_every_setting_that_its_code_reads(name: str) -> None:
    """Searches the modules that a service imports for `settings.section.name`, and compares them with its settings.

    The modules of the providers are left out: the table of providers names their sections. A failure means that the
    service silently uses a default instead of the user's setting. Add the setting to the service's spec, in
    pipelines/stages.py or audiotext/stack/services.py.
    """
    module = SERVICES[name].run.partition(":")[0]
    sources = [text for imported, text in _sources(module).items() if not imported.startswith("pipelines.providers")]
    read = {setting for text in sources for setting in _settings_read(text)}
    needed = needed_settings(name)
    assert [one for one in sorted(read - _IMPORTED_ONLY.get(name, set())) if not _covers(needed, one)] == []
    assert len(read) > 1


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
        service: {name for name, value in values.items() if value in _environment(service, settings).values()}
        for service in SERVICES
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


def _environment(service: str, settings: Settings) -> dict[str, str]:
    return child_environment({}, settings, needed_settings(service))


def _only_value(part: object) -> object:
    while isinstance(part, dict):
        (part,) = part.values()
    return part


@cache
def _settings_read(source: str) -> frozenset[str]:
    """Returns the settings that the source reads: see `_each_setting`."""
    return frozenset(_each_setting(source)) if "settings." in source else frozenset()


def _each_setting(source: str) -> Iterator[str]:
    """Yields `section.name`, or the name outside of sections, for each `settings.…` in the source."""
    fields = Settings.model_fields
    for node in ast.walk(ast.parse(source)):
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


def _covers(needed: frozenset[str], name: str) -> bool:
    return name in needed or name.partition(".")[0] in needed or any(one.startswith(f"{name}.") for one in needed)


def _sources(module: str) -> dict[str, str]:
    """Returns the source of a module and of all our modules that it imports, by name."""
    found: dict[str, str] = {}
    pending = [module]
    while pending:
        name = pending.pop()
        if name in found:
            continue
        found[name], imported = _read(name)
        pending += imported
    return found


@cache
def _read(module: str) -> tuple[str, tuple[str, ...]]:
    """Returns the source of a module, and the names of our modules that it imports."""
    path = _path(module)
    assert path is not None, module
    source = path.read_text()
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    ours = tuple(sorted(name for name in names if name.split(".")[0] in _PACKAGES and _path(name)))
    return source, ours


def _path(module: str) -> Path | None:
    base = _ROOT.joinpath(*module.split("."))
    return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()), None)


def test_metrics_page_names_services_and_groups() -> None:
    """Reads the introduction of docs/metrics.md: it lists the services with a port and the groups in their order."""
    text = " ".join((_ROOT / "docs" / "metrics.md").read_text().split())
    assert f"to: {', '.join(METRICS_PORT_SERVICES)}." in text
    assert f"is the consumer group, as in dead letters: {', '.join(GROUPS)}." in text
