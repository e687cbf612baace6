"""docker-compose.yml, checked as far as it can be without a Docker engine: schema, references, settings, commands."""

import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from audiotext.cli import main
from audiotext.stack.services import METRICS_PORT_SERVICES, SERVICES
from core.settings import load, variable_names
from deploy.compose.env import env_file

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docker-compose.yml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
CONTAINERS: dict[str, Any] = COMPOSE["services"]
OURS = {name: service for name, service in CONTAINERS.items() if service["image"].startswith("audiotext:")}
_VARIABLE = re.compile(r"\$\{(\w+)(:[?-][^}]*)?\}")


@pytest.mark.server
def test_it_is_a_compose_file() -> None:
    """Against the published schema of the Compose Specification."""
    done = subprocess.run(
        (sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", "docker-compose.yml"),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_service_has_its_container() -> None:
    """One each, under its name; beside them only what prepares the stores."""
    assert {name: service["command"] for name, service in OURS.items() if name != "prepare"} == {
        name: ["run", name] for name in SERVICES
    }


def test_commands_are_real() -> None:
    """A container whose command does not parse would restart for ever."""
    for name, service in OURS.items():
        given = service["command"]
        commands = given[0].split(" && ") if name == "prepare" else ["audiotext " + " ".join(given)]
        for command in commands:
            program, *arguments = command.split()
            assert program == "audiotext"
            main.parser().parse_args(arguments)


def test_settings_are_real_and_usable(monkeypatch: pytest.MonkeyPatch) -> None:
    """What does this test do? Loads the settings each container would have, with made-up secrets.

    A service refuses a variable it does not know, so a typo would keep all of them from starting.
    """
    for service in OURS.values():
        names = {name for name in service["environment"] if name.startswith("AUDIOTEXT_")}
        assert names <= set(variable_names())
    environment = OURS["gateway"]["environment"] | OURS["api"]["environment"]
    for name, value in environment.items():
        filled = _VARIABLE.sub(lambda match: "https://x.example" if "URL" in match[1] else "f" * 32, value)
        monkeypatch.setenv(name, filled)
    settings = load()
    assert settings.kafka.security_protocol == "sasl_plaintext"
    assert settings.api.watched.keys() == SERVICES.keys()
    assert settings.gateway.drain_timeout_s < _seconds(OURS["gateway"]["stop_grace_period"])


def test_what_is_referred_to_is_there() -> None:
    """Services waited for, volumes and files mounted."""
    volumes = set(COMPOSE["volumes"])
    used = set()
    for service in CONTAINERS.values():
        for other, how in service.get("depends_on", {}).items():
            if how["condition"] == "service_healthy":
                assert "test" in CONTAINERS[other]["healthcheck"]
            else:
                assert CONTAINERS[other]["restart"].startswith("on-failure")
        for mount in service.get("volumes", []):
            source = mount.split(":")[0]
            if source.startswith("."):
                assert (ROOT / source).exists(), source
                assert mount.endswith(":ro")
            else:
                used.add(source)
    assert used == volumes
    hosts = set(re.findall(r"(?:://|@)([a-z][a-z-]*):\d+", TEXT)) - {"localhost"}
    assert hosts <= CONTAINERS.keys()


def test_no_secret_has_a_default() -> None:
    """What does this test do? Looks at each variable that is a secret by its name, in compose and in what it mounts.

    If one had a value here, every installation would share it.
    """
    for name, value in _environment():
        if re.search(r"PASSWORD|SECRET|(?<!ACCESS_)KEY|BOOTSTRAP_USER|DSN", name) and not value.startswith("sqlite:"):
            assert ":?" in value, name
    for variable, default in _VARIABLE.findall(TEXT):
        assert default.startswith(":?") or variable in (
            *("GATEWAY_BIND", "CLICKHOUSE_PORT", "KRATOS_PUBLIC_URL", "KRATOS_UI_URL"),
        ), variable
    assert "env_file" in OURS["gateway"]


def test_only_the_gateway_may_face_the_world() -> None:
    """Everything else that has a port has it on the loopback."""
    for name, service in CONTAINERS.items():
        for port in service.get("ports", []):
            assert port.startswith("${GATEWAY_BIND:-127.0.0.1}:" if name == "gateway" else "127.0.0.1:")


def test_each_container_has_only_its_secrets() -> None:
    """Lists the secrets of each container of ours: no secret of a store reaches the gateway, and only API and gateway
    have their own keys. A failure means that somebody who takes over one container can open the others."""
    for name, service in OURS.items():
        held = {secret for value in service["environment"].values() for secret, _ in _VARIABLE.findall(str(value))}
        held -= {"AUDIOTEXT_PUBLIC_URL"}
        stores = {"MINIO_PASSWORD", "CLICKHOUSE_PASSWORD", "QDRANT_API_KEY"}
        own = {"gateway": {"STREAM_TOKEN_SECRET"}, "api": stores | {"AUDIOTEXT_ADMIN_KEY", "SESSION_SECRET"}}
        assert held == {"REDPANDA_PASSWORD"} | own.get(name, stores), name


def test_networks_are_separate() -> None:
    """Compares the networks of the containers: the gateway and the accounts share none with a store, every container
    names its networks, Redpanda's console (without authentication) is absent, and Kratos' admin API is reachable from
    inside its container only."""
    networks = {name: set(service["networks"]) for name, service in CONTAINERS.items()}
    assert set().union(*networks.values()) == COMPOSE["networks"].keys()
    for store in ("minio", "clickhouse", "qdrant"):
        for name in ("gateway", "redpanda", "kratos", "kratos-ui", "prometheus"):
            assert not networks[store] & networks[name], (store, name)
    assert networks["gateway"] & networks["api"]
    assert not [name for name, service in CONTAINERS.items() if "redpandadata/console" in service["image"]]
    kratos = yaml.safe_load((ROOT / "deploy/compose/kratos/kratos.yml").read_text())
    assert kratos["serve"]["admin"]["host"] == "127.0.0.1"


def test_images_are_pinned_and_containers_bounded() -> None:
    """A tag that moves makes two installations differ; a container without a limit takes the machine with it."""
    for name, service in CONTAINERS.items():
        tag = service["image"].rpartition(":")[2]
        assert re.search(r"\d+[.\-]\d+", tag), service["image"]
        assert tag != "latest"
        limits = service["deploy"]["resources"]["limits"]
        assert {"cpus", "memory"} <= limits.keys(), name
        assert "restart" in service
        assert "healthcheck" in service or service["restart"].startswith("on-failure")


def test_our_containers_can_do_little() -> None:
    """Not root (the image says so), nothing to write to but volumes and /tmp, no capability; and each is asked whether
    it works where it answers."""
    for name, service in OURS.items():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        if name in METRICS_PORT_SERVICES:
            assert "9100/healthz" in service["healthcheck"]["test"][-1]


def test_make_env_makes_every_secret_once() -> None:
    """What does this test do? Makes the file twice, the second time with one secret added by hand and one missing.

    A secret that changed would lock the services out of their stores; one that was missed would stop it from starting.
    """
    first = env_file(TEXT, "")
    secrets = dict(line.split("=", 1) for line in first.splitlines() if "=" in line)
    wanted = {name for name, default in _VARIABLE.findall(TEXT) if "make env" in default}
    assert wanted | {"AUDIOTEXT_PUBLIC_URL"} == secrets.keys()
    made_up = [value for name, value in secrets.items() if name != "AUDIOTEXT_PUBLIC_URL"]
    assert len(set(made_up)) == len(made_up)
    assert {len(value) for value in made_up} == {32}
    assert env_file(TEXT, first) == first
    without = "\n".join(line for line in first.splitlines() if not line.startswith("QDRANT_API_KEY"))
    again = env_file(TEXT, without)
    assert again.startswith(without)
    assert "QDRANT_API_KEY=" in again


@pytest.mark.parametrize("user", ["grafana", "analyst"])
def test_readers_of_clickhouse_see_no_keys(user: str) -> None:
    """Each user that only reads has SELECT on named tables without the API keys, and a read-only profile.

    tests/deploy/test_dashboards.py compares the names with the schema.
    """
    users = ET.parse(ROOT / "deploy/compose/clickhouse-users.xml").getroot()
    grants = [query.text or "" for query in users.iterfind(f"users/{user}/grants/query")]
    assert grants
    assert all(grant.startswith("GRANT SELECT ON audiotext.") for grant in grants)
    assert not [grant for grant in grants if grant.endswith(("*", "api_keys"))]
    profile = users.findtext(f"users/{user}/profile")
    assert users.findtext(f"profiles/{profile}/readonly") == "2"


def test_other_files_can_be_read() -> None:
    """Redpanda's and Kratos' files: nobody can register, topics are not made by a typo, writes are fsynced."""
    redpanda = yaml.safe_load((ROOT / "deploy/compose/redpanda.yaml").read_text())
    assert redpanda["enable_sasl"] is True
    assert redpanda["auto_create_topics_enabled"] is False
    assert redpanda["write_caching_default"] == "disabled"
    kratos = yaml.safe_load((ROOT / "deploy/compose/kratos/kratos.yml").read_text())
    assert kratos["selfservice"]["flows"]["registration"]["enabled"] is False
    json.loads((ROOT / "deploy/compose/kratos/person.schema.json").read_text())


def _environment() -> Iterator[tuple[str, str]]:
    for service in CONTAINERS.values():
        for name, value in service.get("environment", {}).items():
            yield name, str(value)


def _seconds(text: str) -> float:
    return float(text.removesuffix("s"))
