"""The Helm chart: linted and rendered by the real helm, each manifest checked against Kubernetes' own schemas.

KEDA's and the Prometheus operator's objects are checked against the types of their custom resource definitions.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from cloudcoil.models.keda.v1alpha1 import ScaledObject, TriggerAuthentication
from cloudcoil.models.prometheus_operator.v1 import PrometheusRule, ServiceMonitor

from ops.roles import ROLES, chosen
from ops.settings import PREFIX, Settings

ROOT = Path(__file__).parents[2]
CHART = ROOT / "ops" / "helm" / "strata"
VALUES = sorted((ROOT / "ops" / "helm" / "values").glob("*.yaml"))
CUSTOM = {
    "ScaledObject": ScaledObject,
    "TriggerAuthentication": TriggerAuthentication,
    "ServiceMonitor": ServiceMonitor,
    "PrometheusRule": PrometheusRule,
}
KUBERNETES = "1.34.0"
Manifest = dict[str, Any]


def helm(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    shared = ROOT.parent / "shared" / "tools" / "helm"
    program = shutil.which("helm") or (shared if os.access(shared, os.X_OK) else None)
    if program is None:
        pytest.skip("helm is neither on the PATH nor in ../shared/tools")
    done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert not check or done.returncode == 0, done.stderr
    return done


def render(*arguments: str) -> list[Manifest]:
    done = helm("template", "shop", str(CHART), "--kube-version", KUBERNETES, "--namespace", "shop", *arguments)
    return [manifest for manifest in yaml.safe_load_all(done.stdout) if manifest]


@pytest.fixture(params=VALUES, ids=lambda path: str(path.stem))
def manifests(request: pytest.FixtureRequest) -> list[Manifest]:
    return render("-f", str(request.param))


@pytest.fixture(scope="module")
def each() -> dict[str, list[Manifest]]:
    return {path.stem: render("-f", str(path)) for path in VALUES}


def of_kind(manifests: list[Manifest], kind: str) -> dict[str, Manifest]:
    return {m["metadata"]["name"]: m for m in manifests if m["kind"] == kind}


def containers(manifests: list[Manifest]) -> Iterator[tuple[str, Manifest]]:
    for name, deployment in of_kind(manifests, "Deployment").items():
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        yield name.removeprefix("shop-"), container


def unknown(given: Any, understood: Any, path: str = "") -> list[str]:
    """Keys that a type does not know: pydantic drops them, and Kubernetes would too."""
    if isinstance(given, dict):
        found = []
        for key, value in given.items():
            if key not in understood:
                found.append(f"{path}.{key}")
            else:
                found += unknown(value, understood[key], f"{path}.{key}")
        return found
    if isinstance(given, list):
        return [
            x for i, (a, b) in enumerate(zip(given, understood, strict=True)) for x in unknown(a, b, f"{path}[{i}]")
        ]
    return []


def wrong(manifest: Manifest) -> list[str]:
    kind = CUSTOM[manifest["kind"]]
    return unknown(manifest, kind.model_validate(manifest).model_dump(by_alias=True, mode="json"))


@pytest.mark.parametrize("values", VALUES, ids=lambda path: str(path.stem))
def test_helm_lint_has_nothing_to_say(values: Path) -> None:
    said = helm("lint", "--strict", "--kube-version", KUBERNETES, str(CHART), "-f", str(values)).stdout
    assert "0 chart(s) failed" in said
    assert "WARNING" not in said


def test_every_manifest_is_valid(manifests: list[Manifest]) -> None:
    assert {"Deployment", "PodDisruptionBudget", "Service"} <= {m["kind"] for m in manifests}
    for manifest in manifests:
        if manifest["kind"] in CUSTOM:
            assert wrong(manifest) == []
        else:
            kubernetes_validate.validate(manifest, "1.34", strict=True)


def test_the_checks_see_what_is_wrong(each: dict[str, list[Manifest]]) -> None:
    deployment = next(iter(of_kind(each["role-each"], "Deployment").values()))
    deployment["spec"]["template"]["spec"]["containers"][0]["livenessProb"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, "1.34", strict=True)
    del deployment["spec"]["template"]["spec"]["containers"][0]["livenessProb"]
    (scaled,) = of_kind(each["role-each"], "ScaledObject").values()
    scaled["spec"]["maxReplicas"] = 3
    assert wrong(scaled) == [".spec.maxReplicas"]
    del scaled["spec"]["maxReplicas"]


def test_every_role_runs_somewhere(manifests: list[Manifest]) -> None:
    run = [role for _, container in containers(manifests) for role in container["args"][1:]]
    assert sorted(run) == sorted(ROLES), "add a deployment of the role to ops/helm/strata/values.yaml"
    assert set(chosen(run)) == set(ROLES)


def test_only_updaters_and_feeds_run_more_than_once(manifests: list[Manifest]) -> None:
    for name, deployment in of_kind(manifests, "Deployment").items():
        alone = deployment["spec"]["template"]["spec"]["containers"][0]["args"][1:] not in (["updater"], ["feed"])
        assert deployment["spec"]["strategy"]["type"] == ("Recreate" if alone else "RollingUpdate"), name
        assert not alone or deployment["spec"]["replicas"] == 1


def test_settings_are_known_and_consistent(manifests: list[Manifest]) -> None:
    known = {PREFIX + field.upper() for field in Settings.model_fields}
    for name, container in containers(manifests):
        given = [one["name"] for one in container["env"]]
        assert len(given) == len(set(given)), name
        assert set(given) <= known
        files = {"KAFKA_CA", "KAFKA_CERTIFICATE", "KAFKA_KEY"}
        plain = {
            one["name"].removeprefix(PREFIX).lower(): one.get("value", "secret")
            for one in container["env"]
            if one["name"].removeprefix(PREFIX) not in files
        }
        Settings(**plain)
        for one in container["env"]:  # a file that is named is a file that is mounted
            if one["name"].removeprefix(PREFIX) in files:
                (mount,) = (m for m in container["volumeMounts"] if m["name"] == "kafka")
                assert one["value"].startswith(mount["mountPath"] + "/")


def test_containers_have_probes_limits_and_no_rights(manifests: list[Manifest]) -> None:
    for name, container in containers(manifests):
        pod = of_kind(manifests, "Deployment")[f"shop-{name}"]["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["automountServiceAccountToken"] is False
        assert pod["terminationGracePeriodSeconds"] > 30, "a stop may take 30 s"
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert container["livenessProbe"]["httpGet"]["path"] == container["startupProbe"]["httpGet"]["path"] == "/livez"
        assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
        assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
        assert "memory" in container["resources"]["limits"]


def test_each_deployment_has_a_budget_that_finds_its_pods(manifests: list[Manifest]) -> None:
    budgets = of_kind(manifests, "PodDisruptionBudget")
    for name, deployment in of_kind(manifests, "Deployment").items():
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        for selector in (deployment["spec"]["selector"], budgets[name]["spec"]["selector"]):
            assert selector["matchLabels"].items() <= labels.items()
    assert budgets.keys() == of_kind(manifests, "Deployment").keys()


def test_updaters_are_scaled_by_lag_between_one_and_the_partitions(each: dict[str, list[Manifest]]) -> None:
    (scaled,) = of_kind(each["role-each"], "ScaledObject").values()
    spec = scaled["spec"]
    assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (1, 12)
    (trigger,) = spec["triggers"]
    assert trigger["type"] == "kafka"
    assert trigger["metadata"]["limitToPartitionsWithLag"] == "true"
    deployment = of_kind(each["role-each"], "Deployment")[spec["scaleTargetRef"]["name"]]
    assert "replicas" not in deployment["spec"], "two would set them"
    environment = {
        one["name"]: one.get("value") for one in deployment["spec"]["template"]["spec"]["containers"][0]["env"]
    }
    assert trigger["metadata"]["consumerGroup"] == environment["STRATA_GROUP"]
    assert trigger["metadata"]["topic"] == environment["STRATA_TOPIC_CLICKS"]
    behaviour = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert behaviour["scaleUp"]["stabilizationWindowSeconds"] >= 60
    assert behaviour["scaleDown"]["stabilizationWindowSeconds"] >= 600


def test_a_deployment_with_a_port_has_a_service_that_finds_it() -> None:
    given = ("--set", "kafka.bootstrap=k:9092", "--set", "deployments.updater.port=8080")
    manifests = render(*given)
    for manifest in manifests:
        kubernetes_validate.validate(manifest, "1.34", strict=True)
    service = of_kind(manifests, "Service")["shop-updater"]
    pod = of_kind(manifests, "Deployment")["shop-updater"]["spec"]["template"]
    assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    ports = {port["name"]: port["containerPort"] for port in pod["spec"]["containers"][0]["ports"]}
    assert ports[service["spec"]["ports"][0]["targetPort"]] == 8080
    # Prometheus goes by the name of the chart, and must not take this one for a second way to the metrics
    assert "app.kubernetes.io/name" not in service["metadata"]["labels"]


def test_the_operator_scrapes_as_the_job_that_the_rules_know(each: dict[str, list[Manifest]]) -> None:
    (monitor,) = of_kind(each["role-each"], "ServiceMonitor").values()
    service = of_kind(each["role-each"], "Service")["shop-metrics"]
    assert service["metadata"]["labels"][monitor["spec"]["jobLabel"]] == "strata"
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert monitor["metadata"]["labels"]["release"] == "prometheus"


def test_the_operator_has_the_rules_that_everybody_else_has(each: dict[str, list[Manifest]]) -> None:
    (rule,) = of_kind(each["role-each"], "PrometheusRule").values()
    assert rule["metadata"]["labels"]["release"] == "prometheus"
    kept = [yaml.safe_load((ROOT / "ops" / "prometheus" / f"{n}.yaml").read_text()) for n in ("recording", "alerts")]
    expected = [group for rules in kept for group in rules["groups"]]
    for group in expected:
        for one in group["rules"]:
            if "annotations" in one:
                _, _, section = one["annotations"]["runbook_url"].partition("#")
                one["annotations"]["runbook_url"] = f"https://wiki.example.org/strata/runbook#{section}"
    assert rule["spec"]["groups"] == expected, "what is Prometheus's to fill in, helm must leave"
    assert not of_kind(each["tls-sasl"], "PrometheusRule")


def test_grafanas_sidecar_finds_the_dashboards(each: dict[str, list[Manifest]]) -> None:
    (found,) = of_kind(each["role-each"], "ConfigMap").values()
    assert found["metadata"]["labels"]["grafana_dashboard"] == "1"
    files = sorted((ROOT / "ops" / "grafana" / "dashboards").glob("*.json"))
    assert found["data"] == {f"strata-{path.name}": path.read_text() for path in files}
    assert len(json.dumps(found)) < 1_000_000, "etcd takes no more"


def test_the_feeds_ask_the_prometheus_that_scrapes_them(each: dict[str, list[Manifest]]) -> None:
    asking = {}
    for name, container in containers(each["role-each"]):
        given = {one["name"].removeprefix(PREFIX).lower(): one.get("value") for one in container["env"]}
        if "feed_prometheus" in given:
            asking[name] = given
    assert asking.keys() == {"feed"}
    assert asking["feed"]["feed_prometheus"].startswith("http://")
    assert asking["feed"]["feed_prometheus_labels"] == 'namespace="shop"', "deployments side by side are not added up"


def test_gpus_go_to_the_roles_with_a_bert(each: dict[str, list[Manifest]]) -> None:
    with_gpu = {name: c for name, c in containers(each["gpu"]) if "nvidia.com/gpu" in c["resources"]["limits"]}
    assert set(with_gpu) == {"catalogue", "updater"}
    for name, container in with_gpu.items():
        assert container["image"].endswith("-cuda")
        assert {"name": "STRATA_DEVICE", "value": "cuda"} in container["env"]
        pod = of_kind(each["gpu"], "Deployment")[f"shop-{name}"]["spec"]["template"]["spec"]
        assert pod["nodeSelector"] == {"nvidia.com/gpu.present": "true"}


def test_secrets_come_from_a_secret_and_keda_gets_them_too(each: dict[str, list[Manifest]]) -> None:
    for _, container in containers(each["tls-sasl"]):
        secret = {one["name"]: one["valueFrom"]["secretKeyRef"] for one in container["env"] if "valueFrom" in one}
        assert secret.keys() == {"STRATA_KAFKA_USERNAME", "STRATA_KAFKA_PASSWORD"}
        assert {reference["name"] for reference in secret.values()} == {"strata-kafka"}
    (scaled,) = of_kind(each["tls-sasl"], "ScaledObject").values()
    (login,) = of_kind(each["tls-sasl"], "TriggerAuthentication").values()
    (trigger,) = scaled["spec"]["triggers"]
    assert trigger["authenticationRef"]["name"] == login["metadata"]["name"]
    assert (trigger["metadata"]["sasl"], trigger["metadata"]["tls"]) == ("scram_sha512", "enable")
    assert {ref["parameter"] for ref in login["spec"]["secretTargetRef"]} == {"username", "password", "ca"}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "kafka.bootstrap: the brokers"),
        (["kafka.bootstrap=k:9092", "kafka.keys={password}"], "kafka.secret: the secret that holds kafka.keys"),
    ],
)
def test_what_is_missing_is_told(given: list[str], said: str) -> None:
    arguments = [part for one in given for part in ("--set", one)]
    done = helm("template", "shop", str(CHART), "--kube-version", KUBERNETES, *arguments, check=False)
    assert done.returncode != 0
    assert said in done.stderr
