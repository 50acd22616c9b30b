"""The deployment files, parsed, for tests that compare them with the code."""

import re
from pathlib import Path
from typing import Any, get_type_hints

import yaml

from atlas.server.http.listener import GRACE_SECONDS
from atlas.settings import FoundrySettings

ROOT = Path(__file__).parent.parent.parent
CONFIG = ROOT / "config"
KUBERNETES = CONFIG / "kubernetes"
HOME = "/var/lib/atlas"
# a setting of SQLite (for VACUUM), a build argument that Render takes from the environment, and a
# part of ATLAS_JOURNAL
NOT_OURS = {"SQLITE_TMPDIR", "RUN_AS", "JOURNAL_PASSWORD"}

CONNECTIONS = 5  # to the database, of a replica: four for statements, one that listens

# time for open requests, then for the open group; the journal and workers need little more
DRAIN_SECONDS_MAX: float = (
    GRACE_SECONDS
    + get_type_hints(FoundrySettings, include_extras=True)["drain_seconds"].__metadata__[0].le
)


def read(path: str) -> Any:
    return yaml.safe_load((CONFIG / path).read_text(encoding="utf-8"))


def read_all(path: str) -> list[dict[str, Any]]:
    """Return all documents of a Kubernetes file."""
    return list(yaml.safe_load_all((KUBERNETES / path).read_text(encoding="utf-8")))


def assignments(text: str) -> dict[str, str]:
    """Parse NAME=value lines as Compose and systemd do."""
    return dict(re.findall(r"(?m)^([A-Za-z_]\w*)=(.*)$", text))


class Unit:
    """A systemd unit file, in which a key may occur several times."""

    def __init__(self, text: str) -> None:
        self._lines: dict[str, list[tuple[str, str]]] = {}
        section = ""
        for line in text.splitlines():
            key, is_one, value = line.partition("=")
            if line.startswith("["):
                section = line.strip("[]")
            elif is_one and not line.startswith("#"):
                self._lines.setdefault(section, []).append((key, value))

    def all(self, section: str, key: str) -> list[str]:
        return [value for name, value in self._lines[section] if name == key]

    def one(self, section: str, key: str) -> str:
        (value,) = self.all(section, key)
        return value


RENDER = read("render.yaml")["services"][0]
RENDER_REPLICAS = read("render-replicas.yaml")
COMPOSE = read("compose.yaml")
OURS = COMPOSE["services"]["atlas"]
COMPOSE_REPLICAS = read("compose-replicas.yaml")["services"]
REPLICAS = [COMPOSE_REPLICAS["replica-1"], COMPOSE_REPLICAS["replica-2"]]
STATEFUL = read_all("statefulset.yaml")[0]
DEPLOYMENT = read_all("replicas/deployment.yaml")[0]
PODS = {
    "one replica": STATEFUL["spec"]["template"]["spec"],
    "several replicas": DEPLOYMENT["spec"]["template"]["spec"],
}
POD, REPLICA_POD = PODS.values()
CONTAINER, REPLICA = POD["containers"][0], REPLICA_POD["containers"][0]
UNIT = Unit((CONFIG / "systemd" / "atlas.service").read_text(encoding="utf-8"))
EXAMPLE = assignments((CONFIG / "atlas.env.example").read_text(encoding="utf-8"))
CONFIG_MAP, SECRET = (each for each in read_all("secret.example.yaml"))
SECRET_FILES = ["foundry-client-secret", "journal-key", "operator-token"]

ENVIRONMENTS: dict[str, dict[str, str]] = {
    "render": {each["key"]: each.get("value", "") for each in RENDER["envVars"]},
    "compose": EXAMPLE | OURS["environment"],
    "kubernetes": CONFIG_MAP["data"] | {each["name"]: each["value"] for each in CONTAINER["env"]},
    "systemd": EXAMPLE | assignments("\n".join(UNIT.all("Service", "Environment"))),
}
# with a journal in PostgreSQL
SHARED_ENVIRONMENTS: dict[str, dict[str, str]] = {
    "render-replicas": {
        each["key"]: each.get("value", "") for each in RENDER_REPLICAS["services"][0]["envVars"]
    },
    "compose-replicas": EXAMPLE | REPLICAS[0]["environment"],
    "kubernetes-replicas": CONFIG_MAP["data"]
    | {each["name"]: each.get("value", "") for each in REPLICA["env"]},
}


def mebibytes(size: str) -> int:
    """Parse a size: 384m (Compose), 384Mi (Kubernetes) and 384M (systemd) are the same."""
    (number,) = re.findall(r"^([0-9]+)(?:m|Mi|M)$", size)
    return int(number)


def seconds(span: str) -> int:
    (number,) = re.findall(r"^([0-9]+)s?$", str(span))
    return int(number)
