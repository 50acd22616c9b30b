"""The Kubernetes manifests are valid and refer to each other correctly."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from atlas import __version__
from atlas.server.http import ConnectionLimits
from tests.conftest import Flow, ServiceHarness, needs
from tests.ship.files import (
    CONFIG,
    CONNECTIONS,
    CONTAINER,
    DEPLOYMENT,
    KUBERNETES,
    POD,
    PODS,
    REPLICA,
    REPLICA_POD,
    STATEFUL,
    read_all,
    seconds,
)
from tests.support.monitoring import ALERTS

FILES = sorted(str(each.relative_to(KUBERNETES)) for each in KUBERNETES.rglob("*.yaml"))
KUSTOMIZATIONS = [each for each in FILES if each.endswith("kustomization.yaml")]
# their schemas are not in the package
OPTIONAL = {"gateway.yaml", "ingress.yaml", "prometheusrule.yaml", "servicemonitor.yaml"}
UNCHECKED_FILES = {*KUSTOMIZATIONS, "replicas/database.yaml"}
UNCHECKED_FILES |= {f"shared/{each}" for each in OPTIONAL - {"ingress.yaml"}}
LABELS = STATEFUL["spec"]["template"]["metadata"]["labels"]
PUBLIC, OPERATOR = read_all("shared/services.yaml")
(POLICY,) = read_all("shared/networkpolicy.yaml")
CONFIG_MAP, SECRET = read_all("secret.example.yaml")
(MONITOR,) = read_all("shared/servicemonitor.yaml")
(RULE,) = read_all("shared/prometheusrule.yaml")
(INGRESS,) = read_all("shared/ingress.yaml")
GATEWAY, ROUTE, TRAFFIC = read_all("shared/gateway.yaml")
(DATABASE,) = read_all("replicas/database.yaml")
TO_DATABASE, AT_DATABASE = read_all("replicas/networkpolicies.yaml")
PORTS = {each["name"]: each["containerPort"] for each in CONTAINER["ports"]}


def validate(*paths: Path) -> subprocess.CompletedProcess[str]:
    """Validate files with the Kubernetes schemas, which come from a package, without a cluster."""
    command = [Path(sys.executable).with_name("kubernetes-validate"), "--strict", *paths]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_kubernetes_knows_every_word():
    known = [KUBERNETES / each for each in FILES if each not in UNCHECKED_FILES]

    found = validate(*known)

    assert found.returncode == 0, found.stdout + found.stderr


@pytest.mark.slow
def test_a_word_that_kubernetes_does_not_know_is_noticed(tmp_path):
    text = (KUBERNETES / "statefulset.yaml").read_text(encoding="utf-8")
    (tmp_path / "wrong.yaml").write_text(text.replace("preStop:", "preStopp:"))

    assert validate(tmp_path / "wrong.yaml").returncode != 0


def resources_of(folder: str) -> set[str]:
    """Return the files that a kustomization applies."""
    (kustomization,) = read_all(f"{folder}kustomization.yaml")
    found = set()
    for each in kustomization["resources"]:
        path = (KUBERNETES / folder / each).resolve().relative_to(KUBERNETES)
        found |= {str(path)} if path.suffix else resources_of(f"{path}/")
    return found


def test_every_file_is_applied_but_for_the_example_and_what_needs_an_operator():
    assert {*FILES} - resources_of("") - resources_of("replicas/") == {
        *KUSTOMIZATIONS,
        "secret.example.yaml",
        *(f"shared/{each}" for each in OPTIONAL),
    }
    text = (KUBERNETES / "shared/kustomization.yaml").read_text(encoding="utf-8")
    assert set(re.findall(r"(?m)^  # - (\S+)$", text)) == OPTIONAL
    assert resources_of("") & resources_of("replicas/") == resources_of("shared/")


@pytest.mark.parametrize("folder", ["", "replicas/"])
def test_the_image_is_that_of_this_version(folder):
    (kustomization,) = read_all(f"{folder}kustomization.yaml")
    (image,) = kustomization["images"]

    assert image["name"] == CONTAINER["image"] == REPLICA["image"]
    assert image["newTag"] == __version__


@pytest.mark.slow
def test_kubectl_puts_in_what_is_commented_out(tmp_path):
    needs("kubectl", "version", "--client")
    shutil.copytree(KUBERNETES, tmp_path / "kubernetes")
    file = tmp_path / "kubernetes/shared/kustomization.yaml"
    file.write_text(file.read_text(encoding="utf-8").replace("  # - ", "  - "))
    command = ["kubectl", "kustomize", tmp_path / "kubernetes"]

    found = subprocess.run(command, capture_output=True, text=True, check=True)

    kinds = {each["kind"] for each in yaml.safe_load_all(found.stdout)}
    assert {"Gateway", "HTTPRoute", "Ingress", "PrometheusRule", "ServiceMonitor"} <= kinds


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["", "replicas/"])
def test_kubectl_puts_them_together(folder):
    needs("kubectl", "version", "--client")

    found = subprocess.run(
        ["kubectl", "kustomize", KUBERNETES / folder], capture_output=True, text=True, check=True
    )

    rendered = list(yaml.safe_load_all(found.stdout))
    files = [each for file in resources_of(folder) for each in read_all(file)]
    assert sorted((each["kind"], each["metadata"]["name"]) for each in rendered) == sorted(
        (each["kind"], each["metadata"]["name"]) for each in files
    )
    assert f"registry.example.com/atlas:{__version__}" in found.stdout


def test_the_services_lead_to_the_ports_of_the_pod_and_only_one_of_them_is_public():
    for service in (PUBLIC, OPERATOR):
        assert service["spec"]["selector"].items() <= LABELS.items()
        for port in service["spec"]["ports"]:
            assert PORTS[port["targetPort"]] == port["port"]
    assert [each["name"] for each in PUBLIC["spec"]["ports"]] == ["http"]
    assert [each["name"] for each in OPERATOR["spec"]["ports"]] == ["operator"]
    assert STATEFUL["spec"]["serviceName"] == OPERATOR["metadata"]["name"]
    assert STATEFUL["spec"]["selector"]["matchLabels"] == LABELS


def test_the_monitor_finds_its_service_and_shows_the_token_of_the_secret():
    (endpoint,) = MONITOR["spec"]["endpoints"]
    credentials = endpoint["authorization"]["credentials"]
    wanted = MONITOR["spec"]["selector"]["matchLabels"]

    assert MONITOR["apiVersion"] == "monitoring.coreos.com/v1"
    assert wanted.items() <= OPERATOR["metadata"]["labels"].items()
    assert not wanted.items() <= PUBLIC["metadata"]["labels"].items()
    assert endpoint["port"] in {each["name"] for each in OPERATOR["spec"]["ports"]}
    assert credentials["name"] == SECRET["metadata"]["name"]
    assert credentials["key"] in SECRET["stringData"]
    assert endpoint["path"] == "/metrics"


def test_the_rules_of_the_operator_are_the_alerts():
    """`just alerts` makes them equal."""
    assert RULE["spec"] == ALERTS
    assert (RULE["apiVersion"], RULE["kind"]) == (MONITOR["apiVersion"], "PrometheusRule")


def test_the_alerts_know_its_job():
    assert OPERATOR["metadata"]["labels"][MONITOR["spec"]["jobLabel"]] == "atlas"


def test_the_policy_lets_in_who_leads_phones_here_and_who_measures():
    spec = POLICY["spec"]
    ingress = {each["ports"][0]["port"]: each["from"] for each in spec["ingress"]}

    assert spec["podSelector"]["matchLabels"] == LABELS
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    assert ingress.keys() == PORTS.keys()
    assert all(ingress.values())  # an empty list would allow everyone
    assert all(each["to"] for each in spec["egress"])
    assert {port["port"] for each in spec["egress"] for port in each["ports"]} == {53, 443, 4318}


def namespaces_of(peer):
    """Return the namespaces by name that a peer of a policy matches, and nothing but namespaces."""
    assert peer.keys() == {"namespaceSelector"}
    (wanted,) = peer["namespaceSelector"]["matchExpressions"]
    assert (wanted["key"], wanted["operator"]) == ("kubernetes.io/metadata.name", "In")
    return wanted["values"]


def test_the_policy_lets_traces_out_to_the_collector():
    """Where a collector listens for OTLP over HTTP, which is all that Atlas speaks."""
    otlp = [{"port": 4318, "protocol": "TCP"}]
    (traces,) = [each for each in POLICY["spec"]["egress"] if each["ports"] == otlp]

    assert [*map(namespaces_of, traces["to"])] == [["monitoring", "observability", "opentelemetry"]]


# the way in


def test_the_ways_in_lead_to_the_public_service_only():
    ((rule,), (tls,)) = INGRESS["spec"]["rules"], INGRESS["spec"]["tls"]
    (path,) = rule["http"]["paths"]
    (listener,), (route,) = GATEWAY["spec"]["listeners"], ROUTE["spec"]["rules"]
    (parent,), (backend,) = ROUTE["spec"]["parentRefs"], route["backendRefs"]
    port = PUBLIC["spec"]["ports"][0]

    assert path["backend"]["service"]["name"] == backend["name"] == PUBLIC["metadata"]["name"]
    assert path["backend"]["service"]["port"]["name"] == port["name"]
    assert backend["port"] == port["port"]
    assert [rule["host"]] == tls["hosts"] == ROUTE["spec"]["hostnames"] == [listener["hostname"]]
    assert [tls["secretName"]] == [each["name"] for each in listener["tls"]["certificateRefs"]]
    assert parent == {"name": GATEWAY["metadata"]["name"], "sectionName": listener["name"]}
    assert TRAFFIC["spec"]["targetRefs"][0]["name"] == ROUTE["metadata"]["name"]


def test_a_proxy_of_a_way_in_is_let_in():
    (entry,) = [each for each in POLICY["spec"]["ingress"] if each["ports"] == [{"port": "http"}]]

    assert [*map(namespaces_of, entry["from"])] == [["ingress-nginx", "envoy-gateway-system"]]


def test_the_ingress_is_as_patient_as_nginx_conf():
    prefix = "nginx.ingress.kubernetes.io/"
    ours = {key.removeprefix(prefix): value for key, value in annotations_of(INGRESS).items()}
    text = (CONFIG / "nginx.conf").read_text(encoding="utf-8")
    known = dict(re.findall(r"(?m)^\s*((?:proxy|client)_\w+) (\w+?)s?;", text))
    ours["client-max-body-size"] = ours.pop("proxy-body-size")

    assert len(ours) == 7
    assert ours == {name: known[name.replace("-", "_")] for name in ours}


def annotations_of(manifest):
    return manifest["metadata"]["annotations"]


def test_the_gateway_cuts_no_body_and_keeps_no_connection_that_atlas_closes():
    (route,) = ROUTE["spec"]["rules"]
    kept = TRAFFIC["spec"]["timeout"]["http"]["connectionIdleTimeout"]

    assert route["timeouts"] == {"request": "0s", "backendRequest": "0s"}
    assert seconds(kept) < ConnectionLimits().idle_seconds
    assert "requestBuffer" not in TRAFFIC["spec"]


@pytest.mark.parametrize("which", PODS)
def test_the_pod_may_do_nothing_but_its_work(which):
    pod, (container,) = PODS[which]["securityContext"], PODS[which]["containers"]
    context = container["securityContext"]

    assert pod["runAsNonRoot"]
    assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
    assert context["readOnlyRootFilesystem"]
    assert not context["allowPrivilegeEscalation"]
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert not PODS[which]["automountServiceAccountToken"]
    assert not PODS[which]["enableServiceLinks"]
    mounts = container["volumeMounts"]
    writable = {each["mountPath"] for each in mounts if not each.get("readOnly")}
    assert writable - {"/var/lib/atlas"} == {"/tmp"}
    # a memory-backed volume would count towards the memory limit
    (tmp,) = [each for each in PODS[which]["volumes"] if each["name"] == "tmp"]
    assert tmp["emptyDir"].get("medium") is None


async def fetch_status(flow: Flow, probe: str) -> int:
    get = CONTAINER[probe]["httpGet"]
    assert PORTS[get["port"]] == PORTS["http"]
    return (await flow.send("GET", get["path"], None)).status


@pytest.mark.parametrize("probe", ["startupProbe", "livenessProbe", "readinessProbe"])
async def test_a_probe_asks_what_there_is(probe, tmp_path):
    async with ServiceHarness(tmp_path / "journal").running() as flow:
        assert await fetch_status(flow, probe) == 200


async def test_who_is_draining_is_sent_nobody_and_not_restarted(tmp_path):
    async with ServiceHarness(tmp_path / "journal").running() as flow:
        flow.service.drain()

        assert await fetch_status(flow, "readinessProbe") == 503
        assert await fetch_status(flow, "livenessProbe") == 200


def test_a_damaged_journal_has_minutes_to_start():
    probe = CONTAINER["startupProbe"]

    assert probe["periodSeconds"] * probe["failureThreshold"] >= 300


def test_the_example_cannot_be_taken_for_a_secret():
    example = CONFIG_MAP["data"] | SECRET["stringData"]

    kept = {name for name, value in example.items() if not value.startswith("<")}
    assert kept == {"AUTH0_AUDIENCE"}


# several replicas


def test_a_replica_is_the_pod_of_one_replica_without_its_disk():
    same = ("ports", "securityContext", "resources", "lifecycle", "envFrom", "image")
    probes = ("startupProbe", "livenessProbe", "readinessProbe")

    assert all(REPLICA[name] == CONTAINER[name] for name in (*same, *probes))
    assert REPLICA_POD["terminationGracePeriodSeconds"] == POD["terminationGracePeriodSeconds"]
    assert DEPLOYMENT["spec"]["template"]["metadata"]["labels"] == LABELS
    assert DEPLOYMENT["spec"]["selector"]["matchLabels"] == LABELS
    assert not any("persistentVolumeClaim" in each for each in REPLICA_POD["volumes"])


def test_an_update_and_a_drained_node_leave_a_replica_that_answers():
    (budget,) = read_all("replicas/disruptionbudget.yaml")
    spec = DEPLOYMENT["spec"]
    (spread,) = REPLICA_POD["topologySpreadConstraints"]

    assert spec["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    assert spec["replicas"] > budget["spec"]["minAvailable"] >= 1
    assert budget["spec"]["selector"]["matchLabels"] == LABELS
    assert budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
    assert spread["labelSelector"]["matchLabels"] == LABELS


def test_a_commit_is_on_two_nodes():
    spec = DATABASE["spec"]

    assert (DATABASE["apiVersion"], DATABASE["kind"]) == ("postgresql.cnpg.io/v1", "Cluster")
    assert spec["postgresql"]["synchronous"] == {
        "method": "any",
        "number": 1,
        "dataDurability": "required",
    }
    assert spec["instances"] > 2  # one may be lost without a stop
    assert spec["affinity"]["podAntiAffinityType"] == "required"
    assert spec["bootstrap"]["initdb"]["dataChecksums"]


def test_the_connections_of_a_rolling_update_suffice():
    replicas, surge = DEPLOYMENT["spec"]["replicas"], 1
    available = int(DATABASE["spec"]["postgresql"]["parameters"]["max_connections"])

    assert CONNECTIONS * (replicas + surge) <= available - 10


def test_the_replicas_find_the_database_and_check_its_certificate():
    environ = {each["name"]: each for each in REPLICA["env"]}
    password = environ["JOURNAL_PASSWORD"]["valueFrom"]["secretKeyRef"]
    names = [each["name"] for each in REPLICA["env"]]
    url = environ["ATLAS_JOURNAL"]["value"].replace("$(JOURNAL_PASSWORD)", "a")
    parts = urlsplit(url)
    cluster, initdb = DATABASE["metadata"]["name"], DATABASE["spec"]["bootstrap"]["initdb"]
    volumes = {each["name"]: each for each in REPLICA_POD["volumes"]}
    mounts = {each["mountPath"]: volumes[each["name"]] for each in REPLICA["volumeMounts"]}
    file = Path(parse_qs(parts.query)["sslrootcert"][0])

    assert password == {"name": f"{cluster}-app", "key": "password"}
    assert names.index("JOURNAL_PASSWORD") < names.index("ATLAS_JOURNAL")  # else it is not replaced
    assert parts.hostname == f"{cluster}-rw"
    assert (parts.username, parts.path) == (initdb["owner"], f"/{initdb['database']}")
    assert parse_qs(parts.query)["sslmode"] == ["verify-full"]
    secret = mounts[str(file.parent)]["secret"]
    assert secret["secretName"] == f"{cluster}-ca"
    assert secret["items"] == [{"key": "ca.crt", "path": file.name}]  # and not the key


def test_the_database_is_asked_by_the_replicas_and_its_operator_only():
    database = {"cnpg.io/cluster": DATABASE["metadata"]["name"]}
    (egress,) = TO_DATABASE["spec"]["egress"]
    asking, operating = AT_DATABASE["spec"]["ingress"]

    assert TO_DATABASE["spec"]["podSelector"]["matchLabels"] == LABELS
    assert egress["to"] == [{"podSelector": {"matchLabels": database}}]
    assert [each["port"] for each in egress["ports"]] == [5432]
    assert AT_DATABASE["spec"]["podSelector"]["matchLabels"] == database
    assert {"podSelector": {"matchLabels": LABELS}} in asking["from"]
    assert all(asking["from"])
    assert all(operating["from"])
