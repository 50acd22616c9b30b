"""Sets the resource limits of this process: many file descriptors, no core dumps."""

import resource
import sys

DESCRIPTORS_MAX = 65_536
# with a limit of 0, Linux may still pipe a core dump to a program; with 1 it does not (core(5))
CORE_BYTES_MAX = 1 if sys.platform == "linux" else 0


def raise_nofile_limit() -> int:
    """Raise the soft limit of open files as far as an unprivileged user may, and return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = cap(hard, DESCRIPTORS_MAX)
    if soft != resource.RLIM_INFINITY and soft >= limit:
        return soft
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    return limit


def disable_core_dumps() -> None:
    """Prevent crashes from writing memory to disk. Worker processes inherit this."""
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    limit = cap(hard, CORE_BYTES_MAX)
    resource.setrlimit(resource.RLIMIT_CORE, (limit, limit))


def cap(hard: int, limit: int) -> int:
    return limit if hard == resource.RLIM_INFINITY else min(hard, limit)
