"""`python -m tests.ship.versions lowest|latest [ARGUMENT]...`: the tests with other versions.

`lowest` installs the lowest version that pyproject.toml allows of each package that it names;
`latest` installs the newest that the registry has. Both go to an environment of their own,
var/versions. Arguments go to pytest; without any, it runs the quick tests. Exits with 77 if uv
cannot be run, or does not reach the registry.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.ship.image import ROOT

CANNOT = 77
QUICK = ["-q", "-n", "auto", "-m", "not slow"]
RESOLUTIONS = {"lowest": "lowest-direct", "latest": "highest"}


def find_uv() -> str | None:
    """Return uv of this environment or of the PATH, if it can be run."""
    beside = Path(sys.executable).with_name("uv")
    found = str(beside) if beside.exists() else shutil.which("uv")
    if found and subprocess.run([found, "--version"], capture_output=True, check=False).returncode:
        return None
    return found


def reaches_registry(uv: str) -> bool:
    """Return True if uv finds any version of a package without conditions."""
    probe = [uv, "pip", "install", "-q", "--dry-run", "--reinstall", "--python", sys.executable]
    return subprocess.run([*probe, "packaging"], capture_output=True, check=False).returncode == 0


def install(uv: str, which: str) -> Path:
    """Make the environment with Atlas and all its extras, and return its folder of commands."""
    folder = ROOT / "var" / "versions" / which
    subprocess.run([uv, "venv", "-q", "--clear", "--python", sys.executable, folder], check=True)
    python = folder / "bin" / "python"
    resolution = ["--upgrade", "--resolution", RESOLUTIONS[which]]
    packages = ["--editable", f"{ROOT}[dev,otel,parquet,postgres]"]
    subprocess.run(
        [uv, "pip", "install", "-q", "--python", python, *resolution, *packages], check=True
    )
    return folder / "bin"


def main(which: str, *arguments: str) -> int:
    uv = find_uv()
    if uv is None or not reaches_registry(uv):
        reason = "uv cannot be run here" if uv is None else "uv does not reach the registry"
        print(f"No tests with the {which} versions: {reason}.", file=sys.stderr)
        return CANNOT
    try:
        commands = install(uv, which)
    except subprocess.CalledProcessError as failed:
        print(f"The {which} versions cannot be installed: {failed}", file=sys.stderr)
        return 1
    environ = os.environ | {"PATH": f"{commands}:{os.environ['PATH']}"}
    command = [commands / "python", "-m", "pytest", *(arguments or QUICK)]
    return subprocess.run(command, cwd=ROOT, env=environ, check=False).returncode


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in RESOLUTIONS:
        sys.exit(f"usage: python -m tests.ship.versions {'|'.join(RESOLUTIONS)} [ARGUMENT]...")
    sys.exit(main(*sys.argv[1:]))
