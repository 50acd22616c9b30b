"""The SBOM of an image in CycloneDX 1.6: its Python distributions and Debian packages."""

import json
from typing import Any

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from tests.ship.container import run_inside
from tests.ship.image import Image, podman

# Runs inside the image. A base that is not Debian has no dpkg status file.
LOOK = """
import json, pathlib, platform
from importlib.metadata import distributions

def fields(package):
    return dict(line.split(": ", 1) for line in package.splitlines() if line[0] > " ")

status = pathlib.Path("/var/lib/dpkg/status")
packages = status.read_text().strip().split("\\n\\n") if status.exists() else []
python = [[one.name, one.version, one.metadata["License-Expression"]] for one in distributions()]
debian = [fields(package.replace(":\\n", ": \\n")) for package in packages]
print(json.dumps({"interpreter": platform.python_version(), "python": python, "debian": debian}))
"""


def render_sbom(image: Image) -> str:
    """Return the SBOM as JSON."""
    found = json.loads(run_inside(image, "python", "-c", LOOK))
    bom = Bom()
    digest = podman("image", "inspect", "--format={{.Id}}", image.name)
    bom.metadata.component = root = Component(
        type=ComponentType.CONTAINER,
        name=image.name.partition(":")[0],
        version=image.labels["org.opencontainers.image.version"],
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digest.removeprefix("sha256:"))],
    )
    parts = [describe_interpreter(found["interpreter"])]
    parts += [describe_distribution(*each) for each in found["python"]]
    parts += [describe_package(each) for each in found["debian"]]
    for part in parts:
        bom.components.add(part)
    bom.register_dependency(root, parts)
    return str(JsonV1Dot6(bom).output_as_string(indent=2))


def describe_interpreter(version: str) -> Component:
    """Describe the interpreter, which the official images compile themselves."""
    purl = PackageURL("generic", None, "python", version)
    return Component(name="python", version=version, purl=purl, bom_ref=str(purl))


def describe_distribution(name: str, version: str, license: str | None) -> Component:
    known = [LicenseFactory().make_from_string(license)] if license else []
    purl = PackageURL("pypi", None, name.lower().replace("_", "-"), version)
    return Component(name=name, version=version, purl=purl, bom_ref=str(purl), licenses=known)


def describe_package(package: dict[str, Any]) -> Component:
    name, version, arch = package["Package"], package["Version"], package["Architecture"]
    purl = PackageURL("deb", "debian", name, version, {"arch": arch})
    return Component(name=name, version=version, purl=purl, bom_ref=str(purl))
