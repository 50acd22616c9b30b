"""What the system allows this process: descriptors, and no picture of its memory on a disk."""

import resource
import sys

DESCRIPTORS_MAX = 65_536
# a limit of 0 does not keep Linux from piping a core to a program; it refuses one of 1 (core(5))
CORE_BYTES_MAX = 1 if sys.platform == "linux" else 0


def raise_descriptors() -> int:
    """As many as may be had without asking anybody. Returns how many that is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS_MAX if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS_MAX)
    if soft != resource.RLIM_INFINITY and soft >= wanted:
        return soft
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted


def leave_no_core() -> None:
    """A crash of this process and of its workers, which inherit it, writes nobody's data down."""
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    most = CORE_BYTES_MAX if hard == resource.RLIM_INFINITY else min(hard, CORE_BYTES_MAX)
    resource.setrlimit(resource.RLIMIT_CORE, (most, most))
