"""Names the command that installs an extra of Atlas. Atlas is on no package index."""

import shlex
import sys
from pathlib import Path

ALWAYS_IN_IMAGE = {"postgres"}


def describe_missing_extra(what: str, package: str, extra: str) -> str:
    """Return the message that a package of an extra is not installed, and how to get it."""
    pip = shlex.quote(str(Path(sys.executable).with_name("pip")))
    image = "contains it" if extra in ALWAYS_IN_IMAGE else f"needs --build-arg EXTRAS={extra}"
    return (
        f"{what} needs {package}. In a clone: "
        f"{pip} install --require-hashes -r config/requirements-{extra}.txt; the image {image}."
    )
