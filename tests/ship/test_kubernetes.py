"""The Kubernetes manifests are valid and refer to each other correctly."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from atlas import __version__
from tests.conftest import Flow, ServiceHarness
from tests.ship.files import CONTAINER, KUBERNETES, POD, STATEFUL, read_all

FILES = sorted(each.name for each in KUBERNETES.glob("*.yaml"))
# their schemas are not in the package
UNCHECKED_FILES = {"kustomization.yaml", "servicemonitor.yaml"}
LABELS = STATEFUL["spec"]["template"]["metadata"]["labels"]
PUBLIC, OPERATOR = read_all("services.yaml")
(POLICY,) = read_all("networkpolicy.yaml")
(SECRET,) = read_all("secret.example.yaml")
(MONITOR,) = read_all("servicemonitor.yaml")
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


def test_every_file_is_applied_but_for_the_example_and_what_needs_an_operator():
    (kustomization,) = read_all("kustomization.yaml")
    (image,) = kustomization["images"]

    assert {*FILES} - {*kustomization["resources"]} == {
        "kustomization.yaml",
        "secret.example.yaml",
        "servicemonitor.yaml",
    }
    assert "# - servicemonitor.yaml" in (KUBERNETES / "kustomization.yaml").read_text()
    assert image["name"] == CONTAINER["image"]
    assert image["newTag"] == __version__


@pytest.mark.parametrize("name", [each for each in FILES if each != "kustomization.yaml"])
def test_all_of_it_is_in_one_namespace(name):
    for each in read_all(name):
        of = each["metadata"].get("namespace", each["metadata"]["name"])
        assert of == "atlas"


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
    assert {port["port"] for each in spec["egress"] for port in each["ports"]} == {53, 443}


def test_the_pod_may_do_nothing_but_its_work():
    context, pod = CONTAINER["securityContext"], POD["securityContext"]

    assert pod["runAsNonRoot"]
    assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
    assert context["readOnlyRootFilesystem"]
    assert not context["allowPrivilegeEscalation"]
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert not POD["automountServiceAccountToken"]
    assert not POD["enableServiceLinks"]
    assert {each["mountPath"] for each in CONTAINER["volumeMounts"]} == {"/var/lib/atlas", "/tmp"}
    # a memory-backed volume would count towards the memory limit
    assert POD["volumes"][0]["emptyDir"].get("medium") is None


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
    text = (KUBERNETES / "secret.example.yaml").read_text(encoding="utf-8")
    (secret,) = yaml.safe_load_all(text)

    kept = {name for name, value in secret["stringData"].items() if not value.startswith("<")}
    assert kept == {"AUTH0_AUDIENCE"}
