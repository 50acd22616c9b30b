"""`python -m tests.ship.image_python [ARGUMENT]...`: run tests with the Python of the image.

The Python of this machine may be older, so the tests run in a container of the same Debian release
as the image; tests that need a browser, strace or podman are skipped there. Arguments go to pytest;
the default is all quick tests. Exits with 77 if no container can be built or run.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from tests.ship import image
from tests.ship.image import CERTIFICATES, HERE, PACKAGES, ROOT, Failed

BASE = "localhost/atlas-tests-base:trixie"
NAME = "localhost/atlas-tests:trixie"
# git for the release tests; libstdc++ for pyarrow and greenlet
NEEDED = f"{PACKAGES},git,libstdc++6"
QUICK = ["-q", "-n", "auto", "-m", "not slow"]
CANNOT = 77

RECIPE = f"""
FROM {BASE}
WORKDIR /atlas
COPY config/requirements-dev.txt config/
RUN python3 -m venv /opt/tests && /opt/tests/bin/python -m pip install --quiet --no-cache-dir \\
    --require-hashes -r config/requirements-dev.txt
COPY pyproject.toml README.md LICENSE ./
COPY atlas atlas
RUN /opt/tests/bin/python -m pip install --quiet --no-cache-dir --no-deps --editable .
COPY . .
ENV PATH=/opt/tests/bin:$PATH
"""
NOT_COPIED = ".git\n.venv\n.*_cache\n.hypothesis\n**/__pycache__\n**/var\n"


def build_test_image() -> None:
    """Build the image with all dependencies of the tests. Raises Failed."""
    image.build_debian_base(BASE, NEEDED)
    with tempfile.TemporaryDirectory(prefix="atlas-tests-") as folder:
        recipe, ignored = Path(folder) / "Containerfile", Path(folder) / "ignored"
        recipe.write_text(RECIPE, encoding="ascii")
        ignored.write_text(NOT_COPIED, encoding="ascii")
        trusted = f"{CERTIFICATES}:{CERTIFICATES}:ro"
        how = ["--isolation", "chroot", "--pull=never", "--quiet", "--volume", trusted]
        which = ["--file", str(recipe), "--ignorefile", str(ignored), "--tag", NAME]
        image.podman("build", *how, *which, str(ROOT))


def run_tests(arguments: list[str]) -> int:
    """Run pytest in the container, and return its exit code."""
    trusted = ["--volume", f"{CERTIFICATES}:{CERTIFICATES}:ro"]
    trusted += ["--env", f"SSL_CERT_FILE={CERTIFICATES}/ca-certificates.crt"]
    prefix = ["podman", *image.podman_options(), "run", "--rm", *HERE, *trusted, NAME]
    command = [*prefix, "pytest", *arguments]
    return subprocess.run(command, check=False).returncode


def main(arguments: list[str]) -> int:
    try:
        build_test_image()
        image.run("podman", *image.podman_options(), "run", "--rm", *HERE, NAME, "true")
    except Failed as failed:
        print(f"No tests with the Python of the image: {failed}", file=sys.stderr)
        return CANNOT
    return run_tests(arguments or QUICK)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
