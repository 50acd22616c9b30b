"""The image, built from the Containerfile upon a base from a registry, or one of Debian packages.

What the machine trusts, the build trusts, so that it works behind a proxy with a CA of its own.
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
OF_DEBIAN = "localhost/atlas-base:trixie"  # what `debian` stands for; no name of anybody else's
SUITE = "trixie"  # has Python 3.13
PACKAGES = "python3,python3-venv,python3-pip,passwd,ca-certificates,tzdata"
CERTIFICATES = "/etc/ssl/certs"
NAME = "localhost/atlas"
# All that it may do, as config/compose.yaml and config/kubernetes have it. Its ports are those of
# the host, because the stand-ins listen on loopback only. The limits are what every machine allows.
CAGE = ["--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--security-opt=no-new-privileges"]
HERE = ["--network=host", "--pull=never", "--no-healthcheck"]
HERE += ["--ulimit=nofile=4096:4096", "--ulimit=nproc=4096:4096"]


class Failed(Exception):
    """A step cannot be done; the message is the last that was said of it."""


@dataclass(frozen=True, slots=True)
class Image:
    """One that was built, and how many bytes it and its base have."""

    name: str
    base: str
    bytes: int
    base_bytes: int
    labels: dict[str, str]


def version() -> str:
    """That of the project."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    return str(tomllib.loads(text)["project"]["version"])


def built(base: str = BASE, extras: Sequence[str] = (), name: str = NAME) -> Image:
    """Build it as `name:version`. Raises Failed."""
    tag = f"{name}:{'-'.join([version(), *extras])}"
    found, digest = base_of_debian() if base == "debian" else pulled(base)
    arguments = {
        "BASE": found,
        "BASE_DIGEST": digest,
        "EXTRAS": " ".join(extras),
        "VERSION": version(),
        "REVISION": revision(),
    }
    said = [word for key, value in arguments.items() for word in ("--build-arg", f"{key}={value}")]
    trusted = ["--volume", f"{CERTIFICATES}:{CERTIFICATES}:ro"]
    # chroot: nothing but a folder is needed of the machine. docker: OCI's format has no HEALTHCHECK
    how = ["--isolation", "chroot", "--format", "docker", "--pull=never", "--quiet"]
    podman("build", *how, *trusted, *said, "--tag", tag, str(ROOT))
    # what had this tag before has none now, and nobody would ever look for it
    podman("image", "prune", "--force", "--filter", "label=org.opencontainers.image.title=Atlas")
    return Image(tag, found, size(tag), size(found), labels(tag))


def pulled(base: str) -> tuple[str, str]:
    """The base by its digest, so that it is known what was built on."""
    try:
        podman("pull", "--quiet", base)
    except Failed as failed:
        raise Failed(f"{failed} Without a registry: --base debian") from failed
    digest = podman("image", "inspect", "--format", "{{.Digest}}", base)
    name = base.partition("@")[0]
    path, _, tag = name.rpartition(":")
    return f"{path if path and '/' not in tag else name}@{digest}", digest


def base_of_debian(name: str = OF_DEBIAN, packages: str = PACKAGES) -> tuple[str, str]:
    """A base made of Debian's packages; of one that is here, that."""
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
    base, _ = base_of_debian()
    run(*caged(base, "true"))


def caged(*more: str) -> list[str]:
    """The command that runs a container here; behind it options, the image, and what it is told."""
    return ["podman", *local(), "run", "--rm", *HERE, *CAGE, *more]


def revision() -> str:
    """The commit; with a plus when something else than that is built. "" where git is not."""
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
    return run("podman", *local(), *words)


def local() -> list[str]:
    """What it has to be told where no systemd is, as in another container."""
    if Path("/run/systemd/system").exists():
        return []
    runtime = ["--runtime", "runc"] if shutil.which("runc") else []
    return ["--cgroup-manager", "cgroupfs", *runtime]


def run(*command: str) -> str:
    """What it says. Raises Failed."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise Failed(f"{command[0]} cannot be run: {error.strerror}.") from error
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        said = lines[-1] if lines else f"it ended with {done.returncode}"
        raise Failed(f"{' '.join(command[:6])} …: {said}")
    return done.stdout.strip()
