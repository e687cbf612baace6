"""deploy/k8s, built by kustomize as kubectl has it and checked against Kubernetes' schemas and against ourselves."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from audiotext.cli import main
from audiotext.stack.services import SERVICES
from core.settings import load, variable_names
from pipelines.stages import ANALYTICS, EMBED, SUMMARIZE, TRANSCRIBE

ROOT = Path(__file__).parents[2] / "deploy" / "k8s"
_KEDA_CRDS = Path(__file__).parent / "keda"
OVERLAYS = ("k3s", "production")
WORKLOADS = ("Deployment", "StatefulSet", "Job")
_KEDA = "keda.sh/v1alpha1"
# What its Kafka scaler reads (pkg/scalers/apache_kafka_scaler.go and kafka_scaler.go of 2.17); it passes over all else.
_KEDA_KAFKA = {"bootstrapServers", "consumerGroup", "topic", "lagThreshold", "offsetResetPolicy"}
_NAME = "app.kubernetes.io/name"

Object = dict[str, Any]

pytestmark = [
    pytest.mark.server,
    pytest.mark.skipif(shutil.which("kubectl") is None, reason="no kubectl: apt-get install kubernetes-client"),
]


@cache
def built(overlay: str) -> list[Object]:
    """What `kubectl apply -k` would send."""
    path = ROOT / "overlays" / overlay
    done = subprocess.run(("kubectl", "kustomize", str(path)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "deprecated" not in done.stderr
    return list(yaml.safe_load_all(done.stdout))


@pytest.fixture(params=OVERLAYS)
def objects(request: pytest.FixtureRequest) -> list[Object]:
    """Everything of one overlay."""
    return built(request.param)


@cache
def _keda(kind: str) -> Object:
    """KEDA's schema of one of its resources, in which what it does not name is an error."""
    definition = yaml.safe_load((_KEDA_CRDS / f"keda.sh_{kind.lower()}s.yaml").read_text())
    (version,) = definition["spec"]["versions"]
    schema: Object = version["schema"]["openAPIV3Schema"]
    schema["properties"]["metadata"] = {"type": "object", "properties": {"name": {}, "namespace": {}, "labels": {}}}
    _close(schema)
    return schema


def _close(schema: Object) -> None:
    for name, value in list(schema.items()):
        if name == "properties":
            schema.setdefault("additionalProperties", False)
            for one in value.values():
                _close(one)
        elif isinstance(value, dict):
            _close(value)


def _of(objects: list[Object], *kinds: str) -> list[Object]:
    return [one for one in objects if one["kind"] in kinds]


def _pod(workload: Object) -> Object:
    pod: Object = workload["spec"]["template"]["spec"]
    return pod


def _container(workload: Object) -> Object:
    (container,) = _pod(workload)["containers"]
    assert isinstance(container, dict)
    return container


def _labels(workload: Object) -> dict[str, str]:
    labels: dict[str, str] = workload["spec"]["template"]["metadata"]["labels"]
    return labels


def test_every_object_is_one(objects: list[Object]) -> None:
    """Against Kubernetes' own schemas, strictly: a misspelt field would be dropped, with what it asks for."""
    for one in objects:
        if one["apiVersion"] == _KEDA:
            jsonschema.validate(one, _keda(one["kind"]))
        else:
            kubernetes_validate.validate(one, "1.30", strict=True)
        if one["kind"] != "Namespace":
            assert one["metadata"]["namespace"] == "audiotext"


def test_every_service_runs(objects: list[Object]) -> None:
    """One workload each, whose command is real; the recorder with a disk of its own, under a name of its own."""
    workloads = {one["metadata"]["name"]: one for one in _of(objects, "Deployment", "StatefulSet")}
    assert workloads.keys() == SERVICES.keys()
    for name, workload in workloads.items():
        assert _container(workload)["args"] == ["run", name]
        main.parser().parse_args(_container(workload)["args"])
    recorder = workloads["recorder"]
    assert recorder["kind"] == "StatefulSet"
    assert recorder["spec"]["volumeClaimTemplates"][0]["metadata"]["name"] == "data"
    assert {"name": "data", "mountPath": "/var/lib/audiotext"} in _container(recorder)["volumeMounts"]
    (prepare,) = _of(objects, "Job")
    for command in _container(prepare)["args"][0].split(" && "):
        main.parser().parse_args(command.split()[1:])


def test_pods_can_do_little(objects: list[Object]) -> None:
    """Not root, a root file system that is read-only, no capability, no token of the cluster, requests and a limit of
    memory; what they write to is mounted."""
    for workload in _of(objects, *WORKLOADS):
        pod, container = _pod(workload), _container(workload)
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
        assert "memory" in container["resources"]["limits"]
        volumes = {volume["name"] for volume in pod["volumes"]}
        volumes |= {claim["metadata"]["name"] for claim in workload["spec"].get("volumeClaimTemplates", [])}
        assert {mount["name"] for mount in container["volumeMounts"]} == volumes
        assert re.fullmatch(r"[\w./-]+:\d+\.\d+\.\d+", container["image"])


def test_pods_are_asked_whether_they_work(objects: list[Object]) -> None:
    """All three probes, on a port that is there and by a path that is served there; Prometheus asks the same port."""
    for workload in _of(objects, "Deployment", "StatefulSet"):
        container = _container(workload)
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            asked = container[probe]["httpGet"]
            assert asked["port"] in ports
            served = {"/healthz", "/readyz"} if asked["port"] == "http" else {"/healthz"}
            assert asked["path"] in served
        assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"  # a store that is away is no reason to die
        annotations = workload["spec"]["template"]["metadata"]["annotations"]
        assert int(annotations["prometheus.io/port"]) in ports.values()


def test_settings_are_real(objects: list[Object], monkeypatch: pytest.MonkeyPatch) -> None:
    """What does this test do? Loads what a pod would be given, the example's secrets filled in.

    A service refuses variables it does not know: a typo would keep all of them from starting.
    """
    (settings,) = [one["data"] for one in _of(objects, "ConfigMap")]
    secrets = {key for secret in _secrets() for key in secret["stringData"] if key.startswith("AUDIOTEXT_")}
    assert {*settings, *secrets} <= set(variable_names())
    assert not settings.keys() & secrets
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    for name in secrets:
        monkeypatch.setenv(name, "clickhouses://u:p@h:8443/audiotext" if name.endswith("DSN") else "f" * 32)
    loaded = load()
    ports = {"metrics": loaded.metrics.port, "api": loaded.api.port, "gateway": loaded.gateway.port}
    assert ports == {"metrics": 9100, "api": 8081, "gateway": 8080}
    services = {one["metadata"]["name"]: one["spec"]["ports"][0]["port"] for one in _of(objects, "Service")}
    assert loaded.api.watched == {name: f"http://{name}:{services[name]}" for name in SERVICES}
    assert "0.0.0.0" == loaded.metrics.host == loaded.api.host == loaded.gateway.host


def _secrets() -> Iterator[Object]:
    yield from yaml.safe_load_all((ROOT / "base" / "secrets.example.yaml").read_text())


def test_secrets_are_by_reference_and_the_edge_has_no_keys_to_the_stores(objects: list[Object]) -> None:
    """No Secret is made by us, each that is referred to is in the example, the example holds nothing that works, and
    what faces the world is given neither the stores' secrets nor a way to them."""
    assert not _of(objects, "Secret")
    example = {secret["metadata"]["name"]: secret["stringData"] for secret in _secrets()}
    used: set[str] = set()
    for workload in _of(objects, *WORKLOADS):
        given = {source["secretRef"]["name"] for source in _container(workload)["envFrom"] if "secretRef" in source}
        used |= given
        if workload["metadata"]["name"] == "gateway":
            assert given == {"audiotext-log", "audiotext-edge"}
        assert ("audiotext-api" in given) is (workload["metadata"]["name"] == "api")
    assert not example["audiotext-edge"].keys() & {"AUDIOTEXT_ADMIN_KEY", "AUDIOTEXT_API__SESSION_SECRET"}
    assert used <= example.keys()
    assert not [value for name in used for value in example[name].values() if value]
    stores = next(one for one in _of(objects, "NetworkPolicy") if one["metadata"]["name"] == "stores")
    assert stores["spec"]["podSelector"]["matchExpressions"] == [
        {"key": _NAME, "operator": "NotIn", "values": ["gateway"]}
    ]


def test_what_is_selected_is_there(objects: list[Object]) -> None:
    """Services, budgets, policies, autoscalers and the Ingress each point at something; ports by name are there."""
    workloads = _of(objects, *WORKLOADS)
    names = {workload["metadata"]["name"] for workload in workloads}

    def selected(labels: dict[str, str]) -> list[Object]:
        return [workload for workload in workloads if labels.items() <= _labels(workload).items()]

    for one in _of(objects, "Service"):
        (target,) = selected(one["spec"]["selector"])
        assert one["spec"]["ports"][0]["targetPort"] in [port["name"] for port in _container(target)["ports"]]
    for one in _of(objects, "PodDisruptionBudget", "NetworkPolicy"):
        chosen = one["spec"].get("selector", one["spec"].get("podSelector"))
        assert selected(chosen.get("matchLabels", {}))
    for one in _of(objects, "Deployment", "StatefulSet"):
        assert selected(one["spec"]["selector"]["matchLabels"]) == [one]
    for one in _of(objects, "HorizontalPodAutoscaler", "ScaledObject"):
        assert one["spec"]["scaleTargetRef"]["name"] in names
    services = {one["metadata"]["name"] for one in _of(objects, "Service")}
    for one in _of(objects, "Ingress"):
        for rule in one["spec"]["rules"]:
            assert {path["backend"]["service"]["name"] for path in rule["http"]["paths"]} <= services


def test_everything_is_denied_that_is_not_allowed(objects: list[Object]) -> None:
    """A policy for every pod that allows nothing; only the gateway is reached from outside the namespace, but for
    Prometheus; and every pod gets to the log."""
    policies = {one["metadata"]["name"]: one["spec"] for one in _of(objects, "NetworkPolicy")}
    assert policies["deny-all"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    assert policies["log"]["podSelector"] == {}
    for name, policy in policies.items():
        for rule in policy.get("ingress", []):
            assert name == "gateway" or "from" in rule


def test_calls_in_progress_outlive_an_update(objects: list[Object]) -> None:
    """A gateway that is to end waits for its last stream, and is given longer than it waits; the next one is there
    before. What it still holds for the log then has its time, too."""
    gateway = next(one for one in objects if one["kind"] == "Deployment" and one["metadata"]["name"] == "gateway")
    command = _container(gateway)["lifecycle"]["preStop"]["exec"]["command"]
    waits = main.parser().parse_args(command[1:])
    (settings,) = [one["data"] for one in _of(objects, "ConfigMap")]
    drain = float(settings["AUDIOTEXT_GATEWAY__DRAIN_TIMEOUT_S"])
    assert _pod(gateway)["terminationGracePeriodSeconds"] >= waits.timeout + drain + 10
    assert gateway["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0


def test_budgets_let_a_machine_be_drained(objects: list[Object]) -> None:
    """A budget that can never be kept holds up every update of the cluster."""
    running = _of(objects, "Deployment", "StatefulSet")
    replicas = {one["metadata"]["name"]: one["spec"].get("replicas", 2) for one in running}
    budgets = _of(objects, "PodDisruptionBudget")
    assert {one["metadata"]["name"] for one in budgets} == {"gateway", "api", "recorder"}
    for one in budgets:
        least = one["spec"].get("minAvailable")
        assert least is None or least < replicas[one["metadata"]["name"]]


def test_lag_is_asked_of_real_groups_and_topics() -> None:
    """KEDA's triggers name consumer groups and topics: a misspelt one has no lag, and nothing is ever scaled. What is
    scaled has no number of its own, or every `apply` would set it back."""
    objects = built("production")
    scalable = {spec.service: spec for spec in (TRANSCRIBE, SUMMARIZE, EMBED, ANALYTICS)}
    (settings,) = [one["data"] for one in _of(objects, "ConfigMap")]
    scaled = _of(objects, "ScaledObject")
    assert {one["metadata"]["name"] for one in scaled} == scalable.keys()
    for one in scaled:
        (trigger,) = one["spec"]["triggers"]
        assert trigger["metadata"].keys() <= _KEDA_KAFKA
        spec = scalable[one["metadata"]["name"]]
        assert trigger["metadata"]["topic"] == spec.reads[0]
        assert trigger["metadata"]["consumerGroup"] == spec.group
        assert trigger["metadata"]["bootstrapServers"] == settings["AUDIOTEXT_KAFKA__BOOTSTRAP_SERVERS"]
        assert trigger["authenticationRef"]["name"] == "log"
    targets = {one["spec"]["scaleTargetRef"]["name"] for one in _of(objects, "ScaledObject", "HorizontalPodAutoscaler")}
    for one in _of(objects, "Deployment"):
        assert ("replicas" in one["spec"]) != (one["metadata"]["name"] in targets)
