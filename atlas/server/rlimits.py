"""Resource limits of this process: many descriptors, and no core dumps."""

import resource
import sys

DESCRIPTORS_MAX = 65_536
# a limit of 0 does not keep Linux from piping a core to a program; it refuses one of 1 (core(5))
CORE_BYTES_MAX = 1 if sys.platform == "linux" else 0


def raise_nofile_limit() -> int:
    """Raise the soft limit as far as an ordinary user may, and return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS_MAX if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS_MAX)
    if soft != resource.RLIM_INFINITY and soft >= wanted:
        return soft
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted


def disable_core_dumps() -> None:
    """Keep crashes from writing memory to a disk. Workers inherit this."""
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    most = CORE_BYTES_MAX if hard == resource.RLIM_INFINITY else min(hard, CORE_BYTES_MAX)
    resource.setrlimit(resource.RLIMIT_CORE, (most, most))
