"""Builds the image from the Containerfile on a base from a registry or of Debian packages.

The build trusts the certificates of this machine, so that it works behind a proxy with its own CA.
"""

import json
import shutil
import subprocess
import tempfile
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
BASE = "docker.io/library/python:3.13-slim"
DEBIAN_BASE = "localhost/atlas-base:trixie"  # the base that `debian` selects; a purely local name
SUITE = "trixie"  # the release with Python 3.13
PACKAGES = "python3,python3-venv,python3-pip,passwd,ca-certificates,tzdata"
CERTIFICATES = "/etc/ssl/certs"
NAME = "localhost/atlas"
# The restrictions of config/compose.yaml and config/kubernetes. It uses the network of the host,
# because the emulators listen on loopback only. The ulimits are low enough for every machine.
CAGE = ["--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--security-opt=no-new-privileges"]
HERE = ["--network=host", "--pull=never", "--no-healthcheck"]
HERE += ["--ulimit=nofile=4096:4096", "--ulimit=nproc=4096:4096"]


class Failed(Exception):
    """A command failed; the message ends with the last line of its stderr."""


@dataclass(frozen=True, slots=True)
class Image:
    """An image with its size and that of its base, in bytes."""

    name: str
    base: str
    bytes: int
    base_bytes: int
    labels: dict[str, str]


def version() -> str:
    """Return the version in pyproject.toml."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    return str(tomllib.loads(text)["project"]["version"])


def build_image(base: str = BASE, extras: Sequence[str] = (), name: str = NAME) -> Image:
    """Build it as `name:version`. Raises Failed."""
    tag = f"{name}:{'-'.join([version(), *extras])}"
    found, digest = build_debian_base() if base == "debian" else pull_base(base)
    arguments = {
        "BASE": found,
        "BASE_DIGEST": digest,
        "EXTRAS": " ".join(extras),
        "VERSION": version(),
        "REVISION": revision(),
    }
    build_arguments = [
        word for key, value in arguments.items() for word in ("--build-arg", f"{key}={value}")
    ]
    certificates = ["--volume", f"{CERTIFICATES}:{CERTIFICATES}:ro"]
    # chroot needs nothing of the machine but a folder; the OCI format has no HEALTHCHECK
    how = ["--isolation", "chroot", "--format", "docker", "--pull=never", "--quiet"]
    podman("build", *how, *certificates, *build_arguments, "--tag", tag, str(ROOT))
    # the image that had this tag before is now untagged
    podman("image", "prune", "--force", "--filter", "label=org.opencontainers.image.title=Atlas")
    return Image(tag, found, size(tag), size(found), labels(tag))


def pull_base(base: str) -> tuple[str, str]:
    """Pull the base; return its name pinned by digest, and the digest."""
    try:
        podman("pull", "--quiet", base)
    except Failed as failed:
        raise Failed(f"{failed} Without a registry: --base debian") from failed
    digest = podman("image", "inspect", "--format", "{{.Digest}}", base)
    name = base.partition("@")[0]
    path, _, tag = name.rpartition(":")
    return f"{path if path and '/' not in tag else name}@{digest}", digest


def build_debian_base(name: str = DEBIAN_BASE, packages: str = PACKAGES) -> tuple[str, str]:
    """Return the name and digest of a base of Debian packages, building it if it is missing."""
    try:
        podman("image", "exists", name)
    except Failed:
        with tempfile.TemporaryDirectory(prefix="atlas-base-") as folder:
            tree = f"{folder}/base.tar"
            again = '--aptopt=Acquire::Retries "5"'
            run("mmdebstrap", "--variant=essential", f"--include={packages}", again, SUITE, tree)
            podman("import", "--quiet", tree, name)
    return name, podman("image", "inspect", "--format", "{{.Digest}}", name)


def try_out() -> None:
    """Raises Failed where no container can run, whatever is in it."""
    base, _ = build_debian_base()
    run(*caged(base, "true"))


def caged(*more: str) -> list[str]:
    """Return a podman command with all restrictions; `more` is options, image and arguments."""
    return ["podman", *podman_options(), "run", "--rm", *HERE, *CAGE, *more]


def revision() -> str:
    """Return the commit, with a plus if the work tree differs from it; "" without git."""
    try:
        commit = run("git", "-C", str(ROOT), "rev-parse", "HEAD")
        changed = run("git", "-C", str(ROOT), "status", "--porcelain")
    except Failed:
        return ""
    return f"{commit}+" if changed else commit


def size(name: str) -> int:
    return int(podman("image", "inspect", "--format", "{{.Size}}", name))


def labels(name: str) -> dict[str, str]:
    return dict(json.loads(podman("image", "inspect", "--format", "{{json .Labels}}", name)))


def podman(*words: str) -> str:
    return run("podman", *podman_options(), *words)


def podman_options() -> list[str]:
    """Return the options that podman needs without systemd, as in another container."""
    if Path("/run/systemd/system").exists():
        return []
    runtime = ["--runtime", "runc"] if shutil.which("runc") else []
    return ["--cgroup-manager", "cgroupfs", *runtime]


def run(*command: str) -> str:
    """Run a command and return its output. Raises Failed."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise Failed(f"{command[0]} cannot be run: {error.strerror}.") from error
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        said = lines[-1] if lines else f"it ended with {done.returncode}"
        raise Failed(f"{' '.join(command[:6])} …: {said}")
    return done.stdout.strip()
