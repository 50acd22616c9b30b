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
# a setting of SQLite (for VACUUM), and a build argument that Render takes from the environment
NOT_OURS = {"SQLITE_TMPDIR", "RUN_AS"}

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
COMPOSE = read("compose.yaml")
OURS = COMPOSE["services"]["atlas"]
STATEFUL = read_all("statefulset.yaml")[0]
POD = STATEFUL["spec"]["template"]["spec"]
CONTAINER = POD["containers"][0]
UNIT = Unit((CONFIG / "systemd" / "atlas.service").read_text(encoding="utf-8"))
EXAMPLE = assignments((CONFIG / "atlas.env.example").read_text(encoding="utf-8"))

ENVIRONMENTS: dict[str, dict[str, str]] = {
    "render": {each["key"]: each.get("value", "") for each in RENDER["envVars"]},
    "compose": EXAMPLE | OURS["environment"],
    "kubernetes": read_all("secret.example.yaml")[0]["stringData"]
    | {each["name"]: each["value"] for each in CONTAINER["env"]},
    "systemd": EXAMPLE | assignments("\n".join(UNIT.all("Service", "Environment"))),
}


def mebibytes(size: str) -> int:
    """Parse a size: 384m (Compose), 384Mi (Kubernetes) and 384M (systemd) are the same."""
    (number,) = re.findall(r"^([0-9]+)(?:m|Mi|M)$", size)
    return int(number)


def seconds(span: str) -> int:
    (number,) = re.findall(r"^([0-9]+)s?$", str(span))
    return int(number)
